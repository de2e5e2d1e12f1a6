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
                ``ErrorReply``, ``Embed`` -> ``Embeddings`` | ``ErrorReply``, any number of times.
to supervisor   ``StartModel`` -> ``State`` (once it runs) | ``ErrorReply``;  ``StopModel`` -> ``State``;
                ``GetStates`` -> ``States``;  ``StartDownload``, ``CancelDownload`` -> ``State`` | ``ErrorReply``;
                ``WatchModel`` -> ``State`` at each change, until the model settles. One request a connection.
to the runner   ``BeginRun``, ``CancelRun`` -> ``RunChanged`` | ``ErrorReply``;  ``WatchRun`` -> ``RunChanged``, then
                ``RunSaid`` for what it has said so far, and both as they come. End of stream after a ``RunChanged``
                that is final and all that was said; an earlier one means that the runner is gone. One request a
                connection.
engine's birth  on a socket pair that the supervisor made: a spare one says ``Progress`` when it has loaded its code;
                ``Launch`` -> ``Progress``*, ``Ready`` | ``ErrorReply``;
                later ``Shutdown``, or ``Retire`` -> ``Retired``. End of stream on it means that the other process is
                gone.
=============== ===============================================================================================
"""

from __future__ import annotations

import struct
from typing import Annotated, Any

import msgspec

from janflask.errors import JanflaskError, ProtocolError, error_of_kind
from janflask.ipc.messages.generation import GenerateRequest, Timings, TokenLogprob, Usage
from janflask.ipc.messages.launch import EngineSpec
from janflask.models.engine_info import EngineInfo, EngineStats
from janflask.models.state import DownloadRequest, ModelState
from janflask.storage.records import Run

MAGIC = b"JF"
VERSION = 1
MAX_PAYLOAD = 64 * 1024 * 1024  # bytes; a 128k-token prompt is about 1 MB
MAX_TEXT = 1 << 20  # characters to be tokenized: an engine takes no requests meanwhile
MAX_TOKENS = 1 << 20  # to be made text
HEADER = struct.Struct(">2sBBI")
SUPERVISOR_SOCKET = "supervisor.sock"  # its name in the runtime folder
RUNNER_SOCKET = "runner.sock"


class Generate(msgspec.Struct, frozen=True):
    request: GenerateRequest


class Started(msgspec.Struct, frozen=True):
    """The request is valid and queued; from here on a failure is an ``ErrorReply`` in the stream."""

    prompt_tokens: int


class Chunk(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Text of one choice. ``text`` may be empty (bytes held back) when there are log-probabilities."""

    index: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class Echo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A part of the prompt, as a ``Chunk`` of every choice; all of it comes before the first of these."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class Finished(msgspec.Struct, frozen=True):
    index: int
    reason: str  # a FinishReason


class Done(msgspec.Struct, frozen=True):
    usage: Usage
    timings: Timings


class ErrorReply(msgspec.Struct, frozen=True):
    """A ``JanflaskError`` on its way to another process.

    ``kind`` is the code of the error's class, by which it is found again; ``code`` may be this one error's own.
    """

    message: str
    status: int
    type: str
    code: str | None = None
    param: str | None = None
    retry_after: int | None = None
    kind: str | None = None

    @classmethod
    def of(cls, error: JanflaskError) -> ErrorReply:
        kind = type(error).code
        return cls(error.message, error.status, error.type, error.code, error.param, error.retry_after, kind)

    def to_error(self) -> JanflaskError:
        return error_of_kind(
            self.kind,
            self.message,
            status=self.status,
            type=self.type,
            code=self.code,
            param=self.param,
            retry_after=self.retry_after,
        )


class GetStats(msgspec.Struct, frozen=True):
    pass


class Stats(msgspec.Struct, frozen=True):
    stats: EngineStats


class Tokenize(msgspec.Struct, frozen=True):
    """A text to be cut into tokens; two flags are ``GenerateRequest``'s, ``pieces`` asks for each token's bytes too."""

    text: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
    add_special: bool
    parse_special: bool
    pieces: bool = False


class Tokens(msgspec.Struct, frozen=True):
    ids: list[int]
    pieces: list[bytes] | None = None  # of each token, if asked for


class Detokenize(msgspec.Struct, frozen=True):
    tokens: Annotated[tuple[int, ...], msgspec.Meta(max_length=MAX_TOKENS)]


class Text(msgspec.Struct, frozen=True):
    """U+FFFD stands for bytes that are no UTF-8."""

    text: str


class Embed(msgspec.Struct, frozen=True):
    """Texts, or token ids that are taken as they are, to be made vectors.

    ``dimensions`` cuts each vector to its beginning, of length 1 again. ``first`` is the number of the first input in
    the client's request, for error messages.
    """

    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    first: int = 0


class Embeddings(msgspec.Struct, frozen=True):
    """One vector an input: little-endian 32-bit floats, of length 1; and the tokens of all inputs."""

    vectors: list[bytes]
    prompt_tokens: int


class StartModel(msgspec.Struct, frozen=True):
    """Start a model, or join a start under way, or answer at once when it runs. ``settings`` win over the model's."""

    model_id: str
    settings: dict[str, Any] = {}


class StopModel(msgspec.Struct, frozen=True):
    model_id: str


class GetStates(msgspec.Struct, frozen=True):
    pass


class StartDownload(msgspec.Struct, frozen=True):
    """Fetch a model, or join the download of the same source; answered at once."""

    request: DownloadRequest


class CancelDownload(msgspec.Struct, frozen=True):
    """End a download and remove what came of it. No error when there is none."""

    model_id: str


class WatchModel(msgspec.Struct, frozen=True):
    """Tell how a model is now, and at each change, until nothing is under way with it."""

    model_id: str


class State(msgspec.Struct, frozen=True):
    state: ModelState


class States(msgspec.Struct, frozen=True):
    """The models that the supervisor knows something of; a model on disk that was never started is not among them."""

    states: list[ModelState]


class BeginRun(msgspec.Struct, frozen=True):
    """Carry out a run that is on disk; answered at once. One that is under way or final stays as it is."""

    thread_id: str
    run_id: str


class CancelRun(msgspec.Struct, frozen=True):
    """End a run, whose reply so far stays; answered at once (``cancelling``). An ErrorReply for one that is final."""

    thread_id: str
    run_id: str


class WatchRun(msgspec.Struct, frozen=True):
    """Tell how a run is now, all that it has said, and what comes, until it is final."""

    thread_id: str
    run_id: str


class RunChanged(msgspec.Struct, frozen=True):
    run: Run


class RunSaid(msgspec.Struct, frozen=True):
    """Pieces of a run's reply, in order; ``first`` is the number of the first one, from 0."""

    first: int
    pieces: list[str]


class Launch(msgspec.Struct, frozen=True):
    """``log_path``: what the engine writes goes there from now on; None: it goes to the right place already."""

    spec: EngineSpec
    log_path: str | None = None


class Progress(msgspec.Struct, frozen=True):
    """What a starting engine is doing: ``waiting`` for a Launch, ``loading``, ``proving`` or ``measuring``."""

    stage: str
    fraction: float  # of this stage, 0 to 1


class Ready(msgspec.Struct, frozen=True):
    """The model answered a decode and the socket listens. ``notes``: what a user should know of how it runs."""

    info: EngineInfo
    notes: tuple[str, ...] = ()


class Shutdown(msgspec.Struct, frozen=True):
    """End every request with ``model_stopped``, then exit."""


class Retire(msgspec.Struct, frozen=True):
    """Take no more requests and exit, if no request is under way."""


class Retired(msgspec.Struct, frozen=True):
    """``idle`` false: a request is under way, and the engine goes on as if it had not been asked."""

    idle: bool


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
