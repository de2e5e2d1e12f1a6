"""The chore of measuring the knobs while the engine rests, a decode at a time, on small contexts of its own.

What is compared is timed in turns, so that other work on the machine disturbs both alike. Each figure is remembered as
soon as there is one, and an engine that ends half-way goes on at the next start. When somebody comes, the decode under
way is left off; the trials' memory is freed when it is not wanted for long.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Protocol

from janflask.engine.context import ContextOptions
from janflask.engine.figures import Figure, Figures
from janflask.engine.trial import SpoiltError
from janflask.engine.tuning import (
    ALL,
    DEEP,
    KINDS,
    ONE,
    PROBE,
    PROMPT,
    SHALLOW,
    SLICE_COST,
    THREADS,
    Choices,
    flash_name,
    under,
    wanted,
)
from janflask.errors import JanflaskError

log = logging.getLogger(__name__)

REST_BEFORE = 5.0  # seconds: whoever talks on would only interrupt it
DISTURBED = 1000.0  # milliseconds of others' steps after which the trials are closed
AGAIN = 120.0  # seconds until what is unsure is measured once more; twice as long each time
PASSES = 8  # of measuring what is unsure, in one life of an engine
FEW = 64  # tokens of a shallow context
DEPTHS = (2048, 1024, 512, 256)  # of a deep one: the first that fits the time and the memory
FILL_MS = 6000.0  # that filling one deep context may take
CELLS_SHARE = 4  # a trial has at most this part of the cells that serve
MOST_BYTES = 256e6  # and what it holds takes so much at most
ROOM = 384  # tokens beyond the depth

LEAST_CELLS = FEW + ROOM  # of a sequence: in smaller contexts nothing is measured

Timed = Generator[None, None, float]
Parts = list[tuple[int, int]]


class Trial(Protocol):
    """See ``trial.Trial``."""

    def step(self, parts: Parts) -> float | None: ...
    def fill(self, depth: int) -> Iterator[None]: ...
    def set_threads(self, count: int) -> None: ...
    def close(self) -> None: ...


class Measuring:
    """A chore; see the module's text.

    Args:
        options: the context that serves, with the guessed knobs.
        open_trial: makes a context for measuring.
        open_choices: what is to be compared.
        cell_bytes: of a token in the KV memory.
        figures: what is known already; what is measured is added.
        best_flash: the choice that is best as far as is known.
        found: called after each new figure, to remember it.
        settled: called when figures that belong together are there, at rest; false: to be called again.
        clock: seconds; a test's own.
    """

    def __init__(
        self,
        options: ContextOptions,
        open_trial: Callable[[ContextOptions], Trial],
        open_choices: Choices,
        cell_bytes: float,
        figures: Figures,
        best_flash: Callable[[], str],
        found: Callable[[], None],
        settled: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self._open_trial = open_trial
        self._choices = open_choices
        self._cell_bytes = cell_bytes
        self._figures = figures
        self._best_flash = best_flash
        self._found = found
        self._settled = settled
        self._clock = clock
        self._work: Generator[None] | None = None
        self._unsettled = False
        self._passes = 0
        self._next = clock()  # when it may go on
        self._disturbed_ms = 0.0

    def due(self, rested: float) -> float | None:
        """See ``Chore``."""
        if self._passes >= PASSES or (not self._missing() and self._work is None and not self._unsettled):
            return None
        return max(0.0, REST_BEFORE - rested, self._next - self._clock())

    def piece(self) -> None:
        """See ``Chore``: one decode, which a request ends at once."""
        self._disturbed_ms = 0.0
        if self._unsettled:
            self._unsettled = not self._settled()
            return
        if self._work is None:
            self._work = self._measure()
        try:
            next(self._work)
        except StopIteration:
            self._work = None
            self._next = self._clock() + AGAIN * 2**self._passes
            self._passes += 1
        except SpoiltError:
            self._work = None
        except JanflaskError as error:
            log.warning("the knobs cannot be measured, those that were guessed stay: %s", error.message)
            self._work, self._passes = None, PASSES

    def disturbed(self, step_ms: float) -> None:
        """Somebody's step took so long: trials are not kept open while others want the memory."""
        if self._work is None:
            return
        self._disturbed_ms += step_ms
        if self._disturbed_ms > DISTURBED:
            self._work.close()
            self._work = None

    # --- what is measured -----------------------------------------------------------------------------------------

    def _missing(self) -> list[str]:
        names = wanted(self._choices, self._best_flash())
        return [name for name, compared in names.items() if not self._figures.is_sure(name, set(compared))]

    def _measure(self) -> Generator[None]:
        """All that is not known for sure, each piece a decode."""
        yield from self._exchanges(SHALLOW, FEW)
        if any(name.endswith(DEEP) for name in self._missing()):
            yield from self._exchanges(DEEP, self._deep())
        yield from self._others()

    def _exchanges(self, place: str, depth: int) -> Generator[None]:
        """What the cost of an exchange is made of, under each choice of flash attention."""
        missing = self._missing()
        names = [name for kind in KINDS if (name := f"{kind}, {place}") in missing]
        if not names:
            return
        with ExitStack() as stack:
            trials = {}
            for choice in self._choices.flash:
                trials[choice] = stack.enter_context(closing(self._open(choice, depth)))
                yield
            for trial in trials.values():
                yield from trial.fill(depth)
            for name in names:
                parts = self._parts(name)
                ways = {choice: _once(trial, parts) for choice, trial in trials.items()}
                yield from self._compare(name, depth, ways)
        yield from self._settle()

    def _others(self) -> Generator[None]:
        """Threads and slices."""
        best = self._best_flash()
        threads, slices = under(THREADS, best), under(SLICE_COST, best)
        missing = self._missing()
        if threads not in missing and slices not in missing:
            return
        with closing(self._open(best, FEW)) as trial:
            yield from trial.fill(FEW)
            everybody = self._parts(f"{ALL}, {SHALLOW}")
            if threads in missing:
                ways = {name: _once(trial, everybody, int(name)) for name in self._choices.threads}
                yield from self._compare(threads, FEW, ways)
                trial.set_threads(self._options.cpu_threads)
            if slices in missing:
                ways = {name: _once(trial, [(0, int(name))]) for name in self._choices.slices}
                yield from self._compare(slices, FEW, ways)
        yield from self._settle()

    def _compare(self, name: str, depth: int, ways: dict[str, Callable[[], Timed]]) -> Generator[None]:
        """Times each way in turns."""
        times: dict[str, list[float]] = {choice: [] for choice in ways}
        figure: Figure | None = None
        while figure is None or not figure.is_done:
            for choice, time_it in ways.items():
                times[choice].append((yield from time_it()))
            figure = Figure.of(depth, times)
            self._figures.add(name, figure)
            self._found()

    def _settle(self) -> Generator[None]:
        yield
        self._unsettled = not self._settled()

    # --- on what --------------------------------------------------------------------------------------------------

    def _parts(self, name: str) -> Parts:
        if name.startswith(PROMPT):
            return [(0, PROBE)]
        return [(slot, 1) for slot in range(1 if name.startswith(ONE) else self._options.n_seq)]

    def _open(self, choice: str, depth: int) -> Trial:
        room = depth + ROOM
        options = replace(self._options, ctx_len=room, kv_cells=self._options.n_seq * room)
        return self._open_trial(replace(options, flash_attn=choice == flash_name(True)))

    def _deep(self) -> int:
        """How deep a context to measure at: what fills it is computed for each choice."""
        shallow = self._figures[f"{PROMPT}, {SHALLOW}"]
        token_ms = max(shallow.ms.values()) / PROBE
        cells = self._options.kv_cells // CELLS_SHARE // self._options.n_seq - ROOM
        most = min(cells, self._options.ctx_len - ROOM)
        depth_bytes = self._options.n_seq * self._cell_bytes
        fits = [
            depth
            for depth in DEPTHS
            if depth <= most and depth * token_ms <= FILL_MS and depth * depth_bytes <= MOST_BYTES
        ]
        return max(fits, default=DEPTHS[-1])


def _once(trial: Trial, parts: Parts, threads: int | None = None) -> Callable[[], Timed]:
    """Times one decode, again if it was left off."""

    def time_it() -> Timed:
        if threads is not None:
            trial.set_threads(threads)
        while (took := trial.step(parts)) is None:
            yield
        yield
        return took

    return time_it
