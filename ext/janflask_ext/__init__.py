"""The hot path in Cython: llama.cpp through function pointers, sampling, streaming text."""
