"""What janflask's processes say to each other, and how it looks on a Unix stream socket.

A frame::

    0      2         3       4                8
    +------+---------+-------+----------------+---------------------------+
    | "JF" | version | kind  | length (u32 BE)| MessagePack, length bytes |
    +------+---------+-------+----------------+---------------------------+

``kind`` names the message class (``_KINDS`` below), so a payload is decoded and checked against exactly one type. A
frame with another magic, version, kind, a length over ``MAX_PAYLOAD`` or fields of a wrong type raises
``ProtocolError``; the connection is of no further use then.

Conversations (the side that connected speaks first):

=============== ===============================================================================================
to an engine    ``Generate`` -> ``Started`` | ``ErrorReply``, then ``Echo``*, ``Chunk``*, a ``Finished`` per choice,
                ``Done``
                (or an ``ErrorReply`` at any point). One connection is one generation: closing it cancels.
                ``GetStats`` -> ``Stats``, ``GetMetrics`` -> ``Metrics``, ``GetLoad`` -> ``Load``,
                ``Tokenize`` -> ``Tokens`` | ``ErrorReply``, ``Detokenize`` -> ``Text`` |
                ``ErrorReply``, ``Embed`` -> ``Embeddings`` | ``ErrorReply``, ``GetSpecials`` -> ``Specials``, any
                number of times.
to supervisor   ``StartModel`` -> ``State`` (once it runs) | ``ErrorReply``;  ``StopModel`` -> ``State``;
                ``GetStates`` -> ``States``;  ``GetBudget`` -> ``Budget``;  ``GetAwaited`` -> ``AwaitedModels``;
                ``StartDownload``, ``CancelDownload`` -> ``State`` | ``ErrorReply``;
                ``WatchModel`` -> ``State`` at each change, until the model settles. One request a connection.
to the runner   ``BeginRun``, ``CancelRun`` -> ``RunChanged`` | ``ErrorReply``;  ``WatchRun`` -> ``RunChanged``, then
                ``RunSaid`` for the events in its log, and both as they come: each event behind the ``RunChanged`` that
                it follows from. End of stream after a ``RunChanged`` that is final and all events; an earlier one means
                that the runner is gone. ``GetRunnerStats`` -> ``RunnerStats``;  ``GetOpenRuns`` -> ``OpenRuns``.
                One request a connection.
engine's birth  on a socket pair that the supervisor made: a spare one says ``Progress`` when it has loaded its code;
                ``Launch`` -> ``Progress``*, ``Ready`` | ``ErrorReply``;
                later ``Shutdown``, or ``Retire`` -> ``Retired``; ``Retuned`` whenever knobs have changed. End of stream
                on it means that the other process is gone.
=============== ===============================================================================================
"""

from __future__ import annotations

import importlib
import struct
from functools import cache
from typing import Any

import msgspec

from janflask.decoding import msgpack_decoder
from janflask.errors import ProtocolError

MAGIC = b"JF"

VERSION = 6

MAX_PAYLOAD = 64 * 1024 * 1024  # bytes; a 128k-token prompt is about 1 MB

HEADER = struct.Struct(">2sBBI")

# Where in ``messages`` the class of each kind stands. No process speaks all of them, and what it does not speak it does
# not import: a server's start is mostly imports.
_KINDS: dict[int, str] = {
    1: "engine.Generate",
    2: "engine.Started",
    3: "engine.Chunk",
    4: "engine.Finished",
    5: "engine.Done",
    6: "error.ErrorReply",
    7: "engine.GetStats",
    8: "engine.Stats",
    9: "engine.Tokenize",
    10: "engine.Tokens",
    11: "engine.Detokenize",
    12: "engine.Text",
    13: "engine.Embed",
    14: "engine.Embeddings",
    15: "engine.Echo",
    16: "supervisor.StartModel",
    17: "supervisor.StopModel",
    18: "supervisor.GetStates",
    19: "supervisor.State",
    20: "supervisor.States",
    21: "supervisor.StartDownload",
    22: "supervisor.CancelDownload",
    23: "supervisor.WatchModel",
    24: "runner.BeginRun",
    25: "runner.CancelRun",
    26: "runner.WatchRun",
    27: "runner.RunChanged",
    28: "runner.RunSaid",
    29: "engine.GetSpecials",
    30: "engine.Specials",
    32: "engine.Launch",
    33: "engine.Progress",
    34: "engine.Ready",
    35: "engine.Shutdown",
    36: "engine.Retire",
    37: "engine.Retired",
    38: "engine.Retuned",
    39: "supervisor.GetAwaited",
    40: "supervisor.AwaitedModels",
    41: "runner.GetRunnerStats",
    42: "runner.RunnerStats",
    43: "engine.GetMetrics",
    44: "engine.Metrics",
    50: "engine.GetLoad",
    51: "engine.Load",
    52: "supervisor.GetBudget",
    53: "supervisor.Budget",
    54: "runner.GetOpenRuns",
    55: "runner.OpenRuns",
}

_ENCODER = msgspec.msgpack.Encoder()


class Message(msgspec.Struct, frozen=True):
    """What is said in a frame: the classes in ``messages`` that have a kind."""


@cache
def message_class(kind: int) -> type[Message]:
    """The class of a ``kind``. Raises ProtocolError when there is none."""
    if kind not in _KINDS:
        raise ProtocolError(f"unknown frame kind {kind}")
    module, _, name = _KINDS[kind].partition(".")
    found: type[Message] = getattr(importlib.import_module(f"janflask.ipc.messages.{module}"), name)
    return found


def _decoder(kind: int) -> msgspec.msgpack.Decoder[Any]:
    return msgpack_decoder(message_class(kind))


@cache
def _kind(message: type[Message]) -> int:
    name = f"{message.__module__.rpartition('.')[2]}.{message.__name__}"
    return next(kind for kind, known in _KINDS.items() if known == name)


def encode(message: Message) -> bytes:
    """One message as one frame. Raises ProtocolError when it is longer than ``MAX_PAYLOAD``."""
    payload = _ENCODER.encode(message)
    if len(payload) > MAX_PAYLOAD:
        raise ProtocolError(f"a {type(message).__name__} of {len(payload)} bytes is over the {MAX_PAYLOAD} byte limit")
    return HEADER.pack(MAGIC, VERSION, _kind(type(message)), len(payload)) + payload


class FrameReader:
    """Bytes in, messages out, however the bytes were cut.

    ``feed`` what was received, then take messages with ``next`` until it gives None; a bad frame is a ProtocolError.
    """

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    @property
    def pending(self) -> int:
        """Bytes of an unfinished frame; not 0 at end of stream means that the peer died in mid-frame."""
        return len(self._buffer)

    def next(self) -> Message | None:
        buffer = self._buffer
        if len(buffer) < HEADER.size:
            return None
        magic, version, kind, length = HEADER.unpack_from(buffer)
        if magic != MAGIC:
            raise ProtocolError(f"not a janflask frame: it starts with {bytes(magic)!r}, not {MAGIC!r}")
        if version != VERSION:
            raise ProtocolError(
                f"the peer speaks protocol version {version}, this process {VERSION}: restart the server"
            )
        decoder = _decoder(kind)
        if length > MAX_PAYLOAD:
            raise ProtocolError(f"a frame of {length} bytes is over the {MAX_PAYLOAD} byte limit")
        end = HEADER.size + length
        if len(buffer) < end:
            return None
        payload = bytes(buffer[HEADER.size : end])
        del buffer[:end]
        try:
            message: Message = decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"a {message_class(kind).__name__} frame does not fit its type: {error}") from error
        return message
