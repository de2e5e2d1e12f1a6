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
                ``GetStats`` -> ``Stats``, ``Tokenize`` -> ``Tokens`` | ``ErrorReply``, ``Detokenize`` -> ``Text`` |
                ``ErrorReply``, ``Embed`` -> ``Embeddings`` | ``ErrorReply``, ``GetSpecials`` -> ``Specials``, any
                number of times.
to supervisor   ``StartModel`` -> ``State`` (once it runs) | ``ErrorReply``;  ``StopModel`` -> ``State``;
                ``GetStates`` -> ``States``;  ``StartDownload``, ``CancelDownload`` -> ``State`` | ``ErrorReply``;
                ``WatchModel`` -> ``State`` at each change, until the model settles. One request a connection.
to the runner   ``BeginRun``, ``CancelRun`` -> ``RunChanged`` | ``ErrorReply``;  ``WatchRun`` -> ``RunChanged``, then
                ``RunSaid`` for the events in its log, and both as they come: each event behind the ``RunChanged`` that
                it follows from. End of stream after a ``RunChanged`` that is final and all events; an earlier one means
                that the runner is gone. One request a connection.
engine's birth  on a socket pair that the supervisor made: a spare one says ``Progress`` when it has loaded its code;
                ``Launch`` -> ``Progress``*, ``Ready`` | ``ErrorReply``;
                later ``Shutdown``, or ``Retire`` -> ``Retired``. End of stream on it means that the other process is
                gone.
=============== ===============================================================================================
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from janflask.errors import ProtocolError
from janflask.ipc.messages.engine import (
    Chunk,
    Detokenize,
    Done,
    Echo,
    Embed,
    Embeddings,
    Finished,
    Generate,
    GetSpecials,
    GetStats,
    Launch,
    Progress,
    Ready,
    Retire,
    Retired,
    Shutdown,
    Specials,
    Started,
    Stats,
    Text,
    Tokenize,
    Tokens,
)
from janflask.ipc.messages.error import ErrorReply
from janflask.ipc.messages.runner import BeginRun, CancelRun, RunChanged, RunSaid, WatchRun
from janflask.ipc.messages.supervisor import (
    CancelDownload,
    GetStates,
    StartDownload,
    StartModel,
    State,
    States,
    StopModel,
    WatchModel,
)

MAGIC = b"JF"

VERSION = 4

MAX_PAYLOAD = 64 * 1024 * 1024  # bytes; a 128k-token prompt is about 1 MB

HEADER = struct.Struct(">2sBBI")

Message = (
    Generate
    | Started
    | Chunk
    | Echo
    | Finished
    | Done
    | ErrorReply
    | GetStats
    | Stats
    | Tokenize
    | Tokens
    | Detokenize
    | Text
    | Embed
    | Embeddings
    | GetSpecials
    | Specials
    | StartModel
    | StopModel
    | GetStates
    | StartDownload
    | CancelDownload
    | WatchModel
    | BeginRun
    | CancelRun
    | WatchRun
    | RunChanged
    | RunSaid
    | State
    | States
    | Launch
    | Progress
    | Ready
    | Shutdown
    | Retire
    | Retired
)

_KINDS: dict[int, type] = {
    1: Generate,
    2: Started,
    3: Chunk,
    4: Finished,
    5: Done,
    6: ErrorReply,
    7: GetStats,
    8: Stats,
    9: Tokenize,
    10: Tokens,
    11: Detokenize,
    12: Text,
    13: Embed,
    14: Embeddings,
    15: Echo,
    16: StartModel,
    17: StopModel,
    18: GetStates,
    19: State,
    20: States,
    21: StartDownload,
    22: CancelDownload,
    23: WatchModel,
    24: BeginRun,
    25: CancelRun,
    26: WatchRun,
    27: RunChanged,
    28: RunSaid,
    29: GetSpecials,
    30: Specials,
    32: Launch,
    33: Progress,
    34: Ready,
    35: Shutdown,
    36: Retire,
    37: Retired,
}

_KIND_OF: dict[type, int] = {cls: kind for kind, cls in _KINDS.items()}

_DECODERS: dict[int, msgspec.msgpack.Decoder[Any]] = {k: msgspec.msgpack.Decoder(cls) for k, cls in _KINDS.items()}

_ENCODER = msgspec.msgpack.Encoder()


def encode(message: Message) -> bytes:
    """One message as one frame. Raises ProtocolError when it is longer than ``MAX_PAYLOAD``."""
    payload = _ENCODER.encode(message)
    if len(payload) > MAX_PAYLOAD:
        raise ProtocolError(f"a {type(message).__name__} of {len(payload)} bytes is over the {MAX_PAYLOAD} byte limit")
    return HEADER.pack(MAGIC, VERSION, _KIND_OF[type(message)], len(payload)) + payload


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
        decoder = _DECODERS.get(kind)
        if decoder is None:
            raise ProtocolError(f"unknown frame kind {kind}")
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
            raise ProtocolError(f"a {_KINDS[kind].__name__} frame does not fit its type: {error}") from error
        return message
