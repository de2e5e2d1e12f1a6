"""One engine process, from its birth to its death, as the supervisor sees it.

The two share a socket pair: the engine's end is inherited (its number is in ``JANFLASK_ENGINE_FD``), and no other
process ever holds it, so end of stream means that the engine is gone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from janflask.errors import EngineError, JanflaskError, ProtocolError, TimeoutExceededError
from janflask.ipc.channel import Channel
from janflask.ipc.frames import Message
from janflask.ipc.messages.engine import Launch, Progress, Ready, Retire, Retired, Retuned, Shutdown
from janflask.ipc.messages.error import ErrorReply
from janflask.ipc.messages.launch import EngineSpec
from janflask.models.engine_info import Knobs
from janflask.processes import lifeline
from janflask.processes.allocator import ENGINE_ALLOCATOR

ENGINE_FD_VARIABLE = "JANFLASK_ENGINE_FD"
SPARE_VARIABLE = "JANFLASK_ENGINE_SPARE"
LOG_LIMIT = 4 * 1024 * 1024  # bytes; a longer log is set aside when its engine starts
TAIL_LINES = 8
TAIL_BYTES = 2048
SEND_TIMEOUT = 5.0  # seconds
REAP_TIMEOUT = 2.0  # seconds from end of stream to the end of the process

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended; ``returncode`` is subprocess's (negative: a signal)."""

    returncode: int

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended it, or None."""
        if self.returncode >= 0:
            return None
        try:
            return signal.Signals(-self.returncode).name
        except ValueError:
            return f"signal {-self.returncode}"

    def __str__(self) -> str:
        return f"died of {self.signal}" if self.signal else f"exited with code {self.returncode}"


class EngineDied(Exception):  # noqa: N818 - an event, not a mistake
    """The engine ended before it was ready, without saying why."""

    def __init__(self, exit: Exit) -> None:
        super().__init__(str(exit))
        self.exit = exit


class Newborn:
    """An engine process that has not been told its model yet, and our end of its cord.

    The thread that makes it has to live as long as the process: the kernel ends the two together.
    """

    def __init__(self, command: Sequence[str], *, spare: bool = False, output: BinaryIO | None = None) -> None:
        """``output`` gets what it writes; None: our own does. A ``spare`` one loads its code before it is told.

        Raises OSError when the process cannot be started.
        """
        self.spare = spare
        self.channel, theirs = socket.socketpair()
        try:
            with theirs:
                self.process = subprocess.Popen(
                    [*command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,  # a Ctrl-C is the server's to handle
                    env={
                        **ENGINE_ALLOCATOR,
                        **os.environ,
                        ENGINE_FD_VARIABLE: str(theirs.fileno()),
                        SPARE_VARIABLE: str(int(spare)),
                        lifeline.PARENT_VARIABLE: str(os.getpid()),
                    },
                )
        except OSError:
            self.channel.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def is_waiting(self, timeout: float) -> bool:
        """A spare one has loaded its code, within ``timeout`` seconds from now, and waits for its model."""
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        if not poll.poll(timeout * 1000):
            return False
        try:
            return bool(self.channel.recv(1, socket.MSG_PEEK))  # its first Progress; or its end
        except ConnectionError:
            return False

    def end(self) -> None:
        """Makes sure that it is gone."""
        self.process.kill()
        self.process.wait()
        self.channel.close()


class EngineProcess:
    """Makes a process the engine of a model and talks to it.

    One thread waits; ``ask_to_end``, ``ask_to_retire``, ``terminate`` and ``kill`` are for any thread.
    """

    def __init__(
        self, command: Sequence[str], spec: EngineSpec, log_path: Path, newborn: Newborn | None = None
    ) -> None:
        """Makes ``newborn``, a spare one, the engine of ``spec``, or a new process if there is none.

        Raises EngineError when the process cannot be started.
        """
        self.spec = spec
        self._log_path = log_path
        try:
            with _open_log(log_path) as output:
                self._log_start = output.tell()
                born = newborn or Newborn(command, output=output)
        except OSError as error:
            if newborn is not None:
                newborn.end()
            raise EngineError(f"the engine of {spec.model_id} cannot be started: {error}") from error
        self._process, self._cord = born.process, Channel(born.channel, f"the engine of {spec.model_id}")
        self._send(Launch(spec, str(log_path) if born.spare else None))

    @property
    def pid(self) -> int:
        """The engine's process id."""
        return self._process.pid

    def wait_ready(self, timeout: float) -> Ready:
        """What the engine tells of itself once it can serve.

        Raises EngineDied when it ends first, the error that it reports, TimeoutExceededError, ProtocolError. After any
        of them the process is to be disposed of with ``close``.
        """
        deadline = time.monotonic() + timeout
        stage = ""
        while True:
            message = self._receive(max(0.0, deadline - time.monotonic()))
            if isinstance(message, Ready):
                return message
            if isinstance(message, ErrorReply):
                raise message.to_error()
            if not isinstance(message, Progress):
                raise ProtocolError(f"a starting engine sent a {type(message).__name__}")
            if message.stage != stage:
                stage = message.stage
                log.info("model %s: %s (engine %d)", self.spec.model_id, stage, self.pid)

    def wait_death(self, on_retired: Callable[[bool], None], on_retuned: Callable[[Knobs], None]) -> Exit:
        """Blocks until the engine is gone.

        ``on_retired`` gets its answers to ``ask_to_retire``, before it is gone; ``on_retuned`` its knobs when they
        change.
        """
        while True:
            try:
                message = self._receive(None)
                if isinstance(message, Retired):
                    on_retired(message.idle)
                elif isinstance(message, Retuned):
                    on_retuned(message.knobs)
            except EngineDied as death:
                return death.exit
            except JanflaskError as error:
                log.error("model %s: its engine is ended: %s", self.spec.model_id, error)
                self.kill()
                return self._reap()

    def ask_to_end(self) -> None:
        """Requests end with a clear error, then the engine exits by itself."""
        self._send(Shutdown())

    def ask_to_retire(self) -> None:
        """The engine ends if it has nothing to do; its answer is told to ``wait_death``."""
        self._send(Retire())

    def terminate(self) -> None:
        """SIGTERM, for an engine that does not listen."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def close(self) -> None:
        """Makes sure that the process is gone, and its socket's file with it."""
        self._process.kill()  # no effect on one that was reaped
        self._reap()
        self._cord.close()
        Path(self.spec.socket_path).unlink(missing_ok=True)

    def log_tail(self) -> str:
        """The last lines that this process wrote, or an empty text."""
        try:
            with self._log_path.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self._log_start, end - TAIL_BYTES))
                lines = file.read(TAIL_BYTES).decode("utf-8", "replace").splitlines()
        except OSError as error:
            return f"(its log cannot be read: {error})"
        return "\n".join([line for line in lines if line.strip()][-TAIL_LINES:])

    def _send(self, message: Message) -> None:
        # A dead or deaf engine shows at the next read, or when the time to end is over.
        with contextlib.suppress(OSError):
            self._cord.send(message, SEND_TIMEOUT)

    def _receive(self, timeout: float | None) -> Message:
        """The next message. Raises EngineDied at end of stream, TimeoutExceededError, ProtocolError."""
        try:
            return self._cord.message(timeout)
        except TimeoutError:
            raise TimeoutExceededError("the engine took too long") from None
        except EOFError:
            raise EngineDied(self._reap()) from None

    def _reap(self) -> Exit:
        try:
            return Exit(self._process.wait(REAP_TIMEOUT))
        except subprocess.TimeoutExpired:
            self._process.kill()
            return Exit(self._process.wait())


def _open_log(path: Path) -> BinaryIO:
    """Opens for appending, at the end; a log that has grown too long becomes ``<name>.1`` first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_LIMIT:
        path.replace(path.with_name(path.name + ".1"))
    file = path.open("ab")
    file.seek(0, os.SEEK_END)
    return file
