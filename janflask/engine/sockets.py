"""A server on a Unix socket: one thread reads and writes frames, others hand it what to send.

Output goes straight from whoever has it into the socket; what the socket does not take is kept and written by this
thread when there is room, so a client that reads slowly holds nobody up. One that falls ``MAX_BUFFER`` behind is cut
off.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from janflask.engine.connection import Connection
from janflask.errors import ProtocolError
from janflask.ipc.frames import Message
from janflask.ipc.messages.error import ErrorReply

log = logging.getLogger(__name__)

MAX_BUFFER = 32 * 1024 * 1024  # bytes a client may fall behind: more than any context's worth of tokens
ACCEPT_PAUSE = 0.05  # seconds; a connection that waits would otherwise wake this thread again at once
FLUSH_TIME = 1.0  # seconds that last words may take when the engine stops


class SocketServer(ABC):
    """Listens at ``path``, whose folder is private. What to do with a message is for who inherits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(1024)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._connections: set[Connection] = set()
        self._attention: set[Connection] = set()
        self._calls: deque[Callable[[], None]] = deque()  # what others want done by this thread
        self._stopping = threading.Event()
        self._retiring: Future[bool] | None = None  # a question that waits for its answer
        self._retired = False

    # --- for who inherits ---------------------------------------------------------------------------------------

    @abstractmethod
    def connection(self, sock: socket.socket) -> Connection:
        """The client of a new connection."""

    @abstractmethod
    def handle(self, connection: Connection, message: Message) -> None:
        """Answers ``message``, now or later. A ProtocolError ends the connection."""

    @abstractmethod
    def dropped(self, connection: Connection) -> None:
        """The connection is closed; what it still waited for is of no use."""

    @abstractmethod
    def is_busy(self) -> bool:
        """A request is under way."""

    # --- from other threads -------------------------------------------------------------------------------------

    def wants_attention(self, connection: Connection) -> None:
        """There is output that its socket did not take."""
        self._attention.add(connection)
        self._wake()

    def call(self, action: Callable[[], None]) -> None:
        """Has ``action`` done by the server's thread, soon."""
        self._calls.append(action)
        self._wake()

    def stop(self) -> None:
        """Lets ``serve`` return once last words are written, after ``FLUSH_TIME`` at the latest."""
        self._stopping.set()
        self._wake()

    def retire(self) -> bool:
        """Takes no more requests and lets ``serve`` return, if none is under way. False: one is, and all goes on.

        Only one thread may ask.
        """
        self._retiring = question = Future[bool]()
        self._wake()
        return question.result()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: it is awake already
            os.write(self._wake_write, b"!")

    # --- the server's thread ------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Accepts, reads and writes until ``stop``."""
        while not self._stopping.is_set():
            self._turn(None)
        deadline = time.monotonic() + FLUSH_TIME
        while any(not c.flush() for c in self._connections) and time.monotonic() < deadline:
            self._turn(0.05)
        self._listener.close()
        for connection in list(self._connections):
            self._drop(connection)

    def _turn(self, timeout: float | None) -> None:
        for key, events in self._selector.select(timeout):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj == self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
            else:
                connection: Connection = key.data
                if events & selectors.EVENT_READ:
                    self._read(connection)
                if events & selectors.EVENT_WRITE and connection in self._connections:
                    self._attention.add(connection)
        while self._calls:
            self._calls.popleft()()
        while self._attention:
            self._attend(self._attention.pop())
        self._answer_retire()

    def _answer_retire(self) -> None:
        """Between two requests, so that each is either under way here or never taken."""
        question = self._retiring
        if question is None:
            return
        self._retiring = None
        if not self.is_busy() and not any(connection.behind for connection in self._connections):
            self._retired = True
            self._stopping.set()
        question.set_result(self._retired)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # out of descriptors: those in use go on, the client tries again
            log.error("a connection could not be accepted: %s", error)
            time.sleep(ACCEPT_PAUSE)
            return
        sock.setblocking(False)
        connection = self.connection(sock)
        self._connections.add(connection)
        self._selector.register(sock, selectors.EVENT_READ, connection)

    def _attend(self, connection: Connection) -> None:
        """Writes what waits and watches for room as long as something is left."""
        if connection not in self._connections:
            return
        done = connection.flush()
        if connection.behind > MAX_BUFFER:
            log.warning("a client fell %d bytes behind and was cut off", connection.behind)
            self._drop(connection)
            return
        events = selectors.EVENT_READ if done else selectors.EVENT_READ | selectors.EVENT_WRITE
        self._selector.modify(connection.sock, events, connection)

    def _read(self, connection: Connection) -> None:
        channel = connection.channel
        try:
            if not channel.receive():
                return
        except (EOFError, OSError):
            self._drop(connection)
            return
        try:
            while (message := channel.next()) is not None:
                if not self._retired:  # else it reads the end of the stream, and asks the supervisor for another engine
                    self.handle(connection, message)
        except ProtocolError as error:
            log.error("a client sent a bad frame: %s", error)
            connection.send(ErrorReply.of(error))
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        """Closes; what it still waited for is cancelled."""
        self._connections.discard(connection)
        self._selector.unregister(connection.sock)
        connection.close()
        self.dropped(connection)
