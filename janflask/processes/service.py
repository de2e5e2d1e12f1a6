"""What every process beside the workers does from its first line to its last."""

from __future__ import annotations

import logging
import os
import signal
import socketserver
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from janflask.errors import SettingsError
from janflask.processes import logs
from janflask.processes.runtime_dir import CHANNEL_VARIABLE, check_private
from janflask.settings import Settings

log = logging.getLogger(__name__)

Say = Callable[[], None]


def main(who: str, serve: Callable[[Settings, Path, Say], None]) -> int:
    """Reads ``JANFLASK_*`` and serves in the runtime folder; gives the exit code.

    ``serve`` calls its last argument once somebody can be answered.
    """
    logs.configure(who, os.environ.get("JANFLASK_LOG_FORMAT", ""), "info")
    logs.crashes_too()
    channel = os.environ.pop(CHANNEL_VARIABLE, None)
    try:
        settings = Settings.from_env()
        logging.getLogger().setLevel(settings.log_level.upper())
        if settings.log_prompts:
            logs.let_words_through()
        runtime_dir = settings.runtime_dir
        if runtime_dir is None:
            raise SettingsError(f"JANFLASK_RUNTIME_DIR: the {who} needs one", param="JANFLASK_RUNTIME_DIR")
        check_private(runtime_dir)
        serve(settings, runtime_dir, lambda: _say_listening(channel))
    except (SettingsError, OSError) as error:
        log.critical("the %s cannot start: %s", who, error)
        return 1
    return 0


def serve_until_told(server: socketserver.BaseServer, begin: Callable[[], None], close: Callable[[], None]) -> None:
    """Calls ``begin``, answers until SIGTERM or SIGINT, and calls ``close``. Call it from the main thread."""
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, _exit)
    try:
        begin()
        server.serve_forever()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        close()


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _say_listening(channel: str | None) -> None:
    """One byte for the launcher. The descriptor stays open: its end will say that this process is gone."""
    if channel is not None:
        os.write(int(channel), b"L")
