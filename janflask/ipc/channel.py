"""A connected socket that frames go over, and asking a process of the server's own. Nothing waits without a limit."""

from __future__ import annotations

import select
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from janflask.errors import ProtocolError, TimeoutExceededError, UnavailableError
from janflask.ipc.frames import FrameReader, Message, encode
from janflask.ipc.messages.error import ErrorReply

RECEIVE_SIZE = 256 * 1024  # bytes of one recv

SEND_TIMEOUT = 10.0  # seconds to connect and hand a request over; a healthy peer takes microseconds

RETRY_INTERVAL = 0.05  # seconds

T = TypeVar("T")


def wait_readable(descriptor: int, timeout: float) -> bool:
    """True once ``descriptor`` can be read, False after ``timeout`` seconds. Works for descriptors above 1023 too."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, timeout) * 1000.0))


class Channel:
    """A connected stream socket that frames go over. ``peer`` names the other side in error messages."""

    def __init__(self, socket_path: str, peer: str, first: Message, timeout: float = SEND_TIMEOUT) -> None:
        """Connects and sends ``first``. Raises OSError if nobody listens, TimeoutExceededError if nobody takes it."""
        frame = encode(first)
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
                return Channel(self._path, self._PEER, question, timeout)
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
