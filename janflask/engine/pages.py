"""Where a context's KV memory lies in RAM, and how what nobody uses of it goes back to the system.

A context is made without touching its KV (``janflask_ext.pages``): a page is resident once a token is written to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from janflask_ext import pages as native

log = logging.getLogger(__name__)

VIEW = " (view)"  # ggml's name for a part of a tensor

Made = TypeVar("Made")
Part = tuple[int, int]  # address and bytes


class KvPages:
    """The KV tensors of one context that lie in RAM. To be dropped with it: the addresses are its own.

    Args:
        tensors: as ``janflask_ext.pages.lazily`` notes them.
        n_seq: the sequences of the context.
    """

    def __init__(self, tensors: Sequence[tuple[str, int, int]] = (), n_seq: int = 1) -> None:
        self._whole = [(address, size) for name, address, size in tensors if not name.endswith(VIEW)]
        self._of_slot = _by_slot(tensors, n_seq)

    @property
    def total_bytes(self) -> int:
        """All that the context may come to use; 0 where its pages are not ours to give back."""
        return sum(size for _, size in self._whole)

    @property
    def is_by_slot(self) -> bool:
        """Every sequence has memory of its own, so one's can be given back alone."""
        return bool(self._of_slot)

    def give_back(self, slot: int, most: int | None = None) -> int:
        """The (emptied) slot's memory is the system's again, and zero when it is used anew; the bytes that were in RAM.

        0 where slots share their memory. ``most``: so many bytes are enough, some tenth of a millisecond for each MiB.
        Nothing else may use the context meanwhile.
        """
        given = 0
        for part in self._of_slot[slot] if self._of_slot else []:
            used = native.resident(*part)
            if used:
                native.zero(*part)
            given += max(0, used)
            if most is not None and given >= most:
                break
        return given

    @property
    def n_tensors(self) -> int:
        return len(self._whole)

    def give_back_tensor(self, number: int) -> None:
        """The same for one of the ``n_tensors``, with what it holds of all slots: they have to be empty."""
        native.zero(*self._whole[number])

    def resident(self, slot: int | None = None) -> int:
        """Bytes in RAM now, of one slot or of all."""
        parts = self._whole if slot is None else self._of_slot[slot] if self._of_slot else []
        return sum(max(0, native.resident(*part)) for part in parts)

    def forget(self) -> None:
        """The context is gone."""
        self._whole, self._of_slot = [], []


def lazily(make: Callable[[], Made], n_seq: int) -> tuple[Made, KvPages]:
    """The context that ``make`` makes, of which only what is used will be resident, and its pages."""
    if native.why_not is not None:
        log.info("the whole KV cache is resident: %s", native.why_not)
    made, tensors = native.lazily(make)
    return made, KvPages(tensors, n_seq)


def _by_slot(tensors: Sequence[tuple[str, int, int]], n_seq: int) -> list[list[Part]]:
    """Each sequence's parts of the tensors, where all of them are divided among the sequences; empty otherwise.

    llama.cpp makes a view of each sequence's part of keys and values, in the order of the sequences. What recurrent
    layers remember is not divided: their cells are given out as they are needed.
    """
    views: dict[str, list[Part]] = {}
    whole: dict[str, list[Part]] = {}
    for name, address, size in tensors:
        if name.endswith(VIEW):
            views.setdefault(name.removesuffix(VIEW), []).append((address, size))
        else:
            whole.setdefault(name, []).append((address, size))
    if not whole:
        return []
    for name, found in whole.items():
        if len(found) != 1 or views.get(name) != _divided(*found[0], n_seq):
            return []
    return [[views[name][slot] for name in whole] for slot in range(n_seq)]


def _divided(address: int, size: int, n_seq: int) -> list[Part]:
    part = size // n_seq
    return [(address + slot * part, part) for slot in range(n_seq)]
