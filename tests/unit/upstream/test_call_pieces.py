"""Calls of tools in every form in which servers tell them, and what cannot be one."""

from __future__ import annotations

from typing import Any

import pytest

from janflask.errors import UpstreamError
from janflask.inference.deltas import Done, Event, Finished, TextDelta, ToolCallDelta
from janflask.inference.upstream.reading import StreamReader
from tests.unit.upstream.test_reading import data, read, says


def calls(*pieces: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"tool_calls": list(pieces)}, "finish_reason": None}]}


def piece(arguments: str | None = None, name: str | None = None, **more: Any) -> dict[str, Any]:
    given = {"name": name, "arguments": arguments}
    return {**more, "function": {key: value for key, value in given.items() if value is not None}}


def joined(events: list[Event], index: int = 0) -> list[tuple[str | None, str | None, str]]:
    """Id, name and arguments of each call, which are told with its first piece and never again."""
    found: list[list[Any]] = []
    for event in events:
        if isinstance(event, ToolCallDelta) and event.index == index:
            if event.call == len(found):
                assert event.id
                assert event.name
                found.append([event.id, event.name, ""])
            else:
                assert (event.id, event.name) == (None, None)
            found[event.call][2] += event.arguments
    return [(one[0], one[1], one[2]) for one in found]


def reason(events: list[Event]) -> str:
    (finished,) = [event for event in events if isinstance(event, Finished)]
    return finished.reason


ONE = [("call_1", "look", '{"at":"sky"}')]
TWO = [*ONE, ("call_2", "listen", "{}")]

WHOLE = piece('{"at":"sky"}', "look", id="call_1", type="function")
OTHER = piece("{}", "listen", id="call_2", type="function")

STREAMS: dict[str, tuple[list[dict[str, Any]], Any]] = {
    "OpenAI: growing, by index": (
        [
            calls(piece("", "look", index=0, id="call_1", type="function")),
            calls(piece('{"at":', index=0)),
            calls(piece('"sky"}', index=0)),
            calls(piece("", "listen", index=1, id="call_2", type="function")),
            calls(piece("{}", index=1)),
        ],
        TWO,
    ),
    "llama-cpp-python: id and name every time": (
        [calls(WHOLE | piece('{"at":', "look", index=0)), calls(WHOLE | piece('"sky"}', "look", index=0))],
        ONE,
    ),
    "name and arguments null where there is nothing new": (
        [
            calls({"index": 0, "id": "call_1", "function": {"name": "look", "arguments": None}}),
            calls({"index": 0, "id": None, "function": {"name": None, "arguments": '{"at":"sky"}'}}),
            calls({"index": 0, "id": "", "function": {"name": "", "arguments": ""}}),
            calls({"index": 0}),
        ],
        ONE,
    ),
    "id, then name, then arguments": (
        [calls({"index": 0, "id": "call_1"}), calls(piece("", "look", index=0)), calls(piece('{"at":"sky"}', index=0))],
        ONE,
    ),
    "both in one piece": ([calls(WHOLE | {"index": 0}, OTHER | {"index": 1})], TWO),
    "whole, without an index": ([calls(WHOLE, OTHER)], TWO),
    "whole, one after another, without an index": ([calls(WHOLE), calls(OTHER)], TWO),
    "whole, all with the same index": ([calls(WHOLE | {"index": 0}), calls(OTHER | {"index": 0})], TWO),
    "two at once, taking turns": (
        [
            calls(piece("", "look", index=0, id="call_1"), piece("", "listen", index=1, id="call_2")),
            calls(piece('{"at":', index=0), piece("{", index=1)),
            calls(piece("}", index=1), piece('"sky"}', index=0)),
        ],
        TWO,
    ),
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("told", ["tool_calls", "stop"])
def test_calls_in_every_form(name: str, told: str) -> None:
    pieces, expected = STREAMS[name]
    reader, events = read(data(*pieces, says(None, reason=told), b"[DONE]"))
    assert joined(events) == expected
    assert reason(events) == "tool_calls"
    assert reader.said
    assert isinstance(events[-1], Done)


def test_missing_and_doubled_ids_get_ours() -> None:
    nameless = piece("{}", "look")
    _, events = read(data(calls(nameless, nameless), says(None, reason="tool_calls"), b"[DONE]"))
    ids = [one[0] for one in joined(events)]
    assert len(set(ids)) == 2
    doubled = calls(WHOLE | {"index": 0}, OTHER | {"index": 1, "id": "call_1"})
    _, events = read(data(doubled))
    (first, _, _), (second, _, _) = joined(events)
    assert first == "call_1"
    assert second not in ("call_1", None)


def test_the_older_form() -> None:
    def old(arguments: str, name: str | None = None, **more: Any) -> dict[str, Any]:
        call = piece(arguments, name)["function"]
        return {"choices": [{"index": 0, "delta": {"content": None, "function_call": call, **more}}]}

    pieces = [old("", "look"), old('{"at":'), old('"sky"}'), says(None, reason="function_call"), b"[DONE]"]
    _, events = read(data(*pieces))
    assert [one[1:] for one in joined(events)] == [("look", '{"at":"sky"}')]
    assert reason(events) == "tool_calls"
    both = old("{}", "look", tool_calls=[WHOLE | {"index": 0}])  # llama-cpp-python tells it twice
    assert joined(read(data(both))[1]) == ONE


def test_words_before_calls_and_calls_of_several_choices() -> None:
    first, second = calls(WHOLE, index=0), calls(OTHER, index=1)
    _, events = read(data(says("Well", 0), first, second, says(None, 0, "tool_calls"), says("No", 1, "stop")), n=2)
    assert TextDelta(0, "Well") in events
    assert joined(events, 0) == ONE
    assert joined(events, 1) == [("call_2", "listen", "{}")]


def test_the_first_call_alone_is_told_where_more_were_not_asked_for() -> None:
    _, events = read(data(*STREAMS["OpenAI: growing, by index"][0]), parallel=False)
    assert joined(events) == ONE


@pytest.mark.parametrize(("told", "ours"), [("tool_calls", "stop"), ("function_call", "stop"), ("length", "length")])
def test_an_end_with_calls_that_did_not_come(told: str, ours: str) -> None:
    assert reason(read(data(says("a", reason=told), b"[DONE]"))[1]) == ours


def test_a_call_that_was_cut() -> None:
    begun = calls(piece('{"at":', "look", index=0, id="call_1"))
    assert reason(read(data(begun, says(None, reason="length"), b"[DONE]"))[1]) == "length"
    assert reason(read(data(begun, says(None, reason="tool_calls"), b"[DONE]"))[1]) == "tool_calls"
    assert reason(read(data(begun, says(None, reason="tool_calls"), b"[DONE]"), hides_length=True)[1]) == "length"
    whole = data(calls(WHOLE), says(None, reason="tool_calls"), b"[DONE]")
    assert reason(read(whole, hides_length=True)[1]) == "tool_calls"


@pytest.mark.parametrize(
    ("pieces", "word"),
    [
        ([calls(piece("{}", "look", index=1))], "call 1 behind 0 calls"),
        ([calls(WHOLE | {"index": 0}), calls(OTHER | {"index": 2})], "call 2 behind 1 calls"),
        ([calls(piece("{}", "look", index=-1))], "call -1 behind 0 calls"),
        ([calls(piece("{}", index=0, id="call_1"))], "without a name"),
        ([calls({"index": 0, "id": "call_1"}), says(None, reason="tool_calls")], "without a name"),
        ([calls(piece("", "look", index=0)), calls(piece("", "listen", index=0))], "becomes one of 'listen'"),
        ([calls({"index": 0, "id": 7, "function": {"name": "look"}})], "a chunk of an answer"),
        ([calls({"index": 0, "function": {"name": "look", "arguments": {"at": "sky"}}})], "a chunk of an answer"),
        ([calls({"index": "0", "function": {"name": "look", "arguments": ""}})], "a chunk of an answer"),
        ([{"choices": [{"index": 0, "delta": {"tool_calls": {"look": {}}}}]}], "a chunk of an answer"),
        ([{"choices": [{"index": 0, "delta": {"function_call": {"arguments": "{}"}}}]}], "without a name"),
    ],
)
def test_what_cannot_be_a_call_is_an_error_of_the_upstream(pieces: list[dict[str, Any]], word: str) -> None:
    with pytest.raises(UpstreamError, match="did not answer with") as caught:
        read(data(*pieces))
    assert word in caught.value.message


def test_a_call_that_has_begun_cannot_be_taken_back() -> None:
    silent: tuple[StreamReader, list[Event]] = read(data(calls({"index": 0, "id": "call_1"})))
    assert silent[0].said is False
    assert read(data(calls(piece("", "look", index=0))))[0].said is True
