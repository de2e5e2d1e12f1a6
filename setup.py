"""Builds the Cython extension; everything else is in pyproject.toml.

``JANFLASK_CYTHON_DEBUG=1`` turns bounds, wraparound and None checks back on in every module.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

PACKAGE = Path("ext/janflask_ext")
DEBUG = os.environ.get("JANFLASK_CYTHON_DEBUG") == "1"

# No -march: a wheel must run on any machine of its architecture; the kernels choose their fast path at run time.
# No contraction: passes that must agree on an element's bucket would otherwise round it differently.
COMPILE_ARGS = [] if sys.platform == "win32" else ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"]

DIRECTIVES = {
    "language_level": "3",
    "boundscheck": DEBUG,
    "wraparound": DEBUG,
    "nonecheck": DEBUG,
    "initializedcheck": DEBUG,
    "cdivision": not DEBUG,
    "embedsignature": True,
}


def extension(source: Path) -> Extension:
    """A ``.pyx`` and, where there is one, the plain C file of the same name with ``_kernels`` behind it."""
    sources = [str(source)]
    kernels = source.with_name(source.stem + "_kernels.c")
    if kernels.exists():
        sources.append(str(kernels))
    return Extension(
        f"janflask_ext.{source.stem}",
        sources,
        include_dirs=[str(PACKAGE)],
        extra_compile_args=COMPILE_ARGS,
        depends=[str(path) for path in sorted(PACKAGE.glob("*.h"))],
    )


setup(
    ext_modules=cythonize(
        [extension(path) for path in sorted(PACKAGE.glob("*.pyx"))],
        include_path=["ext"],
        compiler_directives=DIRECTIVES,
    )
)
