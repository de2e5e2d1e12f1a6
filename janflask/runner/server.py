"""The runner's socket: one thread a connection, one question a connection."""

from __future__ import annotations

import logging
import socket
import socketserver
from pathlib import Path

from janflask.errors import EngineError, JanflaskError, ProtocolError
from janflask.ipc.client import wait_readable
from janflask.ipc.protocol import (
    BeginRun,
    CancelRun,
    ErrorReply,
    FrameReader,
    Message,
    RunChanged,
    RunSaid,
    WatchRun,
    encode,
)
from janflask.processes.runtime_dir import check_socket_path
from janflask.records import Run
from janflask.runner.runner import Runner

QUESTION_TIMEOUT = 10.0  # seconds a client has to say what it wants, and to take the answer

log = logging.getLogger(__name__)


class RunnerServer(socketserver.ThreadingUnixStreamServer):
    """Answers the frames of ``ipc.protocol`` for a Runner."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, path: Path, runner: Runner) -> None:
        """Raises SettingsError when ``path`` is too long for a socket, OSError when it cannot listen there."""
        check_socket_path(path)
        path.unlink(missing_ok=True)  # a killed runner's; the runtime folder is ours alone
        self.runner = runner
        super().__init__(str(path), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing that happens on one connection ends the runner."""
        log.exception("a question to the runner failed")


class _Handler(socketserver.BaseRequestHandler):
    server: RunnerServer
    request: socket.socket

    def handle(self) -> None:
        self.request.settimeout(QUESTION_TIMEOUT)
        try:
            question = self._question()
        except (ProtocolError, TimeoutError, ConnectionError) as error:
            log.warning("a connection to the runner is closed: %s", error)
            return
        if question is None:
            return
        try:
            self._answer(question)
        except (TimeoutError, ConnectionError) as error:
            log.info("nobody took the runner's answer: %s", error)

    def _question(self) -> Message | None:
        """The first message, or None when the peer left without one."""
        reader = FrameReader()
        while (message := reader.next()) is None:
            data = self.request.recv(65536)
            if not data:
                return None
            reader.feed(data)
        return message

    def _answer(self, question: Message) -> None:
        runner = self.server.runner
        try:
            match question:
                case BeginRun(thread_id, run_id):
                    self._send(RunChanged(runner.begin(thread_id, run_id)))
                case CancelRun(thread_id, run_id):
                    self._send(RunChanged(runner.cancel(thread_id, run_id)))
                case WatchRun(thread_id, run_id):
                    self._tell(thread_id, run_id)
                case _:
                    raise ProtocolError(f"the runner answers no {type(question).__name__}")
        except JanflaskError as error:
            self._send(ErrorReply.of(error))
        except OSError:
            raise
        except Exception as error:
            log.exception("the runner failed on a %s", type(question).__name__)
            self._send(ErrorReply.of(EngineError(f"the runner failed: {error!r}")))

    def _tell(self, thread_id: str, run_id: str) -> None:
        """Sends a run's changes until it is final or nobody listens any more."""
        for change in self.server.runner.watch(thread_id, run_id):
            if change is None:
                if wait_readable(self.request.fileno(), 0):  # it says nothing more: it has gone
                    return
            elif isinstance(change, Run):
                self._send(RunChanged(change))
            else:
                self._send(RunSaid(*change))

    def _send(self, message: Message) -> None:
        self.request.sendall(encode(message))
