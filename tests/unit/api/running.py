"""The application with a real runner, for tests of what is carried out over the scripted engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask

from janflask import create_app
from janflask.container import Services
from janflask.ipc.sockets import RUNNER_SOCKET
from janflask.runner.runner import Runner
from janflask.runner.server import runner_server
from janflask.storage import open_repository
from tests.unit.api.conftest import World


@contextmanager
def running(world: World) -> Iterator[None]:
    """A runner of its own, over the store in the world's folder."""
    repository = open_repository(world.settings)
    runner = Runner(world.settings, Services.of(world.settings, repository), repository)
    with runner_server(world.folder / RUNNER_SOCKET, lambda: runner) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            runner.close()


@contextmanager
def running_app(world: World) -> Iterator[Flask]:
    """With such a runner."""
    with running(world):
        yield create_app(world.settings)
