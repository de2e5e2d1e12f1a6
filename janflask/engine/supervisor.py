"""The supervisor (``python -m janflask.engine.supervisor``), one a server: starts, stops and watches the engines.

It listens on ``supervisor.sock`` in the runtime folder, one thread a connection, one question a connection. It loads no
model code itself. What runs is remembered in the runtime folder, so that a supervisor that was killed is followed by
one that starts the same models again.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import shlex
import shutil
import signal
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from janflask.catalog import ModelCatalog, engine_settings
from janflask.engine import lifeline
from janflask.engine.process import EngineProcess
from janflask.engine.runtime_dir import CHANNEL_VARIABLE, check_private, check_socket_path, is_fresh
from janflask.engine.supervised import Plan, RestartPolicy, SupervisedModel
from janflask.errors import (
    ConflictError,
    EngineError,
    JanflaskError,
    ModelLoadError,
    ProtocolError,
    SettingsError,
    UnavailableError,
)
from janflask.ipc.protocol import (
    SUPERVISOR_SOCKET,
    ErrorReply,
    FrameReader,
    GetStates,
    Message,
    StartModel,
    State,
    States,
    StopModel,
    encode,
)
from janflask.settings import Settings
from janflask.types import EngineSpec, ModelState, ModelStatus

COMMAND_VARIABLE = "JANFLASK_ENGINE_COMMAND"  # replaces the engine's command line; for tests
QUESTION_TIMEOUT = 10.0  # seconds a client has to say what it wants, and to take the answer
RUNNING_FILE = "running.json"

log = logging.getLogger(__name__)


class Supervisor:
    """Every model that was ever asked for, by id. All methods are for any thread."""

    def __init__(
        self,
        settings: Settings,
        runtime_dir: Path,
        engine_command: Sequence[str] = (sys.executable, "-m", "janflask.engine"),
        policy: RestartPolicy | None = None,
    ) -> None:
        self._settings = settings
        self._runtime_dir = runtime_dir
        self._command = tuple(engine_command)
        self._policy = policy
        self._catalog = ModelCatalog(settings.models_dir)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()  # guards what follows; never held while a model starts or stops
        self._models: dict[str, SupervisedModel] = {}
        self._wanted: dict[str, dict[str, Any]] = {}  # what runs on request, with the overrides of that request
        self._closing = False

    def start(self, model_id: str, overrides: dict[str, Any]) -> ModelState:
        """Returns once the model runs. Raises what SupervisedModel.start does, and what the catalog finds wrong."""
        model = self._model(model_id)
        self._want(model_id, overrides)
        try:
            return model.start(lambda: self._plan(model_id, overrides))
        except JanflaskError:
            self._want(model_id, None)
            raise

    def stop(self, model_id: str) -> ModelState:
        """Returns once the engine is gone. Raises ModelNotFoundError for a model that nobody knows."""
        with self._lock:
            model = self._models.get(model_id)
        if model is None:
            self._catalog.get(model_id)
            return ModelState(model_id=model_id, status=ModelStatus.STOPPED)
        self._want(model_id, None)
        return model.stop()

    def states(self) -> list[ModelState]:
        """Every model that was ever asked for, by id."""
        with self._lock:
            models = sorted(self._models.items())
        return [model.state() for _, model in models]

    def restore(self) -> None:
        """Starts, in the background, what a supervisor before this one left running."""
        try:
            remembered = json.loads((self._runtime_dir / RUNNING_FILE).read_text("utf-8"))
            jobs = [(str(model_id), dict(overrides)) for model_id, overrides in remembered.items()]
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.warning("what ran before cannot be told: %s", error)
            return
        for model_id, overrides in jobs:
            log.info("model %s: it ran before this supervisor, starting it again", model_id)
            threading.Thread(target=self._restart, args=(model_id, overrides), daemon=True).start()

    def close(self) -> None:
        """Stops every model, all at once; refuses new starts."""
        with self._lock:
            self._closing = True
            models = list(self._models.values())
        stoppers = [threading.Thread(target=model.stop) for model in models]
        for thread in stoppers:
            thread.start()
        for thread in stoppers:
            thread.join()

    def _model(self, model_id: str) -> SupervisedModel:
        with self._lock:
            if self._closing:
                raise UnavailableError("the server is shutting down", retry_after=1)
            known = self._models.get(model_id)
        if known is not None:
            return known
        self._catalog.get(model_id)
        made = SupervisedModel(model_id, self._spawn, stop_timeout=self._settings.stop_timeout, policy=self._policy)
        with self._lock:
            return self._models.setdefault(model_id, made)

    def _plan(self, model_id: str, overrides: dict[str, Any]) -> Plan:
        with self._lock:
            if self._closing:
                raise UnavailableError("the server is shutting down", retry_after=1)
        card = self._catalog.get(model_id)
        if card.problem is not None:
            raise ModelLoadError(f"{model_id} cannot be started: {card.problem}", param="model")
        if card.path is None:
            raise ConflictError(f"{model_id} has no GGUF file on this server yet: download it first", param="model")
        settings = engine_settings(card.settings, self._settings, overrides)
        insists = "use_extra_bufts" in overrides and settings.use_extra_bufts
        return Plan(model_path=card.path, settings=settings, insists_on_extra_bufts=insists)

    def _spawn(self, model_id: str, plan: Plan) -> EngineProcess:
        path = self._runtime_dir / f"engine-{os.getpid()}-{next(self._numbers)}.sock"
        check_socket_path(path)
        spec = EngineSpec(
            model_id=model_id,
            model_path=plan.model_path,
            socket_path=str(path),
            cache_dir=str(self._settings.cache_dir),
            settings=plan.settings,
        )
        return EngineProcess(self._command, spec, self._settings.logs_dir / f"engine-{model_id}.log")

    def _restart(self, model_id: str, overrides: dict[str, Any]) -> None:
        try:
            self.start(model_id, overrides)
        except JanflaskError as error:
            log.warning("model %s: not started again: %s", model_id, error)

    def _want(self, model_id: str, overrides: dict[str, Any] | None) -> None:
        with self._lock:
            if overrides is None:
                changed = self._wanted.pop(model_id, None) is not None
            else:
                changed = model_id not in self._wanted
                self._wanted.setdefault(model_id, overrides)
            if not changed:
                return
            path = self._runtime_dir / RUNNING_FILE
            try:
                path.with_suffix(".tmp").write_text(json.dumps(self._wanted), "utf-8")
                path.with_suffix(".tmp").replace(path)
            except (OSError, TypeError, ValueError) as error:
                log.warning("what runs cannot be remembered: %s", error)


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
                case _:
                    raise ProtocolError(f"the supervisor answers no {type(question).__name__}")
        except JanflaskError as error:
            return ErrorReply.of(error)
        except Exception as error:
            log.exception("the supervisor failed on a %s", type(question).__name__)
            return ErrorReply.of(EngineError(f"the supervisor failed: {error!r}"))


def serve(supervisor: Supervisor, runtime_dir: Path, listening: Callable[[], None]) -> None:
    """Answers until SIGTERM or SIGINT, then stops every model. Call it from the main thread."""
    with SupervisorServer(runtime_dir / SUPERVISOR_SOCKET, supervisor) as server:
        signal.signal(signal.SIGTERM, _exit)
        signal.signal(signal.SIGINT, _exit)
        try:
            supervisor.restore()
            listening()
            server.serve_forever()
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            supervisor.close()


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def main() -> int:
    """Reads ``JANFLASK_*``, serves, and gives the exit code."""
    logging.basicConfig(
        level=logging.INFO,
        format="[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S %z",
    )
    channel = os.environ.pop(CHANNEL_VARIABLE, None)
    try:
        settings = Settings.from_env()
        logging.getLogger().setLevel(settings.log_level.upper())
        runtime_dir = settings.runtime_dir
        if runtime_dir is None:
            raise SettingsError("JANFLASK_RUNTIME_DIR: the supervisor needs one", param="JANFLASK_RUNTIME_DIR")
        check_private(runtime_dir)
        lifeline.hold_from_env(lambda: _tidy(runtime_dir))
        command = shlex.split(os.environ.get(COMMAND_VARIABLE, ""))
        supervisor = Supervisor(settings, runtime_dir, command) if command else Supervisor(settings, runtime_dir)
        serve(supervisor, runtime_dir, lambda: _say_listening(channel))
    except (SettingsError, OSError) as error:
        log.critical("the supervisor cannot start: %s", error)
        return 1
    return 0


def _tidy(runtime_dir: Path) -> None:
    """The server was killed: its own folder goes. One that the user named stays, it may have a new server by now."""
    if is_fresh(runtime_dir):
        shutil.rmtree(runtime_dir, ignore_errors=True)


def _say_listening(channel: str | None) -> None:
    """One byte for the launcher. The descriptor stays open: its end will say that this process is gone."""
    if channel is not None:
        os.write(int(channel), b"L")


if __name__ == "__main__":
    sys.exit(main())
