"""The supervisor's socket: one thread a connection, one question a connection."""

from __future__ import annotations

import logging
import select
import socket
import socketserver
from pathlib import Path
from typing import TYPE_CHECKING

from janflask.errors import EngineError, JanflaskError, ProtocolError
from janflask.ipc.protocol import (
    CancelDownload,
    ErrorReply,
    FrameReader,
    GetStates,
    Message,
    StartDownload,
    StartModel,
    State,
    States,
    StopModel,
    WatchModel,
    encode,
)
from janflask.processes.runtime_dir import check_socket_path

if TYPE_CHECKING:  # that module runs as the process's main one: imported by name it would be there twice
    from janflask.engine.supervisor import Supervisor

QUESTION_TIMEOUT = 10.0  # seconds a client has to say what it wants, and to take the answer

log = logging.getLogger(__name__)


class SupervisorServer(socketserver.ThreadingUnixStreamServer):
    """Answers the frames of ``ipc.protocol`` for a Supervisor."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, path: Path, supervisor: Supervisor) -> None:
        """Raises SettingsError when ``path`` is too long for a socket, OSError when it cannot listen there."""
        check_socket_path(path)
        path.unlink(missing_ok=True)  # a killed supervisor's; the runtime folder is ours alone
        self.supervisor = supervisor
        super().__init__(str(path), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing that happens on one connection ends the supervisor."""
        log.exception("a question to the supervisor failed")


class _Handler(socketserver.BaseRequestHandler):
    server: SupervisorServer
    request: socket.socket

    def handle(self) -> None:
        self.request.settimeout(QUESTION_TIMEOUT)
        try:
            question = self._question()
        except (ProtocolError, TimeoutError, ConnectionError) as error:
            log.warning("a connection to the supervisor is closed: %s", error)
            return
        if question is None:
            return
        try:
            if isinstance(question, WatchModel):
                self._tell(question.model_id)
            else:
                self.request.sendall(encode(self._answer(question)))
        except (TimeoutError, ConnectionError) as error:
            log.info("nobody took the supervisor's answer: %s", error)

    def _question(self) -> Message | None:
        """The first message, or None when the peer left without one."""
        reader = FrameReader()
        while (message := reader.next()) is None:
            data = self.request.recv(65536)
            if not data:
                return None
            reader.feed(data)
        return message

    def _tell(self, model_id: str) -> None:
        """Sends a model's states until it settles or nobody listens any more."""
        try:
            for state in self.server.supervisor.watch(model_id):
                if state is not None:
                    self.request.sendall(encode(State(state)))
                elif select.select([self.request], [], [], 0)[0]:  # it says nothing more: it has gone
                    return
        except JanflaskError as error:
            self.request.sendall(encode(ErrorReply.of(error)))

    def _answer(self, question: Message) -> Message:
        supervisor = self.server.supervisor
        try:
            match question:
                case StartModel(model_id, settings):
                    return State(supervisor.start(model_id, settings))
                case StopModel(model_id):
                    return State(supervisor.stop(model_id))
                case GetStates():
                    return States(supervisor.states())
                case StartDownload(request):
                    return State(supervisor.download(request))
                case CancelDownload(model_id):
                    return State(supervisor.cancel_download(model_id))
                case _:
                    raise ProtocolError(f"the supervisor answers no {type(question).__name__}")
        except JanflaskError as error:
            return ErrorReply.of(error)
        except Exception as error:
            log.exception("the supervisor failed on a %s", type(question).__name__)
            return ErrorReply.of(EngineError(f"the supervisor failed: {error!r}"))
