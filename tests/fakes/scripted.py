"""An engine and a supervisor that speak the protocol over real Unix sockets and say what a test tells them."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from janflask.engine.vocabulary import check_tokens
from janflask.errors import InvalidRequestError, JanflaskError, ModelNotFoundError
from janflask.ipc.frames import FrameReader, Message, encode
from janflask.ipc.messages.engine import (
    Chunk,
    Detokenize,
    Done,
    Embed,
    Embeddings,
    Finished,
    Generate,
    GetLoad,
    GetMetrics,
    GetSpecials,
    GetStats,
    Load,
    Metrics,
    Specials,
    Started,
    Stats,
    Text,
    Tokenize,
    Tokens,
)
from janflask.ipc.messages.error import ErrorReply
from janflask.ipc.messages.generation import GenerateRequest, Timings, Usage
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
from janflask.ipc.sockets import SUPERVISOR_SOCKET
from janflask.models.engine_info import EngineInfo, EngineStats, Knobs, OpenAnswer
from janflask.models.latencies import LATENCIES, Counted
from janflask.models.state import DownloadRequest, DownloadState, ModelState, ModelStatus

PATIENCE = 20.0  # seconds after which a fake gives up; no test waits for it unless something is wrong

INFO = EngineInfo(
    model_id="tiny",
    model_path="/models/tiny/tiny.gguf",
    description="llama 1M F32",
    architecture="llama",
    n_params=1_000_000,
    size_bytes=4_000_000,
    n_vocab=1000,
    ctx_train=2048,
    ctx_len=512,
    n_parallel=4,
    kv_cells=2048,
    chat_template="{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant] ",
    bos_token="<s>",
    eos_token="</s>",
    add_bos=True,
    can_share_prefix=True,
    use_extra_bufts=True,
    knobs=Knobs(
        flash_attn=False,
        kv_unified=True,
        slice_size=64,
        cpu_threads=2,
        source="measured",
        measurements={"flash_attn=on": 9.5},
    ),
    load_seconds=0.25,
    llama_version="0.3.36",
    metadata={"general.name": "Tiny"},
)
STATS = EngineStats(
    slots=4,
    busy=1,
    waiting=0,
    kv_cells=2048,
    kv_used=17,
    requests=3,
    prompt_tokens=30,
    cached_tokens=10,
    generated_tokens=12,
    preempted=0,
    cancelled=0,
    steps=12,
)
USAGE = Usage(prompt_tokens=7, completion_tokens=3, cached_tokens=4)
TIMINGS = Timings(cache_n=4, prompt_n=3, prompt_ms=10.0, predicted_n=3, predicted_ms=20.0, queue_ms=0.5)
DONE = Done(USAGE, TIMINGS)


COUNTED = {name: Counted((*[1] * len(latency.bounds), 2), 12.5) for name, latency in LATENCIES.items()}


class Line:
    """One connection that a test's script speaks on."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, *messages: Message) -> None:
        """All of them in one write."""
        self._connection.sendall(b"".join(encode(message) for message in messages))

    def fail(self, error: JanflaskError) -> None:
        self.send(ErrorReply.of(error))

    def is_closed_by_peer(self) -> bool:
        """Waits until the other side closes; False when it doesn't."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        if not poll.poll(PATIENCE * 1000):
            return False
        try:
            return self._connection.recv(1) == b""
        except ConnectionResetError:  # it closed without having read all that was sent
            return True


class Conversation(Line):
    """One generation that a test's script answers."""

    def __init__(self, connection: socket.socket, request: GenerateRequest) -> None:
        super().__init__(connection)
        self.request = request


Script = Callable[[Conversation], None]
WatchScript = Callable[[Line, str], None]


def say(*texts: str, reason: str = "stop") -> Script:
    """The same texts for each choice, all at once."""

    def script(conversation: Conversation) -> None:
        chunks = [Chunk(i, text) for text in texts for i in range(conversation.request.n)]
        ends = [Finished(i, reason) for i in range(conversation.request.n)]
        conversation.send(Started(7), *chunks, *ends, DONE)

    return script


class Server:
    """Accepts on a Unix socket; a thread for each connection."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen(64)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        self._socket.close()
        self.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(PATIENCE)
            reader = FrameReader()
            while (message := reader.next()) is None:
                data = connection.recv(65536)
                if not data:
                    return
                reader.feed(data)
            try:
                self.answer(connection, message)
            except (BrokenPipeError, ConnectionResetError):
                return  # the other side left while we spoke

    def answer(self, connection: socket.socket, message: Message) -> None:
        raise NotImplementedError


class ScriptedEngine(Server):
    """Plays ``script`` for each generation and keeps the requests. A token is a byte, 256 is BOS."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.script: Script = say("Hello", " world")
        self.requests: list[GenerateRequest] = []
        self.tokenized: list[Tokenize] = []
        self.embedded: list[Embed] = []
        self.asked_for_specials = 0
        self.specials = Specials(("<s>", "</s>"), ("<tool_call>", "\n\n"))
        self.refusal: JanflaskError | None = None  # of whatever is to be tokenized or embedded
        self.owed: list[OpenAnswer] = []  # what it says that it has to do
        self.is_mute = False  # it says nothing of its metrics and of what it has to do

    def answer(self, connection: socket.socket, message: Message) -> None:
        if isinstance(message, GetStats):
            connection.sendall(encode(Stats(STATS)))
        elif isinstance(message, GetMetrics) and not self.is_mute:
            connection.sendall(encode(Metrics(STATS, COUNTED, {"stop": 2, "error": 1})))
        elif isinstance(message, GetLoad) and not self.is_mute:
            connection.sendall(encode(Load(STATS, self.owed)))
        elif isinstance(message, GetSpecials):
            self.asked_for_specials += 1
            connection.sendall(encode(self.specials))
        elif isinstance(message, Tokenize):
            self.tokenized.append(message)
            connection.sendall(encode(self._tokens(message)))
        elif isinstance(message, Embed):
            self.embedded.append(message)
            connection.sendall(encode(self._embeddings(message)))
        elif isinstance(message, Detokenize):
            connection.sendall(encode(self._text(message)))
        elif isinstance(message, Generate):
            try:
                asked = message.request
                check_tokens(dict(asked.sampling.logit_bias), INFO.n_vocab, asked.bias_name, param="logit_bias")
            except InvalidRequestError as error:
                Line(connection).fail(error)
                return
            self.requests.append(message.request)
            self.script(Conversation(connection, message.request))

    @staticmethod
    def _text(message: Detokenize) -> Message:
        try:
            check_tokens(message.tokens, INFO.n_vocab, "tokens.{}")
        except InvalidRequestError as error:
            return ErrorReply.of(error)
        return Text(bytes(message.tokens).decode("utf-8", "replace"))

    def _embeddings(self, message: Embed) -> Message:
        """Of each input a vector that begins with its length, and has as many numbers as asked for, or four."""
        if self.refusal is not None:
            return ErrorReply.of(self.refusal)
        width = message.dimensions or 4
        vectors = [struct.pack(f"<{width}f", len(given), *[0.1] * (width - 1)) for given in message.inputs]
        return Embeddings(vectors, sum(map(len, message.inputs)))

    def _tokens(self, message: Tokenize) -> Message:
        if self.refusal is not None:
            return ErrorReply.of(self.refusal)
        text = message.text.encode()
        start = [256] if message.add_special else []
        pieces = [b"<s>"] * len(start) + [text[i : i + 1] for i in range(len(text))]
        return Tokens(start + list(text), pieces if message.pieces else None)


class ScriptedSupervisor(Server):
    """Knows the states that a test gives it; a start waits for ``may_start`` and then makes the model run.

    A download begins and stays as it is. Who watches a model gets what ``watch`` says.
    """

    def __init__(self, runtime_dir: Path) -> None:
        super().__init__(runtime_dir / SUPERVISOR_SOCKET)
        self.states: dict[str, ModelState] = {}
        self.running: dict[str, ModelState] = {}  # what a start makes of a model
        self.awaited: list[Awaited] = []  # what keeps the server from being ready
        self.starts: list[StartModel] = []
        self.downloads: list[DownloadRequest] = []
        self.cancelled: list[str] = []
        self.watch: WatchScript = lambda line, model_id: line.send(State(self.states[model_id]))
        self.asked = 0
        self.refusal: JanflaskError | None = None
        self.may_start = threading.Event()
        self.may_start.set()

    def run(self, model_id: str, engine: ScriptedEngine, info: EngineInfo = INFO) -> ModelState:
        """Makes a start of ``model_id`` lead to ``engine``."""
        self.running[model_id] = ModelState(
            model_id=model_id,
            status=ModelStatus.RUNNING,
            socket=str(engine.path),
            pid=4242,
            started_at=1_700_000_000,
            notes=("a note",),
            info=replace(info, model_id=model_id),
        )
        return self.running[model_id]

    def answer(self, connection: socket.socket, message: Message) -> None:
        if isinstance(message, GetStates):
            self.asked += 1
            connection.sendall(encode(States(list(self.states.values()))))
        elif isinstance(message, GetBudget):
            connection.sendall(encode(Budget(budget_bytes=3 << 30, total_bytes=4 << 30)))
        elif isinstance(message, GetAwaited):
            connection.sendall(encode(AwaitedModels(self.awaited)))
        elif isinstance(message, StopModel):
            self.states[message.model_id] = ModelState(model_id=message.model_id, status=ModelStatus.STOPPED)
            connection.sendall(encode(State(self.states[message.model_id])))
        elif isinstance(message, StartModel):
            self.starts.append(message)
            if not self.may_start.wait(PATIENCE):
                return
            connection.sendall(encode(self._start(message.model_id)))
        elif isinstance(message, StartDownload):
            connection.sendall(encode(self._download(message.request)))
        elif isinstance(message, CancelDownload):
            self.cancelled.append(message.model_id)
            connection.sendall(encode(self._cancel(message.model_id)))
        elif isinstance(message, WatchModel):
            line = Line(connection)
            if message.model_id in self.states:
                self.watch(line, message.model_id)
            else:
                line.fail(ModelNotFoundError(f"no {message.model_id}", param="model"))

    def fetch(self, model_id: str, source: str, **about: Any) -> ModelState:
        """Makes a model one that is being fetched; with ``error`` one whose download failed."""
        failed = "error" in about
        download = DownloadState(source=source, started_at=1_700_000_000, **{"stage": "downloading", **about})
        self.states[model_id] = ModelState(
            model_id=model_id,
            status=ModelStatus.NOT_DOWNLOADED if failed else ModelStatus.DOWNLOADING,
            error=download.error,
            download=replace(download, stage="failed") if failed else download,
        )
        return self.states[model_id]

    def _download(self, request: DownloadRequest) -> Message:
        if self.refusal is not None:
            return ErrorReply.of(self.refusal)
        self.downloads.append(request)
        return State(self.fetch(request.model_id or "fetched", request.source, stage="queued"))

    def _cancel(self, model_id: str) -> Message:
        state = self.states.get(model_id)
        if state is not None and state.download is not None:
            del self.states[model_id]
        return State(ModelState(model_id=model_id, status=ModelStatus.NOT_DOWNLOADED))

    def _start(self, model_id: str) -> Message:
        if self.refusal is not None:
            return ErrorReply.of(self.refusal)
        if model_id not in self.running:
            return ErrorReply.of(ModelNotFoundError(f"no {model_id}"))
        self.states[model_id] = self.running[model_id]
        return State(self.running[model_id])
