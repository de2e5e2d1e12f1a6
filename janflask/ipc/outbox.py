"""What is told to one peer by threads that must not wait for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator

from janflask.errors import ProtocolError
from janflask.ipc.channel import Channel
from janflask.ipc.frames import Message, encode


class Outbox:
    """Messages go out from the thread that has them. What the socket does not take at once its own thread sends.

    Waking that thread for each of them would take longer than sending.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._news = threading.Event()
        self._lock = threading.Lock()  # guards what follows
        self._left: deque[bytes] = deque()
        self._error: ProtocolError | OSError | None = None
        self._ended = False

    def put(self, message: Message) -> None:
        """Never waits, and raises nothing: what is wrong with the peer or the message is ``sending``'s to tell."""
        with self._lock:
            if self._error is not None:
                return
            try:
                data = encode(message)
                if not self._left:
                    data = self._channel.offer(data)
            except (ProtocolError, OSError) as error:
                self._error = error
            else:
                if not data:
                    return
                self._left.append(data)
        self._news.set()

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._news.set()

    def sending(self, pause: Callable[[], float], timeout: float) -> Iterator[None]:
        """For the outbox's own thread: returns when all has been sent and nothing more comes.

        Gives None after ``pause()`` seconds without anything to do. Raises TimeoutError when the peer takes nothing for
        ``timeout`` seconds, OSError when it is gone, ProtocolError for what cannot be told.
        """
        while True:
            if not self._news.wait(pause()):
                yield None
                continue
            self._news.clear()
            ended = self._ended
            while (data := self._next()) is not None:
                self._channel.send_bytes(data, timeout)
                with self._lock:  # it stood there until now, so that nobody overtook it
                    self._left.popleft()
            if ended:
                return

    def _next(self) -> bytes | None:
        with self._lock:
            if self._left:
                return self._left[0]
            if self._error is not None:
                raise self._error
            return None
