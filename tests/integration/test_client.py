"""The client over real sockets, against a peer that says exactly what the test tells it to."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from janflask.errors import (
    EngineCrashedError,
    InvalidRequestError,
    JanflaskError,
    ModelLoadError,
    ProtocolError,
    TimeoutExceededError,
    UnavailableError,
)
from janflask.ipc.channel import Channel
from janflask.ipc.clients.engine import engine_stats, open_generation
from janflask.ipc.clients.supervisor import SupervisorClient
from janflask.ipc.frames import FrameReader, Message, encode
from janflask.ipc.messages.engine import Chunk, Done, Finished, Generate, GetStats, Started, Stats
from janflask.ipc.messages.error import ErrorReply
from janflask.ipc.messages.generation import GenerateRequest, Timings, Usage
from janflask.ipc.messages.supervisor import GetStates, StartModel, State, States, StopModel
from janflask.ipc.sockets import SUPERVISOR_SOCKET
from janflask.models.state import ModelState, ModelStatus
from tests.fakes.fake_engine import STATS

REQUEST = GenerateRequest(prompt="hello")
TIMINGS = Timings(cache_n=0, prompt_n=1, prompt_ms=1.0, predicted_n=2, predicted_ms=1.0, queue_ms=0.0)
DONE = Done(Usage(prompt_tokens=1, completion_tokens=2, cached_tokens=0), TIMINGS)
RUNNING = ModelState(model_id="m", status=ModelStatus.RUNNING)


class Peer:
    """A listening socket; ``take`` gives the next connection with the message that it opened with."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()

    def take(self) -> tuple[socket.socket, Message]:
        connection, _ = self.listener.accept()
        reader = FrameReader()
        while (message := reader.next()) is None:
            reader.feed(connection.recv(65536))
        return connection, message

    def answer_once(self, *replies: Message) -> Callable[[], Message]:
        """Answers one question in the background and hangs up; the result waits and gives the question."""
        asked: list[Message] = []

        def serve() -> None:
            connection, message = self.take()
            with connection:
                asked.append(message)
                for reply in replies:
                    connection.sendall(encode(reply))

        thread = threading.Thread(target=serve)
        thread.start()

        def question() -> Message:
            thread.join()
            return asked[0]

        return question


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="jf") as name:  # a socket's path must be short
        yield Path(name)


@pytest.fixture
def engine(folder: Path) -> Iterator[Peer]:
    peer = Peer(folder / "engine.sock")
    with peer.listener:
        yield peer


@pytest.fixture
def supervisor(folder: Path) -> Iterator[Peer]:
    peer = Peer(folder / SUPERVISOR_SOCKET)
    with peer.listener:
        yield peer


# --- a generation ---------------------------------------------------------------------------------------------------


def test_a_generation_from_start_to_end(engine: Peer) -> None:
    with open_generation(engine.path, REQUEST) as generation:
        connection, asked = engine.take()
        with connection:
            assert asked == Generate(REQUEST)
            assert generation.receive() == []
            assert not generation.wait(0.0)
            connection.sendall(encode(Started(1)) + encode(Chunk(0, "a")))
            assert generation.wait(5.0)
            assert generation.receive() == [Started(1), Chunk(0, "a")]
            connection.sendall(encode(Finished(0, "stop")) + encode(DONE))
            assert generation.wait(5.0)
            assert generation.receive() == [Finished(0, "stop"), DONE]
            assert generation.done
        assert generation.receive() == []  # the engine hanging up after Done is no crash


def test_a_frame_cut_at_every_byte(engine: Peer) -> None:
    with open_generation(engine.path, REQUEST) as generation:
        connection, _ = engine.take()
        with connection:
            frame = encode(Chunk(0, "é"))
            for byte in frame[:-1]:
                connection.sendall(bytes([byte]))
                assert generation.wait(5.0)
                assert generation.receive() == []
            connection.sendall(frame[-1:])
            assert generation.wait(5.0)
            assert generation.receive() == [Chunk(0, "é")]


def test_closing_is_seen_by_the_engine(engine: Peer) -> None:
    generation = open_generation(engine.path, REQUEST)
    connection, _ = engine.take()
    with connection:
        generation.close()
        generation.close()
        assert connection.recv(1) == b""


def test_an_error_comes_after_what_was_said_before_it(engine: Peer) -> None:
    with open_generation(engine.path, REQUEST) as generation:
        connection, _ = engine.take()
        with connection:
            refusal = ErrorReply.of(InvalidRequestError("too long", param="prompt"))
            connection.sendall(encode(Started(1)) + encode(refusal) + encode(Chunk(0, "never")))
            assert generation.wait(5.0)
            assert generation.receive() == [Started(1)]
            assert generation.buffered()
            assert generation.wait(0.0)
            for _ in range(2):
                with pytest.raises(JanflaskError, match="too long") as caught:
                    generation.receive()
            assert (caught.value.status, caught.value.param) == (400, "prompt")


@pytest.mark.parametrize("last", [b"", encode(Chunk(0, "abc"))[:-2]], ids=["between frames", "inside a frame"])
def test_an_engine_that_dies(engine: Peer, last: bytes) -> None:
    with open_generation(engine.path, REQUEST) as generation:
        connection, _ = engine.take()
        connection.sendall(encode(Started(1)) + last)
        connection.close()
        assert generation.receive() == [Started(1)]
        with pytest.raises(EngineCrashedError) as caught:
            generation.receive()
        assert (caught.value.status, caught.value.retry_after) == (503, 1)


def test_an_engine_that_dies_with_the_request_unread(engine: Peer) -> None:
    with open_generation(engine.path, REQUEST) as generation:
        connection, _ = engine.listener.accept()
        connection.close()
        with pytest.raises(EngineCrashedError):
            generation.receive()


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 200 OK\r\n\r\n", encode(Stats(STATS))], ids=["no frame", "misplaced"])
def test_garbage_from_an_engine(engine: Peer, garbage: bytes) -> None:
    with open_generation(engine.path, REQUEST) as generation:
        connection, _ = engine.take()
        with connection:
            connection.sendall(encode(Started(1)) + garbage)
            assert generation.receive() == [Started(1)]
            with pytest.raises(ProtocolError):
                generation.receive()


def test_no_engine(folder: Path) -> None:
    with pytest.raises(EngineCrashedError, match="cannot be reached"):
        open_generation(str(folder / "none.sock"), REQUEST)
    stale = Peer(folder / "stale.sock")
    stale.listener.close()
    with pytest.raises(EngineCrashedError, match="refused"):
        open_generation(stale.path, REQUEST)


def test_an_engine_that_takes_no_request(engine: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Channel.connected.__func__, "__defaults__", (0.05,))
    with pytest.raises(TimeoutExceededError, match="took no request"):
        open_generation(engine.path, GenerateRequest(prompt="x" * 5_000_000))


def test_stats(engine: Peer) -> None:
    question = engine.answer_once(Stats(STATS))
    assert engine_stats(engine.path, 5.0) == STATS
    assert question() == GetStats()


def test_stats_of_a_silent_engine(engine: Peer) -> None:
    with pytest.raises(TimeoutExceededError, match="no answer"):
        engine_stats(engine.path, 0.05)


def test_stats_of_an_engine_that_dies(engine: Peer) -> None:
    question = engine.answer_once()
    with pytest.raises(EngineCrashedError):
        engine_stats(engine.path, 5.0)
    question()


# --- the supervisor -------------------------------------------------------------------------------------------------


def test_start_and_wait(folder: Path, supervisor: Peer) -> None:
    question = supervisor.answer_once(State(RUNNING))
    assert SupervisorClient(folder).start_and_wait("m", {"ctx_len": 64}, 5.0) == RUNNING
    assert question() == StartModel("m", {"ctx_len": 64})


def test_a_pending_start(folder: Path, supervisor: Peer) -> None:
    with SupervisorClient(folder).start("m", {}) as pending:
        connection, asked = supervisor.take()
        with connection:
            assert asked == StartModel("m", {})
            assert pending.receive() is None
            frame = encode(State(RUNNING))
            connection.sendall(frame[:9])
            assert pending.wait(5.0)
            assert pending.receive() is None
            connection.sendall(frame[9:])
            assert pending.wait(5.0)
            assert pending.receive() == RUNNING


def test_a_failed_start(folder: Path, supervisor: Peer) -> None:
    question = supervisor.answer_once(ErrorReply.of(ModelLoadError("not a GGUF")))
    with SupervisorClient(folder).start("m", {}) as pending:
        question()
        with pytest.raises(JanflaskError, match="not a GGUF") as caught:
            pending.receive()
        assert caught.value.code == "model_load_failed"


def test_stop_and_states(folder: Path, supervisor: Peer) -> None:
    stopped = ModelState(model_id="m", status=ModelStatus.STOPPED)
    question = supervisor.answer_once(State(stopped))
    assert SupervisorClient(folder).stop("m", 5.0) == stopped
    assert question() == StopModel("m")
    question = supervisor.answer_once(States([RUNNING]))
    assert SupervisorClient(folder).states(5.0) == {"m": RUNNING}
    assert question() == GetStates()


def test_no_supervisor(folder: Path) -> None:
    asking = SupervisorClient(folder)
    for ask in (
        lambda: asking.states(1.0),
        lambda: asking.stop("m", 1.0),
        lambda: asking.start_and_wait("m", {}, 1.0),
        lambda: asking.start("m", {}),
    ):
        with pytest.raises(UnavailableError, match="supervisor") as caught:
            ask()
        assert caught.value.retry_after == 1


def test_a_supervisor_that_is_back_in_time(folder: Path) -> None:
    """First there is no socket, then one at which nobody listens any more, then a new one."""
    stale = Peer(folder / SUPERVISOR_SOCKET)
    stale.listener.close()
    returning = threading.Timer(0.2, lambda: (folder / SUPERVISOR_SOCKET).unlink())
    returning.start()
    with ThreadPoolExecutor(1) as pool:
        states = pool.submit(SupervisorClient(folder, patience=60.0).states, 60.0)
        returning.join()
        successor = Peer(folder / SUPERVISOR_SOCKET)
        with successor.listener:
            question = successor.answer_once(States([RUNNING]))
            assert states.result() == {"m": RUNNING}
    assert question() == GetStates()


def test_a_supervisor_that_is_gone_with_its_folder(folder: Path) -> None:
    with pytest.raises(UnavailableError):
        SupervisorClient(folder / "gone", patience=1e9).states(1.0)


def test_a_supervisor_that_dies_while_it_is_asked(folder: Path, supervisor: Peer) -> None:
    question = supervisor.answer_once()
    with pytest.raises(UnavailableError, match="supervisor"):
        SupervisorClient(folder).states(5.0)
    question()
    question = supervisor.answer_once()
    with SupervisorClient(folder).start("m", {}) as pending:
        question()
        with pytest.raises(UnavailableError, match="supervisor"):
            pending.receive()


def test_a_silent_supervisor(folder: Path, supervisor: Peer) -> None:
    with pytest.raises(TimeoutExceededError, match="no answer from the supervisor"):
        SupervisorClient(folder).states(0.05)


def test_a_wrong_answer(folder: Path, supervisor: Peer) -> None:
    question = supervisor.answer_once(States([]))
    with pytest.raises(ProtocolError, match="States came where a State was due"):
        SupervisorClient(folder).stop("m", 5.0)
    question()
