"""What several kinds of integration tests stand on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engine_world import (
    World,
    alive,
    wait_for,
)


@pytest.fixture
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="jf") as name:  # a socket's path must be short
        world = World(Path(name))
        yield world
        for supervisor in world.made:
            supervisor.close()
        pids = [pid for model in (world.data_dir / "models").iterdir() for pid in world.pids(model.name)]
        wait_for(lambda: not alive(pids))
