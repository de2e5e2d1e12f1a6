"""Server-sent events: a stream of them, and one streamed answer from its first byte to ``[DONE]``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import chain

from flask import Response, g

from janflask.api.chunks import DONE, ChunkWriter, data_line
from janflask.api.errors import error_body, internal_error
from janflask.errors import ClientDisconnectedError, JanflaskError
from janflask.services.generation import Chunk, Done, Event, Finished, Started

KEEP_ALIVE = b": keep-alive\n\n"
LOADING = b": loading the model\n\n"

log = logging.getLogger(__name__)


def stream(events: Generator[Sequence[Event], None, None], writer: ChunkWriter) -> Response:
    """The streamed answer.

    The first event is waited for here, so what is wrong from the start is raised and becomes a true HTTP status. A
    failure after that is an error event, the stream's last.
    """
    first = next(events)
    return event_stream(_lines(chain([first], events), writer), events.close)


def event_stream(lines: Iterator[bytes], close: Callable[[], None]) -> Response:
    """``lines`` as server-sent events; an error while they are made becomes the last one. ``close`` is called then."""
    response = Response(_guarded(lines, g.request_id), mimetype="text/event-stream")
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
            if isinstance(event, Chunk):
                pieces.append(writer.chunk(event))
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
        if piece := b"".join(pieces):
            yield piece


def _guarded(lines: Iterator[bytes], request_id: str) -> Iterator[bytes]:
    try:
        yield from lines
    except ClientDisconnectedError:
        log.info("request %s: the client left in mid-stream", request_id)
    except JanflaskError as error:
        log.warning("request %s failed in mid-stream: %s", request_id, error.message)
        yield data_line(error_body(error))
    except Exception:
        log.exception("request %s failed in mid-stream", request_id)
        yield data_line(error_body(internal_error(request_id)))
