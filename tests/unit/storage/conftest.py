"""The repository, once in memory and once in files: every contract test runs over both."""

from __future__ import annotations

import os
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


@pytest.fixture
def calls(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced and renamed, in order, by a store over ``root``, which the test's module gives."""
    found: list[str] = []
    fsync, rename = os.fsync, os.rename

    def name(path: str) -> str:
        text = Path(path).name
        kinds = {"new-": "staged", "gone-": "gone"}
        return "temporary" if text.endswith(".tmp") else kinds.get(text[: text.find("-") + 1], text)

    def synced(fd: int) -> None:
        found.append(f"sync {name(str(Path(f'/proc/self/fd/{fd}').readlink()))}")
        fsync(fd)

    def renamed(source: str, target: str, **folders: int) -> None:
        found.append(f"rename to {name(target)}")
        rename(source, target, **folders)

    root.mkdir()
    monkeypatch.setattr("janflask.files.disk.os.fsync", synced)
    monkeypatch.setattr("janflask.files.disk.os.rename", renamed)
    return found
