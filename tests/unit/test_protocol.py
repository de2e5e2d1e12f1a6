"""The frames between our processes: what goes in comes out, and nothing else gets through."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from janflask.errors import ConflictError, ContextLengthExceededError, JanflaskError, ProtocolError
from janflask.ipc import frames
from janflask.ipc.frames import VERSION, FrameReader, Message, encode
from janflask.ipc.messages import engine
from janflask.ipc.messages.engine import (
    Chunk,
    Detokenize,
    Done,
    Echo,
    Embed,
    Embeddings,
    Finished,
    Generate,
    GetLoad,
    GetMetrics,
    GetSpecials,
    GetStats,
    Launch,
    Load,
    Metrics,
    Progress,
    Ready,
    Retire,
    Retired,
    Retuned,
    Shutdown,
    Specials,
    Started,
    Stats,
    Text,
    Tokenize,
    Tokens,
)
from janflask.ipc.messages.error import ErrorReply
from janflask.ipc.messages.generation import GenerateRequest, Timings, Usage
from janflask.ipc.messages.launch import EngineSpec
from janflask.ipc.messages.runner import (
    BeginRun,
    CancelRun,
    GetOpenRuns,
    GetRunnerStats,
    OpenRuns,
    RunChanged,
    RunnerStats,
    RunSaid,
    WatchRun,
)
from janflask.ipc.messages.supervisor import (
    Awaited,
    AwaitedModels,
    Budget,
    CancelDownload,
    GetAwaited,
    GetBudget,
    GetStates,
    StartDownload,
    StartModel,
    State,
    States,
    StopModel,
    WatchModel,
)
from janflask.models.engine_info import EngineInfo, EngineStats, Knobs, OpenAnswer
from janflask.models.engine_settings import EngineSettings
from janflask.models.latencies import Counted
from janflask.models.sampling import SamplingParams
from janflask.models.state import DownloadRequest, DownloadState, ModelState, ModelStatus
from janflask.parsing.deltas import TokenLogprob, TopLogprob
from janflask.storage.records import Run
from janflask.storage.run_log import LifecycleEvent, ReasoningEvent, TextEvent, ToolCallEvent, UnknownEvent
from tests.fakes.crossing import crossing

KNOBS = Knobs(
    flash_attn=False, kv_unified=True, slice_size=64, cpu_threads=2, source="measured", measurements={"flash on": 1.5}
)
INFO = EngineInfo(
    model_id="m",
    model_path="/models/m/m.gguf",
    description="llama 135M Q4_1",
    architecture="llama",
    n_params=135_000_000,
    size_bytes=98_362_432,
    n_vocab=49_152,
    ctx_train=8192,
    ctx_len=2048,
    n_parallel=8,
    kv_cells=16_384,
    chat_template="{{ messages }}",
    bos_token="<|im_start|>",
    eos_token="<|im_end|>",
    add_bos=False,
    can_share_prefix=True,
    use_extra_bufts=True,
    knobs=KNOBS,
    load_seconds=0.25,
    llama_version="b1",
    metadata={"general.name": "m"},
    knows_chatml=True,
)
REQUEST = GenerateRequest(
    prompt="Grüße, 世界 👋",
    n=2,
    max_tokens=5,
    stop=("\n\n", "User:"),
    sampling=SamplingParams(seed=7, logit_bias=((3, -100.0), (5, 1.5)), top_logprobs=2),
)
STATS = EngineStats(**{item.name: index for index, item in enumerate(dataclasses.fields(EngineStats))})
OPEN_ANSWER = OpenAnswer(
    request_id="req_1",
    conversation="thread_1",
    state="prompt",
    age_seconds=1.5,
    prompt_tokens=30,
    cached_tokens=10,
    computed_tokens=8,
    answer_tokens=0,
    tokens_per_second=0.0,
)
STATE = ModelState(model_id="m", status=ModelStatus.RUNNING, socket="/run/e.sock", pid=1, notes=("a",), info=INFO)
DOWNLOAD = DownloadState(
    source="hf:org/repo:Q4_K_M",
    stage="downloading",
    transferred=3 << 30,
    total=5 << 30,
    bytes_per_second=1.5e6,
    eta_seconds=12.5,
)
TIMINGS = Timings(cache_n=1, prompt_n=2, prompt_ms=3.5, predicted_n=4, predicted_ms=5.5, queue_ms=0.0)
TOKEN = TokenLogprob("\ufffd", b"\xf0\x9f", -0.5, 17, (TopLogprob("a", b"a", -1.0, 1), TopLogprob("b", b"b", -2.0, 2)))

RUN = Run(
    id="run_1",
    thread_id="thread_1",
    assistant_id="jan",
    message_id="msg_1",
    step_id="step_1",
    created_ms=1,
    expires_ms=2,
    model="m",
    parameters={"top_k": 3},
)
EVERY_MESSAGE: list[Message] = [
    Generate(REQUEST),
    Generate(GenerateRequest(prompt=(1, 2, 3))),
    Started(12),
    Chunk(0, "text"),
    Chunk(1, "", (TOKEN,)),
    Echo("<s>Hi", (TokenLogprob("<s>", b"<s>", None, 1, width=0), TOKEN)),
    Echo("Hi"),
    Finished(1, "length"),
    Done(Usage(prompt_tokens=1, completion_tokens=2, cached_tokens=0), TIMINGS),
    ErrorReply("no", 429, "rate_limit_error", "queue_full", None, 2),
    GetStats(),
    Stats(STATS),
    Tokenize("Grüße 👋", add_special=True, parse_special=False, pieces=True),
    Tokenize("a<s>", add_special=False, parse_special=True, cuts=(2,)),
    GetSpecials(),
    Specials(("<s>", "<｜end▁of▁sentence｜>"), ("<tool_call>", "\n\n")),  # noqa: RUF001 - DeepSeek's
    Tokens([1, 49_151]),
    Tokens([1, 2], [b"\xf0\x9f", b""]),
    Detokenize((0, 49_151)),
    Text("\ufffd👋"),
    Embed(("Grüße 👋", (1, 2, 3))),
    Embeddings([b"\x00\x00\x80?", b""], 7),
    StartModel("m", {"ctx_len": "2048", "flash_attn": None}),
    StopModel("m"),
    GetStates(),
    GetAwaited(),
    GetMetrics(),
    Metrics(STATS, {"request_queue_time_seconds": Counted((1, 0, 2), 0.5)}, {"stop": 3}),
    AwaitedModels([Awaited("tiny", "failed", "no such file"), Awaited("other", "starting")]),
    GetLoad(),
    Load(STATS, [OPEN_ANSWER, dataclasses.replace(OPEN_ANSWER, request_id=None, conversation=None)]),
    GetBudget(),
    Budget(budget_bytes=3 << 30, total_bytes=4 << 30),
    GetOpenRuns(),
    OpenRuns([("thread_1", "run_1")], pid=7),
    GetRunnerStats(),
    RunnerStats(under_way=1, queued=2, parked=3, ended={"completed": 4}),
    StartDownload(
        DownloadRequest(
            source="hf:org/repo:Q4_K_M",
            model_id="m",
            name="M",
            sha256="0" * 64,
            settings={"ctx_len": 4096, "flash_attn": True},
            parameters={"stop": ["\n"]},
            metadata={"tags": ["a", {"b": None}]},
        )
    ),
    StartDownload(DownloadRequest(source="https://example.com/m.gguf")),
    CancelDownload("m"),
    WatchModel("m"),
    BeginRun("thread_1", "run_1"),
    CancelRun("thread_1", "run_1"),
    WatchRun("thread_1", "run_1"),
    RunChanged(RUN),
    RunSaid(
        3,
        [
            LifecycleEvent("run.in_progress", 7),
            ReasoningEvent("hm"),
            TextEvent("a"),
            ToolCallEvent(0, "call_1", "look", "{"),
            ToolCallEvent(0, arguments="}"),
            UnknownEvent("picture"),
        ],
    ),
    State(STATE),
    State(ModelState(model_id="m", status=ModelStatus.DOWNLOADING, download=DOWNLOAD)),
    States([STATE, ModelState(model_id="n", status=ModelStatus.FAILED, error="why")]),
    Launch(
        EngineSpec(
            model_id="m",
            model_path="/m.gguf",
            socket_path="/run/e.sock",
            cache_dir="/cache",
            settings=EngineSettings(ctx_len=64),
        )
    ),
    Progress("loading", 0.5),
    Ready(INFO, ("a note",)),
    Shutdown(),
    Retire(),
    Retired(idle=False),
    Retuned(KNOBS),
]


def read_all(reader: FrameReader) -> list[Message]:
    return list(iter(reader.next, None))


@pytest.mark.parametrize("message", EVERY_MESSAGE, ids=lambda message: type(message).__name__)
def test_a_message_survives_the_wire(message: Message) -> None:
    reader = FrameReader()
    reader.feed(encode(message))
    assert read_all(reader) == [message]
    assert reader.pending == 0


def test_every_kind_of_message_is_covered() -> None:
    assert {type(message) for message in EVERY_MESSAGE} == set(map(frames.message_class, frames._KINDS))


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        (Started(12), b"JF\x06\x02\x00\x00\x00\x10\x81\xadprompt_tokens\x0c"),
        (Chunk(0, "hé"), b"JF\x06\x03\x00\x00\x00\x07\x93\x00\xa3h\xc3\xa9\x90"),
        (
            Finished(1, "stop", "a"),
            b"JF\x06\x04\x00\x00\x00\x1b\x83\xa5index\x01\xa6reason\xa4stop\xa4stop\xa1a",
        ),
        (GetStats(), b"JF\x06\x07\x00\x00\x00\x01\x80"),
        (StopModel("m"), b"JF\x06\x11\x00\x00\x00\x0c\x81\xa8model_id\xa1m"),
        (Tokens([1, 300]), b"JF\x06\x0a\x00\x00\x00\x12\x82\xa3ids\x92\x01\xcd\x01\x2c\xa6pieces\xc0"),
        (Detokenize((1,)), b"JF\x06\x0b\x00\x00\x00\x0a\x81\xa6tokens\x91\x01"),
        (Text("h\u00e9"), b"JF\x06\x0c\x00\x00\x00\x0a\x81\xa4text\xa3h\xc3\xa9"),
        (Shutdown(), b"JF\x06\x23\x00\x00\x00\x01\x80"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_golden_frames(message: Message, frame: bytes) -> None:
    assert encode(message) == frame


def test_cut_at_every_byte() -> None:
    messages: list[Message] = [Started(3), Chunk(0, "é"), Finished(0, "stop"), Shutdown()]
    stream = b"".join(encode(message) for message in messages)
    for cut in range(len(stream) + 1):
        reader = FrameReader()
        reader.feed(stream[:cut])
        got = read_all(reader)
        reader.feed(stream[cut:])
        assert got + read_all(reader) == messages


def test_byte_by_byte() -> None:
    reader = FrameReader()
    got: list[Message] = []
    for message in EVERY_MESSAGE:
        for byte in encode(message):
            assert reader.next() is None
            reader.feed(bytes([byte]))
        got += read_all(reader)
    assert got == EVERY_MESSAGE


def frame(
    payload: bytes, magic: bytes = b"JF", version: int = VERSION, kind: int = 2, length: int | None = None
) -> bytes:
    return frames.HEADER.pack(magic, version, kind, len(payload) if length is None else length) + payload


GOOD = msgspec.msgpack.encode({"prompt_tokens": 1})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "not a janflask frame"),
        (frame(GOOD, magic=b"fJ"), "not a janflask frame"),
        (frame(GOOD, version=VERSION + 1), f"version {VERSION + 1}"),
        (frame(GOOD, version=0), "version 0"),
        (frame(GOOD, kind=0), "unknown frame kind 0"),
        (frame(GOOD, kind=255), "unknown frame kind 255"),
        (frame(b"", length=frames.MAX_PAYLOAD + 1), "over the"),
        (frame(b"", length=2**32 - 1), "over the"),
        (frame(b""), "Started frame"),
        (frame(GOOD[:-1]), "Started frame"),
        (frame(GOOD + b"\x00"), "Started frame"),
        (frame(b"\xc1"), "Started frame"),
        (frame(msgspec.msgpack.encode([])), "Started frame"),
        (frame(msgspec.msgpack.encode({})), "prompt_tokens"),
        (frame(msgspec.msgpack.encode({"prompt_tokens": "1"})), "prompt_tokens"),
        (frame(msgspec.msgpack.encode({"prompt_tokens": 1.5})), "prompt_tokens"),
        (frame(msgspec.msgpack.encode({"prompt_tokens": None})), "prompt_tokens"),
        (frame(msgspec.msgpack.encode({"prompt_tokens": True})), "prompt_tokens"),
        (frame(msgspec.msgpack.encode([0, b"bytes"]), kind=3), "Chunk frame"),
        (frame(b"\x92\x00\xa1\xff", kind=3), "Chunk frame"),
        (frame(b"\x82\xa8model_id\xa1m\xa8settings\x81\xa1x" + b"\x91" * 100_000, kind=16), "StartModel frame"),
    ],
)
def test_a_bad_frame_is_refused(data: bytes, says: str) -> None:
    reader = FrameReader()
    reader.feed(data)
    with pytest.raises(ProtocolError, match=says):
        reader.next()


def test_a_good_frame_before_a_bad_one_is_delivered() -> None:
    reader = FrameReader()
    reader.feed(encode(Started(1)) + b"garbage!")
    assert reader.next() == Started(1)
    with pytest.raises(ProtocolError):
        reader.next()


def test_a_bad_header_is_refused_before_its_payload_arrives() -> None:
    reader = FrameReader()
    reader.feed(frame(b"", length=frames.MAX_PAYLOAD + 1))
    with pytest.raises(ProtocolError, match="over the"):
        reader.next()


def test_half_a_frame_is_pending() -> None:
    reader = FrameReader()
    reader.feed(encode(Started(1))[:-1])
    assert reader.next() is None
    assert reader.pending > 0


def test_an_oversize_message_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_PAYLOAD", 100)
    with pytest.raises(ProtocolError, match="is over the 100 byte limit"):
        encode(Chunk(0, "x" * 200))


@pytest.mark.parametrize(
    "message",
    [
        Tokenize("x" * (engine.MAX_TEXT + 1), add_special=False, parse_special=False),
        Detokenize((0,) * (engine.MAX_TOKENS + 1)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_takes_an_engine_too_long_is_refused(message: Message) -> None:
    reader = FrameReader()
    reader.feed(encode(message))
    with pytest.raises(ProtocolError, match="length <="):
        reader.next()


def test_an_error_crosses_with_all_its_fields() -> None:
    error = ContextLengthExceededError("9 tokens, 8 fit", param="messages", retry_after=3)
    reader = FrameReader()
    reader.feed(encode(ErrorReply.of(error)))
    reply = reader.next()
    assert isinstance(reply, ErrorReply)
    arrived = reply.to_error()
    assert type(arrived) is ContextLengthExceededError
    for name in ("message", "status", "type", "code", "param", "retry_after"):
        assert getattr(arrived, name) == getattr(error, name)


def every_error() -> list[type[JanflaskError]]:
    found: list[type[JanflaskError]] = []
    pending: list[type[JanflaskError]] = [JanflaskError]
    while pending:
        cls = pending.pop()
        found.append(cls)
        pending += cls.__subclasses__()
    return found


@pytest.mark.parametrize("cls", every_error(), ids=lambda cls: cls.__name__)
def test_an_error_keeps_its_class(cls: type[JanflaskError]) -> None:
    """Or that of the parent which the other process knows, where it has no code of its own."""
    arrived = crossing(cls("no"))
    assert type(arrived) is next(known for known in cls.__mro__ if known is JanflaskError or "code" in vars(known))
    assert (arrived.message, str(arrived), arrived.status, arrived.code) == ("no", "no", cls.status, cls.code)


def test_a_code_of_one_error_alone_does_not_cost_it_its_class() -> None:
    arrived = crossing(ConflictError("start it first", param="model", code="model_not_running"))
    assert type(arrived) is ConflictError
    assert (arrived.code, arrived.status, arrived.param) == ("model_not_running", 409, "model")


def test_an_error_of_an_unknown_kind_is_the_base() -> None:
    arrived = ErrorReply("no", 418, "teapot", "short", kind="from_the_future").to_error()
    assert type(arrived) is JanflaskError
    assert (arrived.status, arrived.type, arrived.code) == (418, "teapot", "short")


def test_two_classes_cannot_have_one_code() -> None:
    with pytest.raises(TypeError, match="NotFoundError have the same code, 'not_found'"):
        type("Other", (JanflaskError,), {"code": "not_found"})
