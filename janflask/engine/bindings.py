"""llama.cpp's bindings alone, without the Python library that their package imports along.

``llama_cpp/__init__.py`` brings Jinja, SQLite and multiprocessing with it, which an engine has no use for: a sixth of
its imports' time, and memory for good.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from pathlib import Path

PACKAGE = "llama_cpp"
_VERSION = re.compile(r'^__version__ = "([^"]+)"', re.MULTILINE)


def load() -> None:
    """``llama_cpp`` becomes a package that holds its ``llama_cpp`` and its version; nothing, where it was imported.

    For an engine process: nothing else can be imported from the package afterwards. Raises what the import raises.
    """
    if PACKAGE in sys.modules:
        return
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {PACKAGE!r}", name=PACKAGE)
    found = _VERSION.search(Path(spec.origin).read_text(encoding="utf-8"))
    if found is None:  # an import that knows it says what is wrong with it
        importlib.import_module(PACKAGE)
        return
    package = importlib.util.module_from_spec(spec)
    package.__version__ = found[1]  # type: ignore[attr-defined]
    sys.modules[PACKAGE] = package
    try:
        importlib.import_module(f"{PACKAGE}.{PACKAGE}")
    except BaseException:
        del sys.modules[PACKAGE]
        raise
