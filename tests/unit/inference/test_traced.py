"""What is told of an answer when it is over: also of one that a fault of our own ended."""

from __future__ import annotations

from typing import Any

import pytest

from janflask.errors import InvalidRequestError
from janflask.inference.deltas import Events
from janflask.inference.traced import TracedBackend
from janflask.ipc.spent import Spent


class Failing:
    def __init__(self, failure: Exception) -> None:
        self._failure = failure

    def chat(self, *_: Any) -> Events:
        yield []
        raise self._failure


@pytest.mark.parametrize(
    ("failure", "told"),
    [(InvalidRequestError("no"), "invalid_request"), (ZeroDivisionError(), "ZeroDivisionError")],
)
def test_why_an_answer_failed(failure: Exception, told: str) -> None:
    spent: list[Spent] = []
    backend: Any = Failing(failure)
    events = TracedBackend(backend, "m", spent.append).chat(None, None, 1.0)  # type: ignore[arg-type]
    with pytest.raises(type(failure)):
        list(events)
    assert [each.error for each in spent] == [told]


def test_one_whose_reader_has_gone_was_cancelled() -> None:
    spent: list[Spent] = []
    backend: Any = Failing(ZeroDivisionError())
    events = TracedBackend(backend, "m", spent.append).chat(None, None, 1.0)  # type: ignore[arg-type]
    next(events)
    events.close()
    assert [each.error for each in spent] == ["cancelled"]
