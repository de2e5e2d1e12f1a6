"""Server-sent events: a stream of them, and one streamed answer from its first byte to ``[DONE]``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain

from flask import Response, g

from janflask.api.answers.chunks import DONE, ChunkWriter, data_line
from janflask.api.plumbing import access
from janflask.api.plumbing.errors import error_body, internal_error
from janflask.errors import ClientDisconnectedError, InvalidRequestError, JanflaskError, RateLimitedError
from janflask.inference.deltas import Done, Event, Events, Finished, Started, TextDelta

# Comments that fill a silence. No blank line follows them: at each blank line some decoders give out an event, even one
# without data, and then fail at parsing it (openai's for Python once there was an `id:`, older ones for Go always).
KEEP_ALIVE = b": keep-alive\n"
LOADING = b": loading the model\n"

log = logging.getLogger(__name__)


def stream(events: Events, writer: ChunkWriter) -> Response:
    """The streamed answer.

    The first event is waited for here, so what is wrong from the start is raised and becomes a true HTTP status. A
    failure after that is an error event, the stream's last.
    """
    return event_stream(lines_of(events, writer), events.close)


def lines_of(events: Events, writer: ChunkWriter) -> Iterator[bytes]:
    """The bytes of such a stream, whose first event is waited for."""
    first = next(events)
    return _lines(chain([first], events), writer)


def last_event(text: str | None) -> int | None:
    """The number in a ``Last-Event-ID``; None without one. Raises InvalidRequestError for what is no number."""
    if text is None or text == "":
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidRequestError(
            f"Last-Event-ID must be the number of an event, not {text[:40]!r}", param="Last-Event-ID"
        )
    return int(text)


def event_stream(
    lines: Iterator[bytes],
    close: Callable[[], None],
    error_name: bytes = b"",
    tell_error: Callable[[JanflaskError], bytes] | None = None,
) -> Response:
    """``lines`` as server-sent events; an error while they are made becomes the last one. ``close`` is called then.

    ``error_name`` is the error's event name, in a stream whose events have names; ``tell_error`` makes the whole event.
    Raises RateLimitedError where the caller's key has as many streams as it may.
    """
    try:
        access.hold_stream()
    except RateLimitedError:
        close()
        raise
    tell = tell_error or partial(_told_error, error_name)
    response = Response(_guarded(lines, g.request_id, tell), mimetype="text/event-stream")
    # X-Accel-Buffering tells nginx to pass each piece on at once.
    response.headers.update({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
    response.call_on_close(close)
    return response


def _lines(events: Iterator[Sequence[Event]], writer: ChunkWriter) -> Iterator[bytes]:
    """One piece for each batch of events: what came together is written together."""
    silence = LOADING  # until the engine has the request
    held: Finished | None = None  # one reason is held back, so that the last one can carry the timings
    for batch in events:
        if not batch:
            yield silence
            continue
        pieces: list[bytes] = []
        for event in batch:
            if isinstance(event, TextDelta):
                pieces.append(writer.text(event))
            elif isinstance(event, Finished):
                if held is not None:
                    pieces.append(writer.finish(held, None))
                held = event
            elif isinstance(event, Started) and silence is LOADING:
                silence = KEEP_ALIVE
                pieces.append(writer.opening())
            elif isinstance(event, Done):
                pieces.append(b"" if held is None else writer.finish(held, event))
                pieces.append(DONE)
            elif not isinstance(event, Started):
                pieces.append(writer.aside(event))
        if piece := b"".join(pieces):
            yield piece


def _told_error(name: bytes, error: JanflaskError) -> bytes:
    return (b"event: %s\n" % name if name else b"") + data_line(error_body(error))


def _guarded(lines: Iterator[bytes], request_id: str, tell: Callable[[JanflaskError], bytes]) -> Iterator[bytes]:
    try:
        yield from lines
        return
    except ClientDisconnectedError:
        log.info("request %s: the client left in mid-stream", request_id)
        return
    except JanflaskError as caught:
        log.warning("request %s failed in mid-stream: %s", request_id, caught.message)
        error = caught
    except Exception:
        log.exception("request %s failed in mid-stream", request_id)
        error = internal_error(request_id)
    yield tell(error)
