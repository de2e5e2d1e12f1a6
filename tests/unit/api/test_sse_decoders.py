"""Comments that fill a silence are seen by no decoder as anything, wherever they stand and however the bytes arrive."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
from flask import Flask, Response, g
from openai._streaming import SSEDecoder

from janflask.api.answers.chat_log import ChatListener
from janflask.api.answers.chunks import ChatChunks, CompletionChunks
from janflask.api.answers.inference import Heading
from janflask.api.answers.model_events import model_events
from janflask.api.answers.run_events import RunEventWriter
from janflask.api.answers.run_stream import run_stream
from janflask.api.answers.stored_chats import chat_stream
from janflask.api.plumbing.sse import stream
from janflask.cli.client import parse_events
from janflask.errors import EngineCrashedError
from janflask.inference.deltas import Finished, Started, TextDelta
from janflask.ipc.messages.runner import RunChanged, RunSaid
from janflask.schemas.chat import ChatRequestSchema
from janflask.schemas.completions import CompletionRequestSchema
from janflask.storage.records import Run, RunStatus
from janflask.storage.run_log import LogEvent, TextEvent, missing
from tests.fakes.scripted import DONE
from tests.unit.api.test_run_events import PIECES, REPLYING, RUN, ended

Decoder = Callable[[Iterable[bytes]], Iterator[tuple[str | None, str]]]  # pieces in; (event name, data) out


# --- decoders ---------------------------------------------------------------------------------------------------------


def openai_python(pieces: Iterable[bytes]) -> Iterator[tuple[str | None, str]]:
    for event in SSEDecoder().iter_bytes(iter(pieces)):
        yield event.event, event.data


def openai_python_by_lines(pieces: Iterable[bytes]) -> Iterator[tuple[str | None, str]]:
    decoder = SSEDecoder()
    for line in b"".join(pieces).decode().splitlines():
        if event := decoder.decode(line):
            yield event.event, event.data


def at_every_blank_line(pieces: Iterable[bytes]) -> Iterator[tuple[str | None, str]]:
    """As openai-go did it before it was mended: a blank line is an event, whatever came before it."""
    name, data = None, ""
    for line in b"".join(pieces).decode().split("\n")[:-1]:
        field, _, value = line.partition(":")
        if not line:
            yield name, data
            name, data = None, ""
        elif field == "event":
            name = value.removeprefix(" ")
        elif field == "data":
            data += value.removeprefix(" ")


def html_standard(pieces: Iterable[bytes]) -> Iterator[tuple[str | None, str]]:
    """A browser's EventSource (HTML standard, 9.2.6)."""
    name, data, rest = "", [], b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            field, _, value = line.decode().partition(":")
            if not line and data:
                yield name or None, "\n".join(data)
            if not line:
                name, data = "", []
            elif field == "event":
                name = value.removeprefix(" ")
            elif field == "data":
                data.append(value.removeprefix(" "))


def command_line(pieces: Iterable[bytes]) -> Iterator[tuple[str | None, str]]:
    for event in parse_events(b"".join(pieces).splitlines(keepends=True)):
        if not event.comment:
            yield None, event.text


DECODERS: list[Decoder] = [openai_python, openai_python_by_lines, at_every_blank_line, html_standard, command_line]


# --- streams, with a silence in every place ---------------------------------------------------------------------------


def _closing(items: Iterable[Any]) -> Any:
    yield from items


def _crashing(items: Iterable[Any]) -> Any:
    yield from items
    raise EngineCrashedError("it died")


def _often(silence: Any, items: Iterable[Any]) -> list[Any]:
    """``items`` with two silences before each and behind the last."""
    return [*chain.from_iterable((silence, silence, item) for item in items), silence, silence]


GENERATION = [[Started(7)], [TextDelta(0, "Grüße\n\n")], [TextDelta(0, "“data:”")], [Finished(0, "stop"), DONE]]
CHAT = ChatRequestSchema().load({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True})
COMPLETION = CompletionRequestSchema().load({"model": "m", "prompt": "Hi", "stream": True})


def chat(quiet: bool, make: Any) -> Response:
    heading = Heading("chatcmpl-1", "chat.completion.chunk", 1, "m")
    return stream(make(_often([], GENERATION) if quiet else GENERATION), ChatChunks(heading, CHAT))


def completion(quiet: bool, make: Any) -> Response:
    heading = Heading("cmpl-1", "text_completion", 1, "m")
    return stream(make(_often([], GENERATION) if quiet else GENERATION), CompletionChunks(heading, COMPLETION))


def run_changes() -> list[Any]:
    begun: list[Run] = [RUN, replace(REPLYING, replied_ms=None), REPLYING]
    changes: list[Any] = []
    log: list[LogEvent] = []

    def say(events: list[LogEvent]) -> None:
        changes.append(RunSaid(len(log) + 1, events))
        log.extend(events)

    for run in (*begun, ended(RunStatus.COMPLETED)):
        if run.status.is_final:
            for text in PIECES:
                say([TextEvent(text)])
        changes.append(RunChanged(run))
        say(missing(run, log))
    return changes


def run(quiet: bool, make: Any) -> Response:
    return run_stream(make(_often(None, run_changes()) if quiet else run_changes()), RunEventWriter(0))


def run_from_the_middle(quiet: bool, make: Any) -> Response:
    return run_stream(make(_often(None, run_changes()) if quiet else run_changes()), RunEventWriter(9))


def joined_chat(quiet: bool, make: Any) -> Response:
    listener = ChatListener(RUN)
    changes = make(_often(None, run_changes()) if quiet else run_changes())
    return chat_stream(listener.events(changes), listener, after=1)


STREAMS = [chat, completion, run, run_from_the_middle, joined_chat]


def sent(kind: Any, quiet: bool, make: Any = _closing) -> bytes:
    app = Flask("test")
    with app.test_request_context():
        g.request_id = "r"
        return b"".join(kind(quiet, make).response)


def split(data: bytes, at: int) -> list[bytes]:
    return [data[:at], data[at:]]


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.__name__)
@pytest.mark.parametrize("make", [_closing, _crashing], ids=["whole", "crashed"])
@pytest.mark.parametrize("kind", STREAMS, ids=lambda kind: kind.__name__)
def test_silence_is_nothing_to_a_decoder(kind: Any, make: Any, decoder: Decoder) -> None:
    plain, quiet = sent(kind, False, make), sent(kind, True, make)
    assert quiet.count(b"\n: keep-alive\n") >= 4
    expected = list(decoder([plain]))
    assert len(expected) >= 2
    for _, data in expected:
        assert data == "[DONE]" or json.loads(data)
    assert list(decoder([quiet])) == expected
    assert list(decoder([quiet[i : i + 1] for i in range(len(quiet))])) == expected


@pytest.mark.parametrize("decoder", [openai_python, html_standard], ids=lambda decoder: decoder.__name__)
@pytest.mark.parametrize("kind", STREAMS, ids=lambda kind: kind.__name__)
def test_wherever_the_bytes_are_cut(kind: Any, decoder: Decoder) -> None:
    quiet = sent(kind, True)
    expected = list(decoder([quiet]))
    for at in range(1, len(quiet)):
        assert list(decoder(split(quiet, at))) == expected, at


@pytest.mark.parametrize("kind", STREAMS, ids=lambda kind: kind.__name__)
def test_a_silence_stands_between_events_and_each_event_is_whole(kind: Any) -> None:
    """Clients that cut at blank lines get whole events, with at most comment lines before them."""
    for block in sent(kind, True).removesuffix(b": keep-alive\n" * 2).split(b"\n\n"):
        names = [line.split(b":")[0] for line in block.split(b"\n") if line and not line.startswith(b":")]
        assert names in ([], [b"data"], [b"id", b"data"], [b"event", b"data"], [b"id", b"event", b"data"])


def test_the_models_events() -> None:
    told = {"id": "m", "status": "running"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("janflask.api.answers.model_events.model_event", lambda model: told)
        data = sent(lambda quiet, make: model_events(make(_often(None, [object(), object()]))), True)
    for decoder in DECODERS:
        assert [json.loads(text) for _, text in decoder([data])] == [told, told]


def test_an_error_in_a_runs_stream_has_a_name_and_no_number() -> None:
    events = sent(run, True, _crashing).split(b"\n\n")
    name, data = [line for line in events[-2].split(b"\n") if not line.startswith(b":")]
    assert name == b"event: error"
    assert json.loads(data.removeprefix(b"data: "))["error"]["code"] == "engine_crashed"
