"""A process's socket: one thread a connection, one question a connection, and the replies to it."""

from __future__ import annotations

import logging
import socket
import socketserver
from collections.abc import Callable, Iterable
from pathlib import Path

from janflask.errors import EngineError, JanflaskError, ProtocolError
from janflask.ipc.channel import Channel, wait_readable
from janflask.ipc.frames import Message
from janflask.ipc.messages.error import ErrorReply
from janflask.processes.runtime_dir import check_socket_path

QUESTION_TIMEOUT = 10.0  # seconds a client has to say what it wants, and to take each reply

# None: nothing new, look whether somebody listens still. The channel is for what other threads have to tell.
Answer = Callable[[Message, Channel], Iterable[Message | None]]

log = logging.getLogger(__name__)


class QuestionServer(socketserver.ThreadingUnixStreamServer):
    """Answers the frames of ``ipc.frames`` by ``answer``; what that raises is the last reply.

    Args:
        path: of the socket.
        who: what messages call this process.
        answer: called in a thread of the connection's own.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, path: Path, who: str, answer: Answer) -> None:
        """Raises SettingsError when ``path`` is too long for a socket, OSError when it cannot listen there."""
        check_socket_path(path)
        path.unlink(missing_ok=True)  # a killed process's; the runtime folder is ours alone
        self.who = who
        self.answer = answer
        super().__init__(str(path), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing that happens on one connection ends the process."""
        log.exception("a question to the %s failed", self.who)


class _Handler(socketserver.BaseRequestHandler):
    server: QuestionServer
    request: socket.socket

    def handle(self) -> None:
        self.channel = Channel(self.request, f"a client of the {self.server.who}")
        try:
            question = self.channel.message(QUESTION_TIMEOUT)
        except EOFError:
            return
        except (ProtocolError, TimeoutError) as error:
            log.warning("a connection to the %s is closed: %s", self.server.who, error)
            return
        try:
            self._reply(question)
        except (TimeoutError, ConnectionError) as error:
            log.info("nobody took the answer of the %s: %s", self.server.who, error)

    def _reply(self, question: Message) -> None:
        """Sends the replies until they end or nobody listens any more."""
        try:
            for reply in self.server.answer(question, self.channel):
                if reply is not None:
                    self._send(reply)
                elif wait_readable(self.request.fileno(), 0):  # it says nothing more: it has gone
                    return
        except JanflaskError as error:
            self._send(ErrorReply.of(error))
        except (TimeoutError, ConnectionError):
            raise
        except Exception as error:
            log.exception("the %s failed on a %s", self.server.who, type(question).__name__)
            self._send(ErrorReply.of(EngineError(f"the {self.server.who} failed: {error!r}")))

    def _send(self, message: Message) -> None:
        self.channel.send(message, QUESTION_TIMEOUT)
