"""The runner (``python -m janflask.runner``), one a server: makes threads answer, whoever listens."""

from __future__ import annotations

import sys
from pathlib import Path

from janflask.ipc.sockets import RUNNER_SOCKET
from janflask.processes import lifeline, service
from janflask.runner.loading import Loading
from janflask.runner.server import runner_server
from janflask.settings import Settings


def serve(settings: Settings, runtime_dir: Path, listening: service.Say) -> None:
    """Answers until it is told to end; runs under way are left to the next runner."""
    lifeline.hold_from_env()
    loading = Loading(settings)

    def begin() -> None:
        listening()
        loading.start()

    with runner_server(runtime_dir / RUNNER_SOCKET, loading.runner, loading.made) as server:
        service.serve_until_told(server, begin, loading.close)


if __name__ == "__main__":
    sys.exit(service.main("runner", serve))
