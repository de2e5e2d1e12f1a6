"""An engine process: ``python -m janflask.engine``, started by the supervisor with a socket pair as its birth cord.

It loads the model, proves it with a decode, listens, says Ready; then generates until it is told to stop, or until the
supervisor is gone, and measures the knobs while it rests.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from janflask.engine import bindings
from janflask.errors import EngineError, JanflaskError, ProtocolError
from janflask.ipc.channel import Channel
from janflask.ipc.frames import Message
from janflask.ipc.messages.engine import Launch, Progress, Ready, Retire, Retired, Retuned, Shutdown
from janflask.ipc.messages.error import ErrorReply
from janflask.ipc.messages.launch import EngineSpec
from janflask.models.engine_settings import EngineSettings
from janflask.processes import lifeline, logs

log = logging.getLogger("janflask.engine")

FD_VARIABLE = "JANFLASK_ENGINE_FD"
SPARE_VARIABLE = "JANFLASK_ENGINE_SPARE"
# Turns of a GCC OpenMP thread at a barrier before it sleeps. libgomp's own 300,000 keep a core from the very thread
# that is waited for as soon as anything else runs: two engines on two cores then took four times as long. On a quiet
# machine 1,000 are as fast as 100,000, and none at all three times slower.
SPIN_COUNT = "1000"
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LAUNCH_TIMEOUT = 30.0  # seconds the supervisor may take to say what to load
SWITCH_INTERVAL = 0.0005  # seconds; the loop's thread must not wait 5 ms for the GIL when it comes back from a decode


def main() -> int:
    """Exit code 0 after an ordinary end, 1 when the model could not be served; the supervisor was told why."""
    environ = os.environ
    logs.configure("engine", environ.get("JANFLASK_LOG_FORMAT", ""), environ.get("JANFLASK_LOG_LEVEL", "info"), TEXT)
    logs.crashes_too()
    lifeline.hold_from_env(kill=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole terminal; the supervisor tells us when
    cord = Channel(socket.socket(fileno=int(os.environ[FD_VARIABLE])), "the supervisor")
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)  # read when llama.cpp's libraries are loaded, below
    launch = _await_launch(cord, spare=os.environ.get(SPARE_VARIABLE) == "1")
    if launch is None:
        return 0
    try:
        run(launch.spec, cord)
    except JanflaskError as error:
        log.error("%s", error.message)
        cord.send(ErrorReply.of(error))
        return 1
    except Exception as error:
        log.exception("the engine failed")
        cord.send(ErrorReply.of(EngineError(f"the engine failed: {error}")))
        return 1
    return 0


def _await_launch(cord: Channel, *, spare: bool) -> Launch | None:
    """What to load. A spare engine gets everything else ready first; None: it is needed no more."""
    if spare:
        bindings.load()
        importlib.import_module("janflask.engine.builder")
        importlib.import_module("janflask.engine.server")
        cord.send(Progress("waiting", 1.0))
    try:
        launch = cord.message(None if spare else LAUNCH_TIMEOUT)
    except EOFError:
        if spare:
            return None
        raise
    if not isinstance(launch, Launch):
        raise ProtocolError(f"expected Launch, got {type(launch).__name__}")
    if launch.log_path is not None:
        with Path(launch.log_path).open("ab") as file:
            os.dup2(file.fileno(), sys.stdout.fileno())
            os.dup2(file.fileno(), sys.stderr.fileno())
    return launch


def run(spec: EngineSpec, cord: Channel) -> None:
    """Loads, proves, listens and generates until the supervisor says stop."""
    # Loaded and imported here: a failure must reach the supervisor as an ErrorReply.
    bindings.load()
    from janflask.engine import fingerprint
    from janflask.engine.builder import build
    from janflask.engine.constraint import Compiler, make_table
    from janflask.engine.library_log import LibraryLog
    from janflask.engine.model import Model
    from janflask.engine.server import EngineServer

    started = time.monotonic()
    last_report = 0.0

    def report(stage: str, fraction: float) -> None:
        nonlocal last_report
        now = time.monotonic()
        if fraction >= 1.0 or now - last_report > 0.1:
            last_report = now
            cord.send(Progress(stage, fraction))

    if spec.snapshot_bytes and spec.settings.prefix_cache:
        fingerprint.begin(Path(spec.model_path), spec.settings)
    library_log = LibraryLog()
    model = Model(
        Path(spec.model_path),
        spec.settings,
        library_log,
        lambda fraction: report("loading", fraction),
        spec.prompt_template,
    )
    engine = build(model, spec, report, lambda knobs: cord.send(Retuned(knobs)))
    compiler = None if engine.loop is None else Compiler(lambda: make_table(model), model.n_vocab)
    if compiler is not None and engine.loop is not None:
        compiler.start()
        engine.loop.chores.append(compiler)
    server = EngineServer(
        model,
        engine.loop,
        Path(spec.socket_path),
        spec.settings.queue_limit,
        engine.embedder,
        compiler,
        guesses_freely=_guesses_freely(spec.settings),
    )
    info = replace(engine.info, load_seconds=round(time.monotonic() - started, 3))
    sys.setswitchinterval(SWITCH_INTERVAL)
    first, *others = engine.workers
    sockets = _start("sockets", server.serve)
    helpers = [_start("embedder", worker.run) for worker in others]

    def stop() -> None:
        for worker in engine.workers:
            worker.stop()

    threading.Thread(target=_await_end, args=(cord, server.retire, stop), name="cord", daemon=True).start()
    log.info("%s is ready after %.1f s: %s", spec.model_id, info.load_seconds, info.knobs)
    for note in engine.notes:
        log.warning("%s: %s", spec.model_id, note)
    cord.send(Ready(info, engine.notes))
    first.run()
    for helper in helpers:
        helper.join(2.0)
    server.stop()  # last: it carries the others' last words
    sockets.join(2.0)
    log.info("%s stopped", spec.model_id)


def _guesses_freely(settings: EngineSettings) -> bool | None:
    """See EngineServer."""
    if settings.reproducible:
        return False
    return None if settings.drafts is None else True


def _start(name: str, run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=_serve, args=(run,), name=name, daemon=True)
    thread.start()
    return thread


def _serve(run: Callable[[], None]) -> None:
    """Runs a thread without which clients would wait in vain: its failure is the engine's end."""
    try:
        run()
    except Exception:
        log.exception("the engine's %s failed: it ends, to be started again", threading.current_thread().name)
        os._exit(1)


def _await_end(cord: Channel, retire: Callable[[], bool], stop: Callable[[], None]) -> None:
    """Stops the loop at Shutdown, or at Retire when ``retire`` agrees.

    At end of stream the supervisor is gone, and so is everybody who could read us.
    """
    try:
        message: Message | None = None
        while isinstance(message := cord.message(None), Retire):
            idle = retire()
            cord.send(Retired(idle))
            if idle:
                stop()
                return
    except (EOFError, OSError):
        message = None
    if isinstance(message, Shutdown):
        stop()
    else:
        log.warning("the supervisor is gone: the engine ends")
        os._exit(0)


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    os._exit(code)  # taking interpreter and library down in order takes longer than the kernel needs for all of it
