"""Fetching models: ``manager`` has all downloads, ``download`` is one, ``fetch`` gets a file, ``safety`` opens URLs."""
