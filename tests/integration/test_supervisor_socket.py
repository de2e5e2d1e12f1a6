"""The supervisor's socket: questions, and nonsense."""

from __future__ import annotations

import os
import socket

import psutil
import pytest

from janflask.errors import (
    JanflaskError,
    UnavailableError,
)
from janflask.ipc.frames import FrameReader, encode
from janflask.ipc.messages.engine import Started
from janflask.ipc.messages.supervisor import GetStates, States
from janflask.ipc.sockets import SUPERVISOR_SOCKET
from janflask.models.state import ModelStatus
from tests.integration.engine_world import (
    LIMIT,
    World,
    alive,
    serving,
)


def test_questions_over_the_socket(world: World) -> None:
    world.model("m", "progress")
    world.model("bad", "error it is no GGUF")
    with serving(world.supervisor(), world.runtime_dir) as client:
        assert client.states(LIMIT) == {}
        assert client.start_and_wait("m", {}, LIMIT).status is ModelStatus.RUNNING
        with pytest.raises(JanflaskError, match="no GGUF"):
            client.start_and_wait("bad", {}, LIMIT)
        with pytest.raises(JanflaskError) as caught:
            client.start_and_wait("../m", {}, LIMIT)
        assert caught.value.status == 404
        assert {name: state.status for name, state in client.states(LIMIT).items()} == {
            "m": ModelStatus.RUNNING,
            "bad": ModelStatus.FAILED,
        }
        assert client.stop("m", LIMIT).status is ModelStatus.STOPPED


def test_it_tells_what_memory_there_is(world: World) -> None:
    world.model("m")
    with serving(world.supervisor(JANFLASK_MEMORY_BUDGET_GB="0.5"), world.runtime_dir) as client:
        told = client.budget(LIMIT)
    assert told.budget_bytes == 1 << 29
    assert 0 < told.total_bytes <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    "said",
    [b"", b"J", b"GET / HTTP/1.1\r\n\r\n", encode(Started(1)), b"\xff" * 200_000],
    ids=["nothing", "half a header", "HTTP", "an answer", "noise"],
)
def test_nonsense_does_not_disturb_it(world: World, said: bytes) -> None:
    world.model("m")
    with serving(world.supervisor(), world.runtime_dir) as client:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(world.runtime_dir / SUPERVISOR_SOCKET))
            try:
                connection.sendall(said)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(65536)
            except ConnectionError:
                pass  # it hung up on us
        assert client.states(LIMIT) == {}


def test_a_silent_connection_holds_nobody_up(world: World) -> None:
    world.model("m")
    with serving(world.supervisor(), world.runtime_dir) as client:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(world.runtime_dir / SUPERVISOR_SOCKET))
            assert client.start_and_wait("m", {}, LIMIT).status is ModelStatus.RUNNING


def test_a_fault_of_its_own_is_answered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.model("m")
    supervisor = world.supervisor()
    with serving(supervisor, world.runtime_dir) as client:
        with monkeypatch.context() as patch:
            patch.setattr(supervisor, "states", lambda: 1 / 0)
            with pytest.raises(JanflaskError, match="ZeroDivisionError"):
                client.states(LIMIT)
        assert client.states(LIMIT) == {}


def test_no_start_after_the_close(world: World) -> None:
    world.model("m")
    supervisor = world.supervisor()
    supervisor.start("m", {})
    supervisor.close()
    assert not alive(world.pids("m"))
    with pytest.raises(UnavailableError):
        supervisor.start("m", {})


def test_a_question_in_single_bytes(world: World) -> None:
    world.model("m")
    with serving(world.supervisor(), world.runtime_dir):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(LIMIT)
            connection.connect(str(world.runtime_dir / SUPERVISOR_SOCKET))
            for byte in encode(GetStates()):
                connection.sendall(bytes([byte]))
            reader = FrameReader()
            while (message := reader.next()) is None:
                reader.feed(connection.recv(65536))
            assert message == States([], pid=os.getpid())
