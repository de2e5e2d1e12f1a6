"""The runner (``python -m janflask.runner``), one a server: makes threads answer, whoever listens."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from janflask.errors import SettingsError
from janflask.ipc.protocol import RUNNER_SOCKET
from janflask.processes import lifeline
from janflask.processes.runtime_dir import CHANNEL_VARIABLE, check_private
from janflask.runner.runner import Runner
from janflask.runner.server import RunnerServer
from janflask.services.container import Services
from janflask.settings import Settings
from janflask.storage import open_repository

log = logging.getLogger(__name__)


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
            raise SettingsError("JANFLASK_RUNTIME_DIR: the runner needs one", param="JANFLASK_RUNTIME_DIR")
        check_private(runtime_dir)
        lifeline.hold_from_env()
        repository = open_repository(settings)
        runner = Runner(settings, Services.of(settings, repository), repository)
        with RunnerServer(runtime_dir / RUNNER_SOCKET, runner) as server:
            serve(runner, server, lambda: _say_listening(channel))
    except (SettingsError, OSError) as error:
        log.critical("the runner cannot start: %s", error)
        return 1
    return 0


def serve(runner: Runner, server: RunnerServer, listening: Callable[[], None]) -> None:
    """Answers until SIGTERM or SIGINT; runs under way are left to the next runner. Call it from the main thread."""
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, _exit)
    try:
        listening()
        threading.Thread(target=runner.recover, name="recovery", daemon=True).start()
        server.serve_forever()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        runner.close()


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _say_listening(channel: str | None) -> None:
    """One byte for the launcher. The descriptor stays open: its end will say that this process is gone."""
    if channel is not None:
        os.write(int(channel), b"L")


if __name__ == "__main__":
    sys.exit(main())
