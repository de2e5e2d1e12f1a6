"""Structured output: constraints are compiled to matchers by llguidance, beside the loop and within limits.

What llguidance knows of a vocabulary is built once, by the first of the threads here, when the model has rested for a
moment or somebody constrains an answer: no other answer has to wait for it, nor for the library's import. A constraint
is compiled once for each owner, too, and kept: each answer gets a copy of the matcher at its beginning. (Shared ones
would tell what others have asked for: compiling takes its time.)

In the table a token is text if it makes text in an answer: a user-defined one like ``<tool_call>`` is, so a grammar
that wants these letters takes them as one token or as several; a control token is none, and every token that ends an
answer is named as one.
"""

from __future__ import annotations

import ctypes
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_cpp import llama_cpp as lib

from janflask.engine.ends import CONTROL, UNKNOWN, UNUSED
from janflask.engine.marker_rules import MarkerRules
from janflask.engine.matcher import GrammarMatcher, Mask, mask_words, reason
from janflask.engine.model import Model
from janflask.errors import EngineError, InvalidRequestError, JanflaskError, UnavailableError
from janflask.ipc.messages.constraint import Constraint, ConstraintKind
from janflask.parsing.lark import json_options

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

log = logging.getLogger(__name__)

COMPILE_TIME = 0.9  # seconds that a constraint may take
TABLE_TIME = 60.0  # seconds that a request waits for the vocabulary's table, just after the model's start
REST = 1.0  # seconds without an answer, after which the table is made although nobody needs it yet
CACHE_BYTES = 4 << 20  # of the texts of compiled constraints; what they take in memory is some ten times that
CACHE_ENTRIES = 128
THREADS = 2  # so that one slow constraint holds up none that is quick
STACK = 64 << 20  # bytes of address space for each of them: llguidance follows rules and references by recursion

SPECIAL = b"\xff"  # in front of a token's bytes: no text

Done = Callable[["Compiled | JanflaskError"], None]
# Whose it is, and all of a constraint but the name of its field.
_Key = tuple[str | None, ConstraintKind, str, str | None, tuple[str, ...]]


@cache
def limits() -> LLParserLimits:
    """Beyond these llguidance gives up. By step: some 15 ms of computing for one token; states take 1 to 2 kB each."""
    from llguidance import LLParserLimits

    return LLParserLimits(
        initial_lexer_fuel=2_000_000,
        step_lexer_fuel=200_000,
        step_max_items=50_000,
        max_lexer_states=20_000,
        max_grammar_size=200_000,
        verbose_errors=False,
    )


def make_table(model: Model) -> LLTokenizer:
    """llguidance's table of a model's vocabulary; tenths of a second, which it spends without letting others run."""
    from llguidance import LLTokenizer

    pieces = [_piece(model, token) for token in range(model.n_vocab)]
    function = ctypes.cast(lib._lib.llama_tokenize, ctypes.c_void_p).value
    # No other table takes llama.cpp's tokenizer; the method is missing in the library's own stubs.
    make: Any = LLTokenizer.from_llamacpp  # type: ignore[attr-defined]
    table: LLTokenizer = make(
        tokens=pieces,
        vocab_ptr=model.vocab_address,
        tokenize_fptr=function,
        eos_token=sorted(model.eog),
        slices=None,
    )
    return table


def _piece(model: Model, token: int) -> bytes:
    kind = model.token_types[token]
    if kind & (UNKNOWN | UNUSED):
        return b""  # never written
    return SPECIAL + model.pieces[token] if kind & CONTROL or token in model.eog else model.pieces[token]


class Compiled:
    """A constraint that was compiled: the matcher at an answer's beginning, and what may come first."""

    def __init__(self, inner: LLMatcher, mask: Mask) -> None:
        self._inner = inner
        self._mask = mask

    def matcher(self) -> GrammarMatcher:
        """For one answer."""
        return GrammarMatcher(self._inner.deep_copy(), self._mask)


@dataclass(slots=True, eq=False)
class _Job:
    constraint: Constraint
    done: Done
    owner: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    clock: threading.Timer | None = None
    began: bool = False
    is_over: bool = False

    def finish(self, result: Compiled | JanflaskError) -> None:
        """Only the first result counts."""
        with self.lock:
            if self.is_over:
                return
            self.is_over = True
        if self.clock is not None:
            self.clock.cancel()
        self.done(result)


class Compiler:
    """Compiles constraints in threads of its own. Thread-safe. To a loop it is a chore (``chores.Chore``).

    Args:
        make: makes the vocabulary's table. If it fails, answers cannot be constrained.
        n_vocab: tokens of the vocabulary.
    """

    def __init__(self, make: Callable[[], LLTokenizer], n_vocab: int) -> None:
        self._make = make
        self._words = mask_words(n_vocab)
        self._table: LLTokenizer | None = None
        self._markers = MarkerRules({}, frozenset())
        self._wanted = threading.Event()  # the table is to be made
        self._ready = threading.Event()
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._cache: OrderedDict[_Key, Compiled] = OrderedDict()
        self._cached_bytes = 0
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begins; the table is made once it is wanted."""
        usual = threading.stack_size(STACK)
        try:
            for number in range(THREADS):
                name = f"constraints {number}"
                threading.Thread(target=self._run, args=(number == 0,), name=name, daemon=True).start()
        finally:
            threading.stack_size(usual)

    def due(self, rested: float) -> float | None:
        """See ``Chore``."""
        return None if self._wanted.is_set() else max(0.0, REST - rested)

    def piece(self) -> None:
        """See ``Chore``: has the table made, and does not wait for it."""
        self._wanted.set()

    def compile(self, constraint: Constraint, done: Done, owner: str | None = None) -> None:
        """Calls ``done``, once, from some thread, with the compiled constraint or with why there is none.

        At once if it was compiled for the same owner before; within ``COMPILE_TIME``, and the time that the table
        still takes.
        """
        found = self._cached(constraint, owner)
        if found is not None:
            done(found)
            return
        job = _Job(constraint, done, owner)
        job.clock = threading.Timer(COMPILE_TIME if self._ready.is_set() else TABLE_TIME, self._expire, (job,))
        job.clock.daemon = True
        job.clock.start()
        self._jobs.put(job)
        self._wanted.set()

    # --- its threads --------------------------------------------------------------------------------------------

    def _run(self, makes_table: bool) -> None:
        if makes_table:
            self._wanted.wait()
            started = time.monotonic()
            try:
                table = self._make()
                self._markers, self._table = MarkerRules.of_table(table), table
            except Exception:
                log.exception("llguidance made no table of this vocabulary: answers cannot be constrained")
            else:
                log.info("ready for constraints after %.2f s", time.monotonic() - started)
            self._ready.set()
        self._ready.wait()
        while True:
            self._take(self._jobs.get())

    def _take(self, job: _Job) -> None:
        with job.lock:
            if job.is_over:
                return  # it waited too long, and nobody waits for it any more
            job.began = True
        result: Compiled | JanflaskError | None = self._cached(job.constraint, job.owner)
        try:
            if result is None:
                result = self._compile(job.constraint)
                self._keep(job.constraint, job.owner, result)
        except JanflaskError as error:
            result = error
        except Exception:
            log.exception("a constraint could not be compiled")
            result = EngineError("the engine failed on this constraint; its log says why")
        job.finish(result)

    def _compile(self, constraint: Constraint) -> Compiled:
        if self._table is None:
            raise EngineError("answers cannot be constrained with this model; the engine's log says why")
        from llguidance import LLMatcher

        filled = grammar(constraint, self._markers)
        inner = LLMatcher(self._table, filled, log_level=0, limits=limits())
        _check(inner, constraint)
        mask = np.zeros(self._words, np.uint32)
        inner.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        _check(inner, constraint, "allows no answer at all")
        return Compiled(inner, mask)

    def _expire(self, job: _Job) -> None:
        with job.lock:
            began = job.began
        if began:
            job.finish(
                InvalidRequestError(
                    f"{job.constraint.name} is too complex: it could not be prepared within its limit of "
                    f"{COMPILE_TIME:g} s; use fewer alternatives, smaller repetitions, or a shorter list",
                    param=job.constraint.name,
                    code="constraint_too_complex",
                )
            )
        else:
            job.finish(UnavailableError("other constraints are being prepared: try again in a moment", retry_after=1))

    # --- cache --------------------------------------------------------------------------------------------------

    def _cached(self, constraint: Constraint, owner: str | None) -> Compiled | None:
        key = _key(constraint, owner)
        with self._lock:
            if key not in self._cache:
                return None
            self._cache.move_to_end(key)
            return self._cache[key]

    def _keep(self, constraint: Constraint, owner: str | None, compiled: Compiled) -> None:
        key = _key(constraint, owner)
        with self._lock:
            if key not in self._cache:
                self._cached_bytes += len(constraint.text)
            self._cache[key] = compiled
            while len(self._cache) > 1 and (self._cached_bytes > CACHE_BYTES or len(self._cache) > CACHE_ENTRIES):
                oldest, _ = self._cache.popitem(last=False)
                self._cached_bytes -= len(oldest[2])


def _key(constraint: Constraint, owner: str | None) -> _Key:
    return owner, constraint.kind, constraint.text, constraint.whitespace, constraint.markers


def grammar(constraint: Constraint, markers: MarkerRules) -> str:
    """What llguidance's matcher is made of. Raises InvalidRequestError for JSON that is none."""
    from llguidance import LLMatcher

    if constraint.kind is ConstraintKind.GRAMMAR:
        return LLMatcher.grammar_from_lark(markers.filled(constraint))
    if constraint.kind is ConstraintKind.REGEX:
        return LLMatcher.grammar_from_regex(constraint.text)
    options = json_options(constraint.text, constraint.whitespace)
    try:
        return LLMatcher.grammar_from_json_schema(constraint.text, overrides=options)  # type: ignore[arg-type]
    except ValueError as error:
        raise InvalidRequestError(f"{constraint.name} is no JSON schema: {error}", param=constraint.name) from error


def _check(inner: LLMatcher, constraint: Constraint, what: str = "cannot be used") -> None:
    if inner.is_error():
        raise InvalidRequestError(
            f"{constraint.name} {what}: {reason(inner.get_error())}", param=constraint.name, code="invalid_constraint"
        )
