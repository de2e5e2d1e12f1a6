"""Errors as they arrive from another process."""

from __future__ import annotations

from janflask.errors import JanflaskError
from janflask.ipc.frames import FrameReader, encode
from janflask.ipc.messages.error import ErrorReply


def crossing(error: JanflaskError) -> JanflaskError:
    """``error`` after it went over a socket."""
    reader = FrameReader()
    reader.feed(encode(ErrorReply.of(error)))
    reply = reader.next()
    assert isinstance(reply, ErrorReply)
    return reply.to_error()
