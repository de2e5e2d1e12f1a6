"""Handshakes in a poll, over real sockets."""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from janflask.connections import handshakes
from janflask.connections.handshakes import Handshakes
from janflask.tls.pair import ServerSocket, read_pair
from tests.fakes.certificates import make
from tests.integration.waiting import LIMIT


@dataclass
class Conn:
    sock: socket.socket


@dataclass
class World:
    """A poll, and what became of the connections in it."""

    context: Callable[[], ssl.SSLContext]
    poller: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    secured: list[Any] = field(default_factory=list)
    given_up: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.handshakes = Handshakes(self.poller, lambda: self.context(), self.secured.append, self._close)

    def _close(self, conn: Any) -> None:
        conn.sock.close()
        self.given_up.append(conn)

    def guest(self) -> socket.socket:
        """The client's end of a new connection."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.settimeout(LIMIT)
        self.handshakes.begin(Conn(ours))
        return theirs

    def run(self, until: Callable[[], bool]) -> None:
        while not until():
            events = self.poller.select(LIMIT)
            assert events, "nothing happens any more"
            for key, _ in events:
                key.data(key.fileobj)


@pytest.fixture
def trusted(tmp_path: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=make(tmp_path).certificate)


@pytest.fixture
def world(tmp_path: Path, trusted: ssl.SSLContext) -> Iterator[World]:
    pair = read_pair(tmp_path / "server.crt", tmp_path / "server.key")
    world = World(lambda: pair.context)
    yield world
    world.poller.close()
    for conn in world.secured:
        conn.sock.close()


def test_a_handshake_comes_to_its_end(world: World, trusted: ssl.SSLContext) -> None:
    client, done = world.guest(), []

    def shake() -> None:
        with trusted.wrap_socket(client, server_hostname="localhost") as secured:
            done.append(secured.recv(10))

    thread = threading.Thread(target=shake)
    thread.start()
    world.run(lambda: bool(world.secured))
    (conn,) = world.secured
    assert isinstance(conn.sock, ServerSocket)
    assert len(world.poller.get_map()) == 0, "it is the worker's now"
    conn.sock.setblocking(True)
    conn.sock.sendall(b"hello")
    thread.join(LIMIT)
    assert done == [b"hello"]


def test_who_leaves_or_speaks_something_else_is_given_up(world: World) -> None:
    for first in (b"", b"\x80\x01", b"\x16\x03\x01\x00\x02ab"):
        world.given_up.clear()
        with world.guest() as client:
            client.sendall(first)
            client.shutdown(socket.SHUT_WR)
            world.run(lambda: bool(world.given_up))
    assert world.secured == []
    assert len(world.poller.get_map()) == 0


def test_plain_http_hears_the_whole_answer(world: World) -> None:
    with world.guest() as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        world.run(lambda: next(iter(world.handshakes._guests.values())).leaves)
        client.sendall(b"and more, which nobody reads")
        client.shutdown(socket.SHUT_WR)
        world.run(lambda: bool(world.given_up))
        assert client.recv(1 << 16) == handshakes.plain_answer()
        assert client.recv(1) == b""


def test_those_whose_time_is_over_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "LOOK", 0.0)
    with world.guest() as silent, world.guest() as half, world.guest() as plain:
        half.sendall(b"\x16\x03\x01\x02\x00")
        plain.sendall(b"GET /")
        world.run(lambda: any(guest.leaves for guest in world.handshakes._guests.values()))
        world.handshakes.expire()
        assert world.given_up == []
        world.handshakes.expire(0.0)
        world.handshakes.expire()
        assert len(world.given_up) == 3
        assert silent.recv(1) == half.recv(1) == b""
    assert len(world.poller.get_map()) == 0


def test_no_error_comes_through_to_the_worker(world: World) -> None:
    def fail() -> ssl.SSLContext:
        raise OSError("no")

    world.context = fail
    with world.guest() as client:
        client.sendall(b"\x16\x03\x01\x02\x00")
        world.run(lambda: bool(world.given_up))
    assert len(world.poller.get_map()) == 0
