"""The runner (``python -m janflask.runner``), one a server: makes threads answer, whoever listens."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from janflask.container import Services
from janflask.ipc.messages.runner import RUNNER_SOCKET
from janflask.processes import lifeline, service
from janflask.runner.runner import Runner
from janflask.runner.server import runner_server
from janflask.settings import Settings
from janflask.storage import open_repository


def serve(settings: Settings, runtime_dir: Path, listening: service.Say) -> None:
    """Answers until it is told to end; runs under way are left to the next runner."""
    lifeline.hold_from_env()
    repository = open_repository(settings)
    runner = Runner(settings, Services.of(settings, repository), repository)

    def begin() -> None:
        listening()
        threading.Thread(target=runner.recover, name="recovery", daemon=True).start()

    with runner_server(runtime_dir / RUNNER_SOCKET, runner) as server:
        service.serve_until_told(server, begin, runner.close)


if __name__ == "__main__":
    sys.exit(service.main("runner", serve))
