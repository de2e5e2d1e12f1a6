"""How many rows of a decode are computed to the same bits as one row alone: the one place that says so.

It hangs on the model's weights, on flash attention and on the build, so it is found by trying: the chore computes a
few rows together and again alone, in a short context and in one of more than 512 cells, where ggml computes attention
otherwise. Until it has, and for every model whose memory cannot be cut, the answer is one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from janflask.engine.context import ContextOptions
from janflask.engine.trial import Trial
from janflask.errors import JanflaskError
from janflask_ext import rows

log = logging.getLogger(__name__)

FEW = (rows.MANY - 1, 7, 3)  # rows that are tried, the most first: ggml has other kernels for 24, 8 and 4 of them
ALL = (64, *FEW)
FILLED = 256  # tokens of a slot: of fewer the sums are often the same in any order
SLOTS = 3  # that share cells: enough of them for a long context
LOOKED_AT = 24  # rows in all, of each number
ROOM = 64  # tokens of a slot beyond those

Row = NDArray[np.float32]


class ExactRows:
    """A chore (see ``Chore``), and what it has found.

    Args:
        options: those of the context that serves, as they are now.
        open_trial: makes a context to try it on.
        counts: numbers of rows to try, the most first.
    """

    def __init__(
        self,
        options: Callable[[], ContextOptions],
        open_trial: Callable[[ContextOptions], Trial],
        counts: Sequence[int] = FEW,
    ) -> None:
        self._options = options
        self._open_trial = open_trial
        self._counts = counts
        self._found: dict[ContextOptions, int] = {}
        self._work: Generator[None] | None = None

    def most(self) -> int:
        """Rows of a decode that have each the bits that it would have alone."""
        return self._found.get(self._key(), 1)

    def due(self, rested: float) -> float | None:
        """See ``Chore``."""
        return None if self._key() in self._found else 0.0

    def piece(self) -> None:
        """See ``Chore``: one decode, which a request ends at once."""
        if self._work is None:
            self._work = self._find(self._key())
        try:
            next(self._work)
        except StopIteration:
            self._work = None

    def _key(self) -> ContextOptions:
        """What the bits hang on."""
        return replace(self._options(), ctx_len=0, kv_cells=0, n_seq=0, kv_unified=True, cpu_threads=0)

    def _find(self, key: ContextOptions) -> Generator[None]:
        try:
            self._found[key] = yield from self._try()
        except JanflaskError as error:
            log.warning("it is not known how many rows have the bits of one: %s", error.message)
            self._found[key] = 1
        else:
            log.info("%d rows of a decode are computed to the bits of one", self._found[key])

    def _try(self) -> Generator[None, None, int]:
        options = replace(
            self._options(),
            ctx_len=FILLED + ROOM + 1,
            n_seq=SLOTS,
            kv_cells=SLOTS * (FILLED + ROOM + 1),
            kv_unified=True,
            batch_size=max(ALL),
        )
        counts = list(self._counts)
        with closing(self._open_trial(options)) as trial:
            for slots in (1, SLOTS):
                yield from trial.fill(FILLED, slots)
                while counts and not (yield from _is_exact(trial, counts[0])):
                    counts.pop(0)
        return counts[0] if counts else 1


def _is_exact(trial: Trial, count: int) -> Generator[None, None, bool]:
    """Whether rows are the same in groups of ``count`` as alone. By chance a single one may be."""
    for start in range(0, max(1, LOOKED_AT // count) * count, count):
        alone = []
        for place in range(start, start + count):
            alone += yield from _rows(trial, place, 1)
        together = yield from _rows(trial, start, count)
        if not all(np.array_equal(*pair) for pair in zip(alone, together, strict=True)):
            return False
    return True


def _rows(trial: Trial, place: int, count: int) -> Generator[None, None, list[Row]]:
    while (found := trial.rows(place, count)) is None:
        yield
    yield
    return found
