"""Looks whether this machine has what the build needs, before anything is installed, and says what is missing.

Runs with the Python that is to make the virtual environment, which may be too old: only old syntax here.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig

DEBIAN = "Debian/Ubuntu: apt-get install {}; macOS: xcode-select --install"


def compiler_missing(variable: str, candidates: list[str]) -> bool:
    """Whether neither the command in ``variable`` (a launcher, flags and all) nor a candidate can be run."""
    words = os.environ.get(variable, "").split()
    return not any(shutil.which(name) for name in (words or candidates))


def missing() -> list[str]:
    """One line for each thing that is not there, with what to do about it."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < (3, 11):  # noqa: UP036 - this is where too old a Python is told so
        return [f"Python 3.11 or newer is needed, {sys.executable} is {found}: make PYTHON=/path/to/python3.12 ..."]
    lines = []
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        lines.append(f"Python's venv module is missing. {DEBIAN.format('python3-venv')}")
    if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):  # noqa: PTH110, PTH118
        lines.append(f"Python's C headers (Python.h) are missing. {DEBIAN.format('python3-dev')}")
    if compiler_missing("CC", ["cc", "gcc", "clang"]):
        lines.append(f"no C compiler (CC, cc, gcc, clang) was found. {DEBIAN.format('build-essential')}")
    if compiler_missing("CXX", ["c++", "g++", "clang++"]):
        lines.append(f"no C++ compiler (CXX, c++, g++, clang++) was found. {DEBIAN.format('build-essential')}")
    return lines


def main() -> int:
    """Prints what is missing; the exit status says whether anything is."""
    lines = missing()
    for line in lines:
        print(f"cannot build janflask here: {line}", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
