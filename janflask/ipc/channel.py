"""A connected socket that frames go over, and asking a process of the server's own. Nothing waits without a limit."""

from __future__ import annotations

import select
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from janflask.errors import ProtocolError, TimeoutExceededError, UnavailableError
from janflask.ipc.frames import FrameReader, Message, encode
from janflask.ipc.messages.error import ErrorReply

RECEIVE_SIZE = 64 * 1024  # bytes of one recv; from 128 KiB on every call maps and unmaps its buffer, which takes 20 µs

SEND_TIMEOUT = 10.0  # seconds to connect and hand a request over; a healthy peer takes microseconds

RETRY_INTERVAL = 0.05  # seconds

T = TypeVar("T")


def wait_readable(descriptor: int, timeout: float) -> bool:
    """True once ``descriptor`` can be read, False after ``timeout`` seconds. Works for descriptors above 1023 too."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, timeout) * 1000.0))


class Channel:
    """A connected stream socket that frames go over: the one place where frames are read and written.

    One thread receives; any may send. ``peer`` names the other side in error messages.
    """

    def __init__(self, sock: socket.socket, peer: str) -> None:
        self.peer = peer
        self._socket = sock
        self._reader = FrameReader()
        self._sending = threading.Lock()

    @classmethod
    def connected(cls, socket_path: str, peer: str, first: Message, timeout: float = SEND_TIMEOUT) -> Self:
        """Connects and sends ``first``. Raises OSError if nobody listens, TimeoutExceededError if nobody takes it."""
        frame = encode(first)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            sock.connect(socket_path)
            sock.sendall(frame)
            sock.setblocking(False)
        except TimeoutError:
            sock.close()
            raise TimeoutExceededError(f"{peer} took no request within {timeout:g} s", retry_after=1) from None
        except OSError:
            sock.close()
            raise
        return cls(sock, peer)

    def fileno(self) -> int:
        """The socket's descriptor, for poll."""
        return self._socket.fileno()

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()

    def send(self, message: Message, timeout: float | None = SEND_TIMEOUT) -> None:
        """Returns when the socket has all of it. Raises TimeoutError, OSError when the peer is gone, ProtocolError."""
        self.send_bytes(encode(message), timeout)

    def send_bytes(self, data: bytes, timeout: float | None = SEND_TIMEOUT) -> None:
        """The same for what ``encode`` gave, or the rest of it."""
        left = memoryview(data)
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._sending:
            while left:
                try:
                    left = left[self._socket.send(left, socket.MSG_DONTWAIT) :]
                except (BlockingIOError, InterruptedError):
                    self._wait(select.POLLOUT, deadline)

    def offer(self, data: bytes) -> bytes:
        """What the socket does not take at once; it never waits. Raises OSError when the peer is gone."""
        try:
            return data[self._socket.send(data, socket.MSG_DONTWAIT) :]
        except (BlockingIOError, InterruptedError):
            return data

    def receive(self) -> bool:
        """One recv. False when nothing was there; raises EOFError when the peer is gone."""
        try:
            data = self._socket.recv(RECEIVE_SIZE, socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionError:  # it went with something unread
            data = b""
        if not data:
            raise EOFError
        self._reader.feed(data)
        return True

    def next(self) -> Message | None:
        """The next message of what was received; None while it is not whole. Raises ProtocolError."""
        return self._reader.next()

    def message(self, timeout: float | None) -> Message:
        """Waits for the next message. Raises TimeoutError, EOFError when the peer is gone, ProtocolError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (message := self.next()) is None:
            self._wait(select.POLLIN, deadline)
            self.receive()
        return message

    def reply(self, timeout: float) -> Message:
        """``message`` for whoever asked. Raises EOFError, ProtocolError, TimeoutExceededError."""
        try:
            return self.message(timeout)
        except TimeoutError:
            raise TimeoutExceededError(f"no answer from {self.peer} within {timeout:g} s", retry_after=1) from None

    def _wait(self, event: int, deadline: float | None) -> None:
        poll = select.poll()
        poll.register(self._socket, event)
        if not poll.poll(None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000.0):
            raise TimeoutError(f"{self.peer} took too long")


class Waitable:
    """A connection whose answer can be waited for with poll, beside others; a context manager that closes it."""

    def __init__(self, connection: Channel) -> None:
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


class ProcessClient:
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

    def _connect(self, question: Message, timeout: float = SEND_TIMEOUT) -> Channel:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return Channel.connected(self._path, self._PEER, question, timeout)
            except (FileNotFoundError, ConnectionRefusedError) as error:
                if time.monotonic() >= deadline or not self._runtime_dir.exists():
                    raise unreachable(self._PEER, error) from error
            except OSError as error:
                raise unreachable(self._PEER, error) from error
            time.sleep(RETRY_INTERVAL)

    def _ask(self, question: Message, expected: type[T], timeout: float) -> T:
        connection = self._connect(question, min(timeout, SEND_TIMEOUT))
        try:
            return expected_reply(connection.reply(timeout), expected)
        except EOFError as error:
            raise unreachable(self._PEER, error) from error
        finally:
            connection.close()


def expected_reply(message: Message, expected: type[T]) -> T:
    """``message`` if it is of that type. Raises the error that it carries, or ProtocolError."""
    if isinstance(message, ErrorReply):
        raise message.to_error()
    if not isinstance(message, expected):
        raise ProtocolError(f"a {type(message).__name__} came where a {expected.__name__} was due")
    return message


def unreachable(peer: str, error: Exception) -> UnavailableError:
    """What to raise when ``peer`` is not there, or left in the middle."""
    reason = str(error) or "it closed the connection"
    return UnavailableError(f"{peer} cannot be reached ({reason}); try again in a second", retry_after=1)
