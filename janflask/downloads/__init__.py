"""Fetching models: ``safety`` opens public URLs, ``fetch`` gets one file, ``gguf_header`` reads and checks it."""
