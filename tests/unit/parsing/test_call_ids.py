"""The ids of calls, which are the model's own where it writes some."""

from __future__ import annotations

import pytest

from janflask.parsing.answer import AnswerParser
from janflask.parsing.deltas import ToolCallDelta
from janflask.parsing.rules import PLAIN


@pytest.mark.parametrize("between", ["", "\n", " and ", ";", ","])
def test_an_id_that_a_model_writes_twice_is_given_once(between: str) -> None:
    """Whoever answers the calls names them by it."""
    call = '{"id": "call_1", "name": "go", "arguments": {}}'
    calls = f"<tool_call>{call}</tool_call>{between}<tool_call>{call}</tool_call>"
    if between in (";", ","):
        calls = f"<tool_call>[{call}{between}{call}]</tool_call>"
    parser = AnswerParser(PLAIN, tools={"go": {}})
    parser.begin("")
    told = [delta for delta in parser.feed(calls) + parser.finish() if isinstance(delta, ToolCallDelta) and delta.name]
    first, second = (delta.id for delta in told)
    assert first == "call_1"
    assert second
    assert second != first
