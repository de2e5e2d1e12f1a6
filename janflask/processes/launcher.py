"""gunicorn's master starts supervisor and runner and keeps them up: the hooks of the configuration. Light on imports.

The order matters. ``on_starting`` refuses what cannot work (the port is taken) before anything runs. ``when_ready``
comes after the bind and before the first worker: it makes the runtime folder, tells the workers about it through
``JANFLASK_RUNTIME_DIR``, and starts the two. The workers load the application meanwhile, and take requests once both
listen. For each a thread of the master waits for that, and then for its death. It learns of it from a socket pair's end
of stream, since the master reaps every child by ``waitpid(-1)`` and no exit status is left for anybody else. On SIGHUP
gunicorn reads the configuration again; this module and its processes stay.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from janflask.errors import SettingsError
from janflask.ipc.sockets import RUNNER_SOCKET, SUPERVISOR_SOCKET
from janflask.processes import drain, exposure, https, lifeline, logs, open_files
from janflask.processes.allocator import ALLOCATOR, RUNNER_ALLOCATOR, have_few_arenas
from janflask.processes.restart import RestartPolicy, Restarts
from janflask.processes.runtime_dir import CHANNEL_VARIABLE, RuntimeDir
from janflask.settings import Settings

RUNTIME_VARIABLE = "JANFLASK_RUNTIME_DIR"
START_TIMEOUT = 30.0  # seconds until a process has to listen
LOOK = 0.005  # seconds between two looks whether it does
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
        allocator: what its memory allocator is told, in variables.
    """

    def __init__(
        self,
        name: str,
        module: str,
        loss: str,
        settings: Settings,
        log: logging.Logger,
        allocator: Mapping[str, str] = ALLOCATOR,
    ) -> None:
        self.name = name
        self._module = module
        self._loss = loss
        self._allocator = allocator
        self._settings = settings
        self._log = log
        self._owner = os.getpid()
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def start(self, failed: Callable[[str], None]) -> None:
        """Begins it, and looks after it: ``failed`` is called with why it does not come to listen.

        Raises OSError.
        """
        arguments = (self._spawn(), failed)
        self._thread = threading.Thread(target=self._look_after, args=arguments, name=self.name, daemon=True)
        self._thread.start()

    def _look_after(self, channel: socket.socket, failed: Callable[[str], None]) -> None:
        problem = _why_it_does_not_listen(channel)
        if problem is None:
            self._watch(channel)
            return
        channel.close()
        if not self._stopping.is_set():
            failed(f"the {self.name} did not start: {problem}")

    def stop(self, timeout: float) -> None:
        """Ends it: asked to for ``timeout`` seconds, then killed. It is gone then, and nobody has to reap it."""
        self._stopping.set()
        if self._process is not None:
            self._process.terminate()
            if self._thread is not None:
                self._thread.join(timeout)
            self._process.kill()  # no effect on one that is gone
            self._process.wait()  # the master reaps no more by now, and a container's first process may never

    def _spawn(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs, _no_fork:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),  # and nothing else: not the port, nor a worker's files
                start_new_session=True,  # a Ctrl-C in the terminal is the master's to handle
                env={
                    **self._allocator,
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
        self._runner = Kept("runner", "janflask.runner", "", settings, log, RUNNER_ALLOCATOR)

    @property
    def made_runtime_dir(self) -> bool:
        """The runtime folder is this server's own, not one that the user named."""
        return self._settings.runtime_dir is None

    def start(self, failed: Callable[[str], None]) -> None:
        """Begins both; ``failed`` is called, by another thread, if one does not come to listen.

        Raises SettingsError or OSError.
        """
        self._dir = RuntimeDir.create(self._settings.runtime_dir)
        os.environ[RUNTIME_VARIABLE] = str(self._dir.path)
        for kept in (self._supervisor, self._runner):
            kept.start(failed)

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


def _why_it_does_not_listen(channel: socket.socket) -> str | None:
    """None as soon as it does."""
    channel.settimeout(START_TIMEOUT)
    try:
        first = channel.recv(1)
    except TimeoutError:
        return f"it did not listen within {START_TIMEOUT:g} s"
    except OSError as error:
        return str(error)
    channel.settimeout(None)
    return None if first else "it ended at once; its message is above"


def _wait_end(channel: socket.socket) -> None:
    try:
        while channel.recv(64):
            pass
    except ConnectionError:
        return  # the peer died in mid-sentence


_launcher: Launcher | None = None
_failed = threading.Event()


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
    """Hook: refuses an address that others could use without a key, a bad certificate, and an address that is taken.

    The last at once, where gunicorn would try five times and then say little.
    """
    have_few_arenas()
    settings = Settings.from_env()
    try:
        exposure.check(settings, server.cfg.address)
        https.prepare(settings, server)
    except SettingsError as error:
        _refuse(server, error.message)
    limit, needed = open_files.allow_many(), open_files.needed(settings.workers, settings.threads)
    if limit < needed:
        server.log.warning(
            "only %d files may be open at once (ulimit -Hn): as many streams as JANFLASK_THREADS says may need %d",
            limit,
            needed,
        )
    inherited = server.master_pid or "LISTEN_FDS" in os.environ or server.cfg.reuse_port
    for address in [] if inherited else server.cfg.address:
        if isinstance(address, tuple) and (problem := address_problem(address)) is not None:
            _refuse(server, problem)


def when_ready(server: Any) -> None:
    """Hook: the port is ours, no worker runs yet."""
    global _launcher
    settings = Settings.from_env()
    _launcher = Launcher(settings, server.log)
    atexit.register(_launcher.stop)  # for the exits on which gunicorn calls no hook
    try:
        addresses = exposure.listened_on(server.LISTENERS)
        exposure.check(settings, addresses, server.log)
        exposure.warn_of_readers(addresses, server)
        if settings.log_prompts:
            server.log.warning("JANFLASK_LOG_PROMPTS is set: all that people ask and models answer is in this log")
        _launcher.start(_end_master)
    except (SettingsError, OSError) as error:
        _give_up(str(error))
    https.follow(_no_fork)
    drain.Drain(server, Path(os.environ[RUNTIME_VARIABLE]), settings.drain_delay, _failed.is_set)


def on_reload(server: Any) -> None:
    """Hook: SIGHUP, before the new workers."""
    https.reload(_no_fork)


def _refuse(server: Any, reason: str) -> NoReturn:
    if server.pidfile is not None:
        server.pidfile.unlink()
    _give_up(reason)


def _end_master(reason: str) -> None:
    """Has the master end, from another thread; ``on_exit`` gives the status."""
    _failed.set()
    with contextlib.suppress(OSError):  # nobody reads it
        # without Python's own buffer, whose lock a worker that is forked just now would inherit
        os.write(2, f"janflask: {reason}\n".encode())
    os.kill(os.getpid(), signal.SIGTERM)


def post_fork(server: Any, worker: Any) -> None:
    """Hook, in a new worker: nothing becomes garbage while it imports the application, so nobody looks for any."""
    gc.disable()
    logs.rename("worker")
    logs.crashes_too()
    if Settings.from_env().log_prompts:
        logs.let_words_through()
    worker.log.error_log.addFilter(logs.WithoutQuotes())


def post_worker_init(worker: Any) -> None:
    """Hook, in a worker that has loaded the application: it ends with its master at once.

    A Ctrl-C in the terminal it leaves to the master.

    gunicorn's worker looks after its master, too, but then waits for its clients, who may be slow to read. The Ctrl-C
    reaches the worker twice, from the terminal and as the master's SIGQUIT; gunicorn's handler takes a lock of the
    thread pool, and one signal in the middle of the other would wait for it for ever.
    """
    gc.freeze()  # what there is by now is there for good: no collection has to look at it again
    gc.enable()
    lifeline.hold(worker.ppid)
    drain.follow_in_worker(max(0.1, worker.cfg.graceful_timeout - drain.LAST_WORDS))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _await_both(worker, Path(os.environ[RUNTIME_VARIABLE]))


def _await_both(worker: Any, runtime_dir: Path) -> None:
    """Until supervisor and runner listen, or should have: then each question says that they cannot be reached.

    A worker that is told to end meanwhile does so.
    """
    deadline = time.monotonic() + START_TIMEOUT
    for name in (SUPERVISOR_SOCKET, RUNNER_SOCKET):
        while worker.alive and not (runtime_dir / name).exists() and time.monotonic() < deadline:
            time.sleep(LOOK)


def on_exit(server: Any) -> None:
    """Hook: the workers are gone."""
    if _launcher is not None:
        _launcher.stop()
    if _failed.is_set():
        raise SystemExit(1)


def pre_exec(server: Any) -> None:
    """Hook: a second master is about to replace this one (SIGUSR2); it makes a runtime folder of its own.

    gunicorn starts what ``python -m gunicorn`` was by its file. Python then looks for modules beside that file first,
    and finds gunicorn's ``http`` where the application wants Python's own.
    """
    if _launcher is not None and _launcher.made_runtime_dir:
        server.cfg.env_orig.pop(RUNTIME_VARIABLE, None)
    python, program, *rest = server.START_CTX["args"]
    if program.endswith("/gunicorn/__main__.py"):
        server.START_CTX["args"] = [python, "-m", "gunicorn", *rest]


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
