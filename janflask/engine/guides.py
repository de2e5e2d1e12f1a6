"""What leads the answers of a request: the constraints that have to be compiled for it, and a guide for each choice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from janflask.engine.guide import Guide, Held
from janflask.engine.matcher import Masks
from janflask.engine.sequence import TextStream
from janflask.engine.spelling import Speller, Tokenizer
from janflask.engine.watch import AnswerWatch, Source
from janflask.errors import JanflaskError
from janflask.ipc.messages.constraint import Constraint
from janflask.ipc.messages.generation import GenerateRequest

Sources = Mapping[Constraint, Source]


class Model(Tokenizer, Protocol):
    """What of a model makes guides."""

    def make_text(self, stop: tuple[str, ...], markers: tuple[str, ...] = ()) -> TextStream: ...


class Compiler(Protocol):
    """See ``constraint.Compiler``."""

    def compile(
        self, constraint: Constraint, done: Callable[[Source | JanflaskError], None], owner: str | None
    ) -> None: ...


class Guides:
    """Of one model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._speller = Speller(model)
        self._masks = Masks(model.n_vocab)

    def get_ready(self) -> None:
        """Prepares now what would take a moment in the middle of somebody's answer."""
        self._speller.get_ready()

    def make(self, request: GenerateRequest, compiled: Sources) -> Guide | None:
        """For one choice. None: there is nothing that leads it."""
        if request.constraint is not None:
            return Held(compiled[request.constraint].matcher())
        watch = request.watch
        if watch is None:
            return None
        calls = None if watch.calls is None else compiled[watch.calls]
        answer = None if watch.answer is None else compiled[watch.answer]
        text = self._model.make_text((), request.markers + watch.rules.markers)
        return AnswerWatch(watch, self._speller, text, self._masks, calls, answer)


def constraints(request: GenerateRequest) -> list[Constraint]:
    """All that have to be compiled before a request begins, each once."""
    watch = request.watch
    wanted = (request.constraint, *((watch.calls, watch.answer) if watch is not None else ()))
    return list(dict.fromkeys(constraint for constraint in wanted if constraint is not None))


def compile_all(
    compiler: Compiler,
    wanted: list[Constraint],
    done: Callable[[Sources | JanflaskError], None],
    owner: str | None = None,
) -> None:
    """Compiles constraints for ``owner``.

    Calls ``done``, once, from some thread, with all of them, or with the first reason why one cannot be had.
    """
    found: dict[Constraint, Source] = {}
    lock = threading.Lock()
    is_over = False

    def came(constraint: Constraint, result: Source | JanflaskError) -> None:
        nonlocal is_over
        with lock:
            if is_over:
                return
            if not isinstance(result, JanflaskError):
                found[constraint] = result
            is_over = isinstance(result, JanflaskError) or len(found) == len(wanted)
            if not is_over:
                return
        done(result if isinstance(result, JanflaskError) else found)

    for constraint in wanted:
        compiler.compile(constraint, partial(came, constraint), owner)
