"""The API's side of the sockets: one connection is one generation, or one question.

Nothing here waits without a limit. Sockets are Unix stream sockets; the frames are described in ``protocol``.
"""

from __future__ import annotations

import select
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from janflask.errors import (
    EngineCrashedError,
    JanflaskError,
    ProtocolError,
    TimeoutExceededError,
    UnavailableError,
)
from janflask.ipc import protocol
from janflask.ipc.messages.generation import GenerateRequest
from janflask.ipc.protocol import (
    BeginRun,
    CancelDownload,
    CancelRun,
    Chunk,
    Detokenize,
    Done,
    Echo,
    Embed,
    Embeddings,
    ErrorReply,
    Finished,
    FrameReader,
    Generate,
    GetStates,
    GetStats,
    Message,
    RunChanged,
    RunSaid,
    StartDownload,
    Started,
    StartModel,
    State,
    States,
    Stats,
    StopModel,
    Text,
    Tokenize,
    Tokens,
    WatchModel,
    WatchRun,
)
from janflask.models.engine_info import EngineStats
from janflask.models.state import DownloadRequest, ModelState
from janflask.storage.records import Run

RECEIVE_SIZE = 256 * 1024  # bytes of one recv
SEND_TIMEOUT = 10.0  # seconds to connect and hand a request over; a healthy peer takes microseconds
RETRY_INTERVAL = 0.05  # seconds

GenerationMessage = Started | Echo | Chunk | Finished | Done
T = TypeVar("T")


def wait_readable(descriptor: int, timeout: float) -> bool:
    """True once ``descriptor`` can be read, False after ``timeout`` seconds. Works for descriptors above 1023 too."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, timeout) * 1000.0))


class _Connection:
    """A connected stream socket that frames go over. ``peer`` names the other side in error messages."""

    def __init__(self, socket_path: str, peer: str, first: Message, timeout: float = SEND_TIMEOUT) -> None:
        """Connects and sends ``first``. Raises OSError if nobody listens, TimeoutExceededError if nobody takes it."""
        frame = protocol.encode(first)
        self.peer = peer
        self._reader = FrameReader()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(socket_path)
            self._socket.sendall(frame)
            self._socket.setblocking(False)
        except TimeoutError:
            self._socket.close()
            raise TimeoutExceededError(f"{peer} took no request within {timeout:g} s", retry_after=1) from None
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def receive(self) -> bool:
        """One recv. False when nothing was there; raises EOFError when the peer is gone."""
        try:
            data = self._socket.recv(RECEIVE_SIZE)
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionError:
            data = b""
        if not data:
            raise EOFError
        self._reader.feed(data)
        return True

    def next(self) -> Message | None:
        return self._reader.next()

    def reply(self, timeout: float) -> Message:
        """The next message, within ``timeout`` seconds. Raises EOFError, ProtocolError, TimeoutExceededError."""
        deadline = time.monotonic() + timeout
        while (message := self.next()) is None:
            if not wait_readable(self.fileno(), deadline - time.monotonic()):
                raise TimeoutExceededError(f"no answer from {self.peer} within {timeout:g} s", retry_after=1)
            self.receive()
        return message


class _Waitable:
    """A connection whose answer can be waited for with poll, beside others; a context manager that closes it."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def fileno(self) -> int:
        """The socket's descriptor, for poll."""
        return self._connection.fileno()

    def close(self) -> None:
        """Idempotent."""
        self._connection.close()


class Generation(_Waitable):
    """One generation under way in an engine. Closing it cancels what is left of it.

    Use: wait until ``fileno()`` is readable (or ``wait``), then ``receive``, until a ``Done`` comes. Not thread-safe.
    """

    def __init__(self, connection: _Connection) -> None:
        super().__init__(connection)
        self._failure: JanflaskError | None = None
        self._done = False

    @property
    def done(self) -> bool:
        """The ``Done`` was handed out: nothing comes after it."""
        return self._done

    def buffered(self) -> bool:
        """``receive`` has something to tell without waiting for the socket."""
        return self._failure is not None

    def wait(self, timeout: float) -> bool:
        """True when ``receive`` has something to do, False after ``timeout`` seconds of silence."""
        return self.buffered() or wait_readable(self.fileno(), timeout)

    def receive(self) -> list[GenerationMessage]:
        """What one recv brings: all messages that are complete. Empty when only a part of a frame (or nothing) came.

        Raises EngineCrashedError when the engine is gone before ``Done``, ProtocolError on a malformed or misplaced
        frame, and an ``ErrorReply`` as the error it carries. Messages that came before the failure are handed out
        first; then ``buffered`` is true and the next call raises.
        """
        messages: list[GenerationMessage] = []
        if self._done:
            return messages
        if self._failure is None:
            try:
                self._collect(messages)
            except EOFError:
                self._failure = EngineCrashedError(
                    "the engine ended in the middle of the request; it is being started again, try once more",
                    retry_after=1,
                )
            except JanflaskError as error:
                self._failure = error
        if self._failure is not None and not messages:
            raise self._failure
        return messages

    def _collect(self, messages: list[GenerationMessage]) -> None:
        if not self._connection.receive():
            return
        while not self._done and (message := self._connection.next()) is not None:
            if isinstance(message, ErrorReply):
                raise message.to_error()
            if not isinstance(message, GenerationMessage):
                raise ProtocolError(f"an engine sent a {type(message).__name__} into a generation")
            messages.append(message)
            self._done = isinstance(message, Done)


def open_generation(socket_path: str, request: GenerateRequest) -> Generation:
    """Hands ``request`` to the engine at ``socket_path``.

    Raises EngineCrashedError when nobody listens there, TimeoutExceededError when the engine takes no request,
    ProtocolError when the request is too long for a frame.
    """
    try:
        return Generation(_Connection(socket_path, "the engine", Generate(request)))
    except OSError as error:
        raise _no_engine(error) from error


def engine_stats(socket_path: str, timeout: float) -> EngineStats:
    """The engine's load. Raises EngineCrashedError, TimeoutExceededError, ProtocolError."""
    return _ask_engine(socket_path, GetStats(), Stats, timeout).stats


def engine_tokens(socket_path: str, question: Tokenize, timeout: float) -> Tokens:
    """A text's tokens. Raises what the engine answers, EngineCrashedError, TimeoutExceededError, ProtocolError."""
    return _ask_engine(socket_path, question, Tokens, timeout)


def engine_text(socket_path: str, tokens: tuple[int, ...], timeout: float) -> str:
    """The text of tokens. Raises what the engine answers, EngineCrashedError, TimeoutExceededError, ProtocolError."""
    return _ask_engine(socket_path, Detokenize(tokens), Text, timeout).text


class PendingEmbeddings(_Waitable):
    """Embeddings that were asked for; ``fileno()`` becomes readable when the engine answers. Closing it cancels."""

    def receive(self) -> Embeddings | None:
        """The embeddings, or None while they are not whole. Raises what the engine answers, EngineCrashedError."""
        try:
            self._connection.receive()
        except EOFError as error:
            raise _no_engine(error) from error
        message = self._connection.next()
        return None if message is None else _expect(message, Embeddings)


def ask_embeddings(socket_path: str, question: Embed) -> PendingEmbeddings:
    """Hands ``question`` to the engine at ``socket_path``.

    Raises EngineCrashedError when nobody listens there, TimeoutExceededError when the engine takes no request,
    ProtocolError when the question is too long for a frame.
    """
    try:
        return PendingEmbeddings(_Connection(socket_path, "the engine", question))
    except OSError as error:
        raise _no_engine(error) from error


def _ask_engine(socket_path: str, question: Message, expected: type[T], timeout: float) -> T:
    try:
        connection = _Connection(socket_path, "the engine", question, min(timeout, SEND_TIMEOUT))
    except OSError as error:
        raise _no_engine(error) from error
    try:
        return _expect(connection.reply(timeout), expected)
    except EOFError as error:
        raise _no_engine(error) from error
    finally:
        connection.close()


class PendingStart(_Waitable):
    """A start that was asked for; ``fileno()`` becomes readable when the supervisor answers.

    Closing it gives up waiting for the start, not the start itself.
    """

    def wait(self, timeout: float) -> bool:
        """True when ``receive`` has something to do, False after ``timeout`` seconds."""
        return wait_readable(self.fileno(), timeout)

    def receive(self) -> ModelState | None:
        """The running model, or None while the answer is not whole.

        Raises what the start failed with (ModelLoadError's kin, ModelNotFoundError's, ...) and UnavailableError when
        the supervisor is gone.
        """
        try:
            self._connection.receive()
        except EOFError as error:
            raise _unreachable("the supervisor", error) from error
        message = self._connection.next()
        return None if message is None else _expect(message, State).state


class Watch(_Waitable):
    """A model that is watched; ``fileno()`` becomes readable when there is something new."""

    def receive(self) -> list[ModelState] | None:
        """The states that came; empty while one is not whole, None once nothing more will come.

        Raises what the supervisor answers.
        """
        try:
            self._connection.receive()
        except EOFError:
            return None
        states: list[ModelState] = []
        while (message := self._connection.next()) is not None:
            states.append(_expect(message, State).state)
        return states


class _Client:
    """Asks a process of the server's own. One connection a question; usable from any thread.

    One that died is followed by another within a second or so: ``patience`` is how many seconds a question waits for it
    while nobody listens. It does not wait for a server that is gone with its runtime folder.
    """

    _SOCKET: str
    _PEER: str

    def __init__(self, runtime_dir: Path, patience: float = 0.0) -> None:
        self._path = str(runtime_dir / self._SOCKET)
        self._runtime_dir = runtime_dir
        self._patience = patience

    def _connect(self, question: Message, timeout: float = SEND_TIMEOUT) -> _Connection:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return _Connection(self._path, self._PEER, question, timeout)
            except (FileNotFoundError, ConnectionRefusedError) as error:
                if time.monotonic() >= deadline or not self._runtime_dir.exists():
                    raise _unreachable(self._PEER, error) from error
            except OSError as error:
                raise _unreachable(self._PEER, error) from error
            time.sleep(RETRY_INTERVAL)

    def _ask(self, question: Message, expected: type[T], timeout: float) -> T:
        connection = self._connect(question, min(timeout, SEND_TIMEOUT))
        try:
            return _expect(connection.reply(timeout), expected)
        except EOFError as error:
            raise _unreachable(self._PEER, error) from error
        finally:
            connection.close()


class SupervisorClient(_Client):
    """Asks the supervisor whose socket is in ``runtime_dir``."""

    _SOCKET = protocol.SUPERVISOR_SOCKET
    _PEER = "the supervisor"

    def start(self, model_id: str, settings: dict[str, Any]) -> PendingStart:
        """Asks for a start and returns at once. ``settings`` override the model's own for this run."""
        return PendingStart(self._connect(StartModel(model_id, settings)))

    def start_and_wait(self, model_id: str, settings: dict[str, Any], timeout: float) -> ModelState:
        """The model once it runs. Raises what the start fails with; TimeoutExceededError leaves the start going on."""
        return self._ask(StartModel(model_id, settings), State, timeout).state

    def stop(self, model_id: str, timeout: float) -> ModelState:
        """The model once its process is gone. Stopping a model that does not run is no error."""
        return self._ask(StopModel(model_id), State, timeout).state

    def states(self, timeout: float) -> dict[str, ModelState]:
        """The models that the supervisor knows something of, by id."""
        return {state.model_id: state for state in self._ask(GetStates(), States, timeout).states}

    def download(self, request: DownloadRequest, timeout: float) -> ModelState:
        """The model whose download has begun, or was under way. Raises what is wrong with the request."""
        return self._ask(StartDownload(request), State, timeout).state

    def cancel_download(self, model_id: str, timeout: float) -> ModelState:
        """The model without its download; nothing of it is left on the disk."""
        return self._ask(CancelDownload(model_id), State, timeout).state

    def watch(self, model_id: str) -> Watch:
        """How the model is, now and at each change until nothing is under way with it."""
        return Watch(self._connect(WatchModel(model_id)))


class RunWatch(_Waitable):
    """A run that is watched; ``fileno()`` becomes readable when there is something new."""

    def receive(self) -> list[RunChanged | RunSaid] | None:
        """What came, in order; empty while a message is not whole, None once nothing more will come.

        A run that is not final by then goes on without its runner; ask again. Raises what the runner answers.
        """
        try:
            self._connection.receive()
        except EOFError:
            return None
        news: list[RunChanged | RunSaid] = []
        while (message := self._connection.next()) is not None:
            news.append(message if isinstance(message, RunSaid) else _expect(message, RunChanged))
        return news


class RunnerClient(_Client):
    """Asks the runner whose socket is in ``runtime_dir``."""

    _SOCKET = protocol.RUNNER_SOCKET
    _PEER = "the runner"

    def begin(self, thread_id: str, run_id: str, timeout: float) -> Run:
        """The run, which is carried out from now on. Raises what the runner answers, UnavailableError."""
        return self._ask(BeginRun(thread_id, run_id), RunChanged, timeout).run

    def cancel(self, thread_id: str, run_id: str, timeout: float) -> Run:
        """The run, which is about to end. Raises what the runner answers, UnavailableError."""
        return self._ask(CancelRun(thread_id, run_id), RunChanged, timeout).run

    def watch(self, thread_id: str, run_id: str) -> RunWatch:
        """How the run is, all that it has said, and what comes, until it is final."""
        return RunWatch(self._connect(WatchRun(thread_id, run_id)))


def _expect(message: Message, expected: type[T]) -> T:
    if isinstance(message, ErrorReply):
        raise message.to_error()
    if not isinstance(message, expected):
        raise ProtocolError(f"a {type(message).__name__} came where a {expected.__name__} was due")
    return message


def _no_engine(error: Exception) -> EngineCrashedError:
    reason = str(error) or "it closed the connection"
    return EngineCrashedError(
        f"the model's engine cannot be reached ({reason}); it is being started again, try once more", retry_after=1
    )


def _unreachable(peer: str, error: Exception) -> UnavailableError:
    reason = str(error) or "it closed the connection"
    return UnavailableError(f"{peer} cannot be reached ({reason}); try again in a second", retry_after=1)
