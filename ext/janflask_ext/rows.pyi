"""Rows computed to the same bits alone and among others; the module's own docstring in ``rows.pyx`` says how."""

AS_IT_IS: int
FEW_ALIKE: int
ALL_ALIKE: int
MANY: int
"""Rows of a step from which on ggml's quicker kernels are left to it under ``FEW_ALIKE``."""

def install() -> str | None:
    """Puts the hooks in, once in a process, and tries them. Returns what keeps them from being used, or None."""

def set_mode(mode: int) -> int:
    """``AS_IT_IS``, ``FEW_ALIKE`` (steps of less than ``MANY`` rows), ``ALL_ALIKE``: for the whole process.

    Only while nothing is computed; without effect where ``install`` says why not. Returns the mode as it is now. For
    ``AS_IT_IS`` nothing is installed: it is for those who have reason to fear the hooks.
    """

def mode() -> int:
    """The mode as it is now."""
