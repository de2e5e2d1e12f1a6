"""A backend that tells where the time of each answer went, when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

from janflask.errors import JanflaskError
from janflask.inference.backend import Backend
from janflask.inference.deltas import Done, Events, Finished
from janflask.inference.requests import ChatRequest, CompletionRequest
from janflask.inference.tries import Tries
from janflask.inference.waiting import Waiter
from janflask.inference.wrapped import WrappedBackend
from janflask.ipc.spent import Spent

Record = Callable[[Spent], None]


class TracedBackend(WrappedBackend):
    """``backend``, which tells ``record`` of each answer. See ``Backend``."""

    def __init__(self, backend: Backend, model_id: str, record: Record) -> None:
        super().__init__(backend)
        self._model_id = model_id
        self._record = record

    def chat(self, request: ChatRequest, waiter: Waiter, beat: float, tries: Tries | None = None) -> Events:
        return self._recorded("chat", super().chat(request, waiter, beat, tries))

    def complete(self, request: CompletionRequest, waiter: Waiter, beat: float) -> Events:
        return self._recorded("text_completion", super().complete(request, waiter, beat))

    def _recorded(self, operation: str, events: Events) -> Events:
        began = time.time_ns()
        done: Done | None = None
        reasons: list[str] = []
        error: str | None = None
        try:
            with closing(events):
                for batch in events:
                    for event in batch:
                        if isinstance(event, Finished):
                            reasons.append(event.reason)
                        elif isinstance(event, Done):
                            done = event
                    yield batch
        except Exception as failure:
            error = (failure.code if isinstance(failure, JanflaskError) else None) or type(failure).__name__
            raise
        except GeneratorExit:  # who reads it has enough, or has gone
            error = None if done else "cancelled"
            raise
        finally:
            self._record(
                Spent(
                    operation=operation,
                    model_id=self._model_id,
                    began=began,
                    ended=time.time_ns(),
                    usage=None if done is None else done.usage,
                    timings=None if done is None else done.timings,
                    reasons=tuple(reasons),
                    error=error,
                )
            )
