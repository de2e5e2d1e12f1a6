"""The supervisor process: ``python -m janflask.supervisor``, one a server."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sys
from pathlib import Path

from janflask.ipc.sockets import SUPERVISOR_SOCKET
from janflask.processes import lifeline, service
from janflask.processes.runtime_dir import is_fresh
from janflask.settings import Settings
from janflask.supervisor.server import supervisor_server
from janflask.supervisor.supervisor import Supervisor

COMMAND_VARIABLE = "JANFLASK_ENGINE_COMMAND"  # replaces the engine's command line; for tests


def serve(settings: Settings, runtime_dir: Path, listening: service.Say) -> None:
    """Answers until it is told to end, then stops every model."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # the hub's client tells of every request
    lifeline.hold_from_env(lambda: _tidy(runtime_dir))
    command = shlex.split(os.environ.get(COMMAND_VARIABLE, ""))
    supervisor = Supervisor(settings, runtime_dir, command) if command else Supervisor(settings, runtime_dir)

    def begin() -> None:
        supervisor.restore()
        listening()

    with supervisor_server(runtime_dir / SUPERVISOR_SOCKET, supervisor) as server:
        service.serve_until_told(server, begin, supervisor.close)


def _tidy(runtime_dir: Path) -> None:
    """The server was killed: its own folder goes. One that the user named stays, it may have a new server by now."""
    if is_fresh(runtime_dir):
        shutil.rmtree(runtime_dir, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(service.main("supervisor", serve))
