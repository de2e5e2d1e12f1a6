"""A process of its own in which llama.cpp lacks a function, or has another one of its own in its place."""

from __future__ import annotations

import subprocess
import sys

LIBRARY = """
import sys
from llama_cpp import llama_cpp

class Library:
    def __getattr__(self, name):
        _, other, instead = sys.argv
        if name != other:
            return getattr(whole, name)
        if not instead:
            raise AttributeError(name)
        return getattr(whole, instead)

    def __getitem__(self, name):
        return getattr(self, name)

whole, llama_cpp._lib = llama_cpp._lib, Library()
"""


def printed(code: str, other: str, instead: str = "") -> str:
    """What ``code`` prints where the function ``other`` is missing, or is ``instead``."""
    command = [sys.executable, "-c", LIBRARY + code, other, instead]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
