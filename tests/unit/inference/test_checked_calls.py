"""The check of finished calls, and the errors of tools whose schemas no call can be held to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from janflask.errors import InvalidRequestError
from janflask.inference.calls.checked import calls_checked
from janflask.inference.calls.grammar import of_calls
from janflask.inference.deltas import Event, Finished, RefusalDelta, TextDelta, ToolCallDelta
from janflask.inference.requests import Tool
from janflask.ipc.messages.generation import FinishReason
from janflask.parsing.calls import GENERIC
from tests.fakes.scripted import DONE

SET = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}, "required": ["a"]}
TOOLS = (Tool("pick", None, SET), Tool("go", None, {}))


def told(*events: Event, reason: str = FinishReason.TOOL_CALLS) -> list[Event]:
    def batches() -> Iterator[list[Event]]:
        for event in events:
            yield [event]
        yield [Finished(0, reason), DONE]

    return [event for batch in calls_checked(batches(), TOOLS) for event in batch]  # type: ignore[arg-type]


def called(name: str, *pieces: str, index: int = 0, call: int = 0) -> list[Event]:
    return [ToolCallDelta(index, call, "id", name), *(ToolCallDelta(index, call, arguments=piece) for piece in pieces)]


def refusals(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, RefusalDelta)]


def test_calls_that_are_as_they_should_be() -> None:
    events = [*called("pick", '{"a": ', "[1, 2]}"), *called("go", "{}", call=1)]
    assert told(*events) == [*events, Finished(0, FinishReason.TOOL_CALLS), DONE]
    assert told(TextDelta(0, "no call"), reason=FinishReason.STOP)[0] == TextDelta(0, "no call")


def test_one_that_is_not_stands_and_the_answer_says_which_and_why() -> None:
    events = [*called("go", "{}"), *called("pick", '{"a": [1, 1]}', call=1)]
    found = told(*events)
    assert found[: len(events)] == events
    (reason,) = refusals(found)
    assert reason.startswith("the call of pick (number 1) does not meet the schema: ")
    assert isinstance(found[-3], RefusalDelta)
    assert found[-2:] == [Finished(0, FinishReason.TOOL_CALLS), DONE]


@pytest.mark.parametrize("arguments", ["", "{", "[]", '{"b": 1}'])
def test_arguments_that_are_none(arguments: str) -> None:
    assert len(refusals(told(*called("pick", arguments)))) == 1


def test_one_that_the_limit_has_cut_is_not_checked() -> None:
    assert not refusals(told(*called("pick", '{"a": [1, 1'), reason=FinishReason.LENGTH))


def test_each_choice_has_its_own_calls() -> None:
    found = told(*called("pick", '{"a": [1, 1]}', index=1), *called("go", "{}"))
    assert not refusals(found), "the other choice has not finished"


# --- schemas that no call can be held to ------------------------------------------------------------------------------


def tools(parameters: dict[str, Any]) -> list[Tool]:
    return [Tool("fine", None, {}), Tool("odd", None, parameters)]


@pytest.mark.parametrize(
    ("place", "param"),
    [
        ("tools", "tools.1.function.parameters.properties.x.not"),
        ("functions", "functions.1.parameters.properties.x.not"),
    ],
)
def test_a_keyword_that_cannot_be_held_is_named(place: str, param: str) -> None:
    odd = tools({"type": "object", "properties": {"x": {"not": {}}}})
    with pytest.raises(InvalidRequestError, match="the tool odd") as caught:
        of_calls(GENERIC, odd, parallel=True, place=place)
    assert (caught.value.param, caught.value.status) == (param, 400)
    with pytest.raises(InvalidRequestError) as caught:
        next(calls_checked(iter([]), odd, place))  # type: ignore[arg-type]
    assert caught.value.param == param


@pytest.mark.parametrize(
    "parameters",
    [
        {"properties": {"x": {"type": "nothing"}}},
        {"properties": {"x": {"$ref": "#/$defs/none"}}},
        {"properties": {"x": {"type": "string", "format": "roman"}}},
        {"properties": {"x": {"enum": [float("nan")]}}},
        {"properties": {str(i): {"description": "x" * 10, "enum": ["y" * 600]} for i in range(900)}},
    ],
)
def test_what_is_no_schema_or_too_much_of_it(parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        of_calls(GENERIC, tools(parameters), parallel=True)


def test_what_agents_put_in_schemas_is_taken() -> None:
    odd = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Arguments",
        "additionalProperties": False,
        "properties": {
            "path": {"type": "string", "format": "uri", "description": "Where.", "default": "", "examples": ["a"]},
            "n": {"type": ["integer", "null"], "format": "int32", "nullable": False, "x-order": 1},
            "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "default": []},
        },
    }
    assert of_calls(GENERIC, tools(odd), parallel=True).markers == ("<tool_call>", "</tool_call>")
