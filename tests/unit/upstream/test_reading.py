"""Streams that end oddly, and what servers leave out: at the reader itself, without a connection."""

from __future__ import annotations

import json
from typing import Any

import pytest

from janflask.errors import UpstreamError, UpstreamUnavailableError
from janflask.inference.deltas import Done, Event, Finished, ReasoningDelta, RefusalDelta, TextDelta
from janflask.inference.upstream.answers import Candidate, Chosen, Logprobs, Vector, Vectors
from janflask.inference.upstream.logprobs import token_logprobs
from janflask.inference.upstream.problems import Where
from janflask.inference.upstream.reading import MAX_BODY, Expected, StreamReader, WholeReader
from janflask.inference.upstream.vectors import vectors_of

WHERE = Where("http://far/v1", "m")
SSE = {"content-type": "Text/Event-Stream;charset=utf-8"}


def data(*contents: Any) -> bytes:
    return b"".join(b"data: " + (c if isinstance(c, bytes) else json.dumps(c).encode()) + b"\n\n" for c in contents)


def says(text: str | None, index: int = 0, reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": reason}]}


def read(body: bytes, n: int = 1, first_index: int = 0, **more: Any) -> tuple[StreamReader, list[Event]]:
    expected = Expected(n=n, first_index=first_index, prompt_tokens=11, **more)
    reader, events = StreamReader(expected), list[Event]()
    reader.accepted(SSE, WHERE, events)
    reader.feed(body, events)
    return reader, events


def test_indexes_are_counted_over_all_prompts() -> None:
    _, events = read(data(says("a", 1), says(None, 0, "stop"), says(None, 1, "length"), b"[DONE]"), 2, 6)
    assert events[1:-1] == [TextDelta(7, "a"), Finished(6, "stop"), Finished(7, "length")]


def test_nothing_is_read_behind_the_end() -> None:
    reader, events = read(data(says("a", reason="stop"), b"[DONE]", b"{nonsense"))
    assert reader.done
    reader.end(events)
    assert sum(isinstance(event, Done) for event in events) == 1


def test_an_end_without_done_will_do_when_every_choice_has_its_reason() -> None:
    reader, events = read(data(says("a", reason="stop")))
    assert not reader.done
    reader.end(events)
    assert isinstance(events[-1], Done)
    reader, events = read(data(says("a", reason="stop")), n=2)
    with pytest.raises(UpstreamUnavailableError):
        reader.end(events)


def test_a_reason_that_is_told_twice_counts_once() -> None:
    _, events = read(data(says("a", reason="stop"), says(None, reason="stop"), b"[DONE]"))
    assert sum(isinstance(event, Finished) for event in events) == 1


@pytest.mark.parametrize(
    ("told", "stop"),
    [({"stop_reason": "END"}, "END"), ({"matched_stop": "END"}, "END"), ({"stop_reason": 2}, None), ({}, None)],
)
def test_which_stop_string_ended_it(told: dict[str, Any], stop: str | None) -> None:
    """As vLLM and SGLang tell it; a token's id is no string."""
    chunk = says("a", reason="stop")
    chunk["choices"][0] |= told
    _, events = read(data(chunk, b"[DONE]"))
    assert events[-2] == Finished(0, "stop", stop)


def test_usage_and_timings_that_are_told() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5}}
    timings = {"cache_n": 5, "prompt_n": 4, "prompt_ms": 1.5, "predicted_n": 4, "predicted_ms": 8, "more": "x"}
    _, events = read(data(says("a", reason="stop"), {"choices": [], "usage": usage, "timings": timings}, b"[DONE]"))
    done = events[-1]
    assert isinstance(done, Done)
    assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.cached_tokens) == (9, 4, 5)
    assert (done.timings.cache_n, done.timings.prompt_ms, done.timings.queue_ms) == (5, 1.5, 0.0)


def test_usage_that_is_not_told_is_counted_here() -> None:
    _, events = read(data(says("a"), says(""), says("b"), says("c", reason="stop"), b"[DONE]"))
    done = events[-1]
    assert isinstance(done, Done)
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (11, 3)
    assert done.timings.predicted_n == 3


def test_a_refusal_is_text_where_nothing_was_asked_for_that_could_be_refused() -> None:
    _, events = read(data({"choices": [{"index": 0, "delta": {"refusal": "No."}}]}))
    assert events[1:] == [TextDelta(0, "No.")]
    _, events = read(data({"choices": [{"index": 0, "delta": {"content": "I", "refusal": "No."}}]}), refuses=True)
    assert events[1:] == [RefusalDelta(0, "No."), TextDelta(0, "I")]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thoughts_are_counted(name: str) -> None:
    thoughts = [{"choices": [{"index": 0, "delta": {name: text}}]} for text in ("h", "m")]
    answer = [*thoughts, says("a", reason="stop")]
    usage = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5}}
    _, events = read(data(*answer, usage, b"[DONE]"))
    assert events[1:4] == [ReasoningDelta(0, "h"), ReasoningDelta(0, "m"), TextDelta(0, "a")]
    assert isinstance(events[-1], Done)
    assert events[-1].usage.reasoning_tokens == 2
    usage["usage"] |= {"completion_tokens_details": {"reasoning_tokens": 4}}  # type: ignore[operator]
    told = read(data(*answer, usage, b"[DONE]"))[1][-1]
    assert isinstance(told, Done)
    assert told.usage.reasoning_tokens == 4
    guessed = read(data(*answer, b"[DONE]"))[1][-1]
    assert isinstance(guessed, Done)
    assert (guessed.usage.completion_tokens, guessed.usage.reasoning_tokens) == (3, 2)


@pytest.mark.parametrize(
    "said",
    [says("a"), says(None, reason="stop"), {"choices": [{"delta": {"reasoning": "hm"}}]}],
    ids=["text", "reason", "thought"],
)
def test_what_was_said_is_remembered(said: dict[str, Any]) -> None:
    assert read(data(says(None), {"choices": [{"delta": {"role": "assistant", "content": ""}}]}))[0].said is False
    assert read(data(said))[0].said is True


def test_what_came_before_nonsense_is_not_lost() -> None:
    reader, events = StreamReader(Expected(n=1, prompt_tokens=1)), list[Event]()
    reader.accepted(SSE, WHERE, events)
    with pytest.raises(UpstreamError):
        reader.feed(data(says("a"), b"nonsense"), events)
    assert events[-1] == TextDelta(0, "a")
    assert reader.said


def test_a_body_that_is_too_large() -> None:
    reader, events = WholeReader(), list[Event]()
    reader.feed(bytes(MAX_BODY), events)
    with pytest.raises(UpstreamError, match="less than 64 MiB"):
        reader.feed(b"x", events)


def test_tokens_of_a_place_have_numbers_of_their_own() -> None:
    """Where nobody tells ids, two candidates with the same text must not become one."""
    top = [Candidate("a", -1.0, [97]), Candidate("\ufffd", -2.0, [200]), Candidate("\ufffd", None, [201])]
    (token,) = token_logprobs(Logprobs(content=[Chosen("\ufffd", -2.0, [200], top_logprobs=top)]))
    assert len({each.id for each in token.top}) == 3
    assert token.id == token.top[1].id
    assert token.top[2].logprob == float("-inf")
    (other,) = token_logprobs(Logprobs(content=[Chosen("z", -9.0, [122], top_logprobs=top)]))
    assert other.id not in {each.id for each in other.top}
    (known,) = token_logprobs(Logprobs(content=[Chosen("z", -9.0, id=5, top_logprobs=[Candidate("z", -9.0, id=5)])]))
    assert (known.id, known.top[0].id) == (5, 5)


@pytest.mark.parametrize(
    "odd",
    [
        Logprobs(tokens=["a", "b"], token_logprobs=[-1.0]),
        Logprobs(tokens=["a"], token_logprobs=[-1.0], top_logprobs=[None, None]),
        Logprobs(content=[Chosen("a", -1.0, [300])]),
    ],
)
def test_log_probabilities_that_do_not_fit(odd: Logprobs) -> None:
    with pytest.raises(ValueError):
        token_logprobs(odd)


def test_widths_come_from_the_places_in_the_text() -> None:
    legacy = Logprobs(tokens=["<s>", "ab", "c"], token_logprobs=[None, -1.0, -2.0], text_offset=[3, 3, 5])
    assert [token.width for token in token_logprobs(legacy)] == [0, 2, None]


def test_a_vector_of_zeros_stays_one() -> None:
    assert vectors_of(Vectors([Vector([0.0, 0.0])]), 1) == [bytes(8)]


def test_vectors_of_length_one_keep_their_bits() -> None:
    raw = "mpkZP83MTD8="  # 0.6, 0.8
    assert vectors_of(Vectors([Vector(raw)]), 1)[0].hex() == "9a99193fcdcc4c3f"


def test_vectors_that_do_not_belong_together() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        vectors_of(Vectors([Vector([1.0]), Vector([1.0, 0.0])]), 2)
    with pytest.raises(ValueError, match="input 0"):
        vectors_of(Vectors([Vector([1.0], 0), Vector([1.0], 0)]), 2)
