"""gunicorn's master starts supervisor and runner and keeps them up: the hooks of the configuration. Light on imports.

The order matters. ``on_starting`` refuses what cannot work (the port is taken) before anything runs. ``when_ready``
comes after the bind and before the first worker: it makes the runtime folder, tells the workers about it through
``JANFLASK_RUNTIME_DIR``, and starts the two. For each a thread of the master then waits for its death. It learns of it
from a socket pair's end of stream, since the master reaps every child by ``waitpid(-1)`` and no exit status is left for
anybody else. On SIGHUP gunicorn reads the configuration again; this module and its processes stay.
"""

from __future__ import annotations

import atexit
import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any, NoReturn

from janflask.errors import SettingsError
from janflask.ipc.shutdown import THIS_PROCESS
from janflask.processes import lifeline
from janflask.processes.restart import RestartPolicy, Restarts
from janflask.processes.runtime_dir import CHANNEL_VARIABLE, RuntimeDir
from janflask.settings import Settings

RUNTIME_VARIABLE = "JANFLASK_RUNTIME_DIR"
START_TIMEOUT = 30.0  # seconds until a process has to listen
STOP_MARGIN = 3.0  # seconds that a stop may take beyond stop_timeout
POLICY = RestartPolicy(first_delay=0.25, max_delay=10.0, max_deaths=None)

# A worker must not be forked while another process is: it would inherit, and keep open, the pipe by which Popen learns
# that the exec succeeded.
_no_fork = threading.RLock()
os.register_at_fork(before=_no_fork.acquire, after_in_parent=_no_fork.release, after_in_child=_no_fork.release)


class Kept:
    """A process of the server's own, started again whenever it dies. Each method is called once.

    Args:
        name: what it is called in messages.
        module: what Python runs.
        loss: what goes with it when it dies, for the log.
    """

    def __init__(self, name: str, module: str, loss: str, settings: Settings, log: logging.Logger) -> None:
        self.name = name
        self._module = module
        self._loss = loss
        self._settings = settings
        self._log = log
        self._owner = os.getpid()
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins it. Raises OSError."""
        self._channel = self._spawn()

    def wait_listening(self) -> None:
        """Returns when it listens, and is looked after from then on. Raises TimeoutError or OSError."""
        channel = self._channel
        channel.settimeout(START_TIMEOUT)
        try:
            first = channel.recv(1)
        except TimeoutError:
            raise TimeoutError(f"it did not listen within {START_TIMEOUT:g} s") from None
        if not first:
            raise OSError("it ended at once; its message is above")
        channel.settimeout(None)
        self._thread = threading.Thread(target=self._watch, args=(channel,), name=self.name, daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Ends it: asked to for ``timeout`` seconds, then killed."""
        self._stopping.set()
        if self._process is not None:
            self._process.terminate()
            if self._thread is not None:
                self._thread.join(timeout)
            self._process.kill()  # no effect on one that is gone

    def _spawn(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs, _no_fork:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),  # and nothing else: not the port, nor a worker's files
                start_new_session=True,  # a Ctrl-C in the terminal is the master's to handle
                env={
                    **os.environ,
                    **self._settings.to_env(),
                    RUNTIME_VARIABLE: os.environ[RUNTIME_VARIABLE],
                    CHANNEL_VARIABLE: str(theirs.fileno()),
                    lifeline.PARENT_VARIABLE: str(self._owner),
                },
            )
        return ours

    def _watch(self, channel: socket.socket) -> None:
        restarts = Restarts(POLICY)
        while True:
            began = time.monotonic()
            with channel:
                _wait_end(channel)
            pause = restarts.after(time.monotonic() - began)
            if pause is None or self._stopping.wait(pause):
                return
            self._log.error("The %s died%s; it is being started again", self.name, self._loss)
            while (restarted := self._try_spawn()) is None:
                if self._stopping.wait(POLICY.max_delay):
                    return
            channel = restarted
            if self._stopping.is_set() and self._process is not None:  # stop() may have signalled the one before
                self._process.terminate()

    def _try_spawn(self) -> socket.socket | None:
        try:
            return self._spawn()
        except OSError as error:
            self._log.error("The %s cannot be started: %s", self.name, error)
            return None


class Launcher:
    """The keeper of supervisor and runner. ``start`` and ``stop`` are called once, from the main thread."""

    def __init__(self, settings: Settings, log: logging.Logger) -> None:
        self._settings = settings
        self._owner = os.getpid()
        self._stopped = False
        self._dir: RuntimeDir | None = None
        self._supervisor = Kept("supervisor", "janflask.supervisor", " and took its engines along", settings, log)
        self._runner = Kept("runner", "janflask.runner", "", settings, log)

    @property
    def made_runtime_dir(self) -> bool:
        """The runtime folder is this server's own, not one that the user named."""
        return self._settings.runtime_dir is None

    def start(self) -> None:
        """Returns when both listen. Raises SettingsError or OSError when it does not come to that."""
        self._dir = RuntimeDir.create(self._settings.runtime_dir)
        os.environ[RUNTIME_VARIABLE] = str(self._dir.path)
        both = (self._supervisor, self._runner)
        for kept in both:
            kept.start()
        for kept in both:
            try:
                kept.wait_listening()
            except OSError as error:
                raise OSError(f"the {kept.name} did not start: {error}") from error

    def stop(self) -> None:
        """Ends both, the engines with them, and removes the runtime folder. Idempotent.

        The runner comes first: runs whose engine goes away under them would take it for a crash.
        """
        if os.getpid() != self._owner or self._stopped:  # a forked worker runs our exit handlers, too
            return
        self._stopped = True
        self._runner.stop(STOP_MARGIN)
        self._supervisor.stop(self._settings.stop_timeout + STOP_MARGIN)
        if self._dir is not None:
            self._dir.remove()


def _wait_end(channel: socket.socket) -> None:
    try:
        while channel.recv(64):
            pass
    except ConnectionError:
        return  # the peer died in mid-sentence


_launcher: Launcher | None = None


def read_settings() -> Settings:
    """The settings, or exit code 1 with the reason: for a configuration file, where a traceback would hide it."""
    try:
        return Settings.from_env()
    except SettingsError as error:
        _give_up(error.message)


def bind_address(settings: Settings) -> str:
    """gunicorn's ``bind`` for host and port; an IPv6 address goes in brackets."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{host}:{settings.port}"


def on_starting(server: Any) -> None:
    """Hook: refuses an address that is taken at once, where gunicorn would try five times and then say little."""
    inherited = server.master_pid or "LISTEN_FDS" in os.environ or server.cfg.reuse_port
    for address in [] if inherited else server.cfg.address:
        if isinstance(address, tuple) and (problem := address_problem(address)) is not None:
            if server.pidfile is not None:
                server.pidfile.unlink()
            _give_up(problem)


def when_ready(server: Any) -> None:
    """Hook: the port is ours, no worker runs yet."""
    global _launcher
    _launcher = Launcher(Settings.from_env(), server.log)
    atexit.register(_launcher.stop)  # for the exits on which gunicorn calls no hook
    try:
        _launcher.start()
    except (SettingsError, OSError) as error:
        _give_up(str(error))


def post_worker_init(worker: Any) -> None:
    """Hook, in a worker: it ends with its master at once, and leaves a Ctrl-C in the terminal to the master.

    What only tells of something that goes on without it ends as soon as the worker is told to end.

    gunicorn's worker looks after its master, too, but then waits for its clients, who may be slow to read. The Ctrl-C
    reaches the worker twice, from the terminal and as the master's SIGQUIT; gunicorn's handler takes a lock of the
    thread pool, and one signal in the middle of the other would wait for it for ever.
    """
    lifeline.hold(worker.ppid)
    for number in (signal.SIGTERM, signal.SIGQUIT):
        THIS_PROCESS.begins_at(number)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def on_exit(server: Any) -> None:
    """Hook: the workers are gone."""
    if _launcher is not None:
        _launcher.stop()


def pre_exec(server: Any) -> None:
    """Hook: a second master is about to replace this one (SIGUSR2); it makes a runtime folder of its own."""
    if _launcher is not None and _launcher.made_runtime_dir:
        server.cfg.env_orig.pop(RUNTIME_VARIABLE, None)


def address_problem(address: tuple[Any, ...]) -> str | None:
    """Why ``address`` (host, port) cannot be listened on, or None."""
    host, port = address[0], address[1]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return (
                    f"port {port} on {host} is in use, perhaps by another janflask: end that program, "
                    "or set JANFLASK_PORT to another port"
                )
            return f"cannot listen on {host} port {port}: {error} (JANFLASK_HOST, JANFLASK_PORT)"
    return None


def _give_up(reason: str) -> NoReturn:
    print(f"janflask: {reason}", file=sys.stderr, flush=True)
    raise SystemExit(1)
