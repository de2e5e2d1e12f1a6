"""KV memory that is resident only where it is used; the module's own docstring in ``pages.pyx`` says how."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

why_not: str | None
"""What keeps it from being used on this machine or with the loaded library; None: it is used."""

def lazily(make: Callable[[], T]) -> tuple[T, list[tuple[str, int, int]]]:
    """What ``make()`` returns, and ``(name, address, bytes)`` of each KV tensor that llama.cpp made in RAM meanwhile.

    A sequence's own part of a tensor follows it by the name of a view (``cache_k_l0 (view)``), in the order of the
    sequences. ``make`` has to call llama.cpp in this very thread. Where ``why_not`` says something: no tensors.
    Raises what ``make`` raises.
    """

def zero(address: int, bytes: int) -> int:
    """Makes this part of a KV tensor zero by giving its whole pages back. Returns the bytes that were given back."""

def resident(address: int, bytes: int) -> int:
    """Bytes of it that are in RAM now; pages that were only read count too. -1 where the system does not say."""
