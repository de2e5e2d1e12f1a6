"""The repository, once in memory and once in files: every contract test runs over both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from janflask.settings import Settings
from janflask.storage import open_repository
from janflask.storage.base import Repository
from janflask.storage.memory import memory_repository

LOCK_TIMEOUT = 0.3  # seconds; what waits in these tests waits in vain


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", durability="os", lock_timeout=LOCK_TIMEOUT)


@pytest.fixture(params=["memory", "files"])
def repository(request: pytest.FixtureRequest, settings: Settings) -> Repository:
    makers: dict[str, Callable[[], Repository]] = {
        "memory": lambda: memory_repository(lock_timeout=LOCK_TIMEOUT),
        "files": lambda: open_repository(settings),
    }
    return makers[request.param]()
