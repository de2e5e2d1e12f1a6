"""The runner that is made when somebody asks for it, or a moment after the start."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from janflask.errors import UnavailableError
from janflask.runner import loading
from janflask.runner.loading import Loading
from janflask.settings import Settings

LIMIT = 20.0  # seconds


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class FakeDeliverer:
    def __init__(self) -> None:
        self.is_started = self.is_closed = False

    def start(self) -> None:
        self.is_started = True

    def close(self) -> None:
        self.is_closed = True


class FakeRunner:
    def __init__(self) -> None:
        self.deliverer = FakeDeliverer()
        self.recovered = threading.Event()
        self.is_closed = False

    def recover(self) -> None:
        self.recovered.set()

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[FakeRunner]:
    runners: list[FakeRunner] = []

    def make(settings: Settings) -> Any:
        runners.append(FakeRunner())
        return runners[-1], runners[-1].deliverer

    monkeypatch.setattr(loading, "_made", make)
    return runners


def test_it_is_made_when_somebody_asks_and_once(tmp_path: Path, made: list[FakeRunner]) -> None:
    later = Loading(Settings(data_dir=tmp_path), delay=600.0)
    later.start()
    assert made == []
    assert later.runner() is later.runner()
    assert len(made) == 1
    assert made[0].deliverer.is_started
    assert not made[0].deliverer.is_closed
    later.close()
    assert made[0].is_closed
    assert made[0].deliverer.is_closed
    assert not made[0].recovered.is_set()


def test_what_was_left_goes_on_though_nobody_asks(tmp_path: Path, made: list[FakeRunner]) -> None:
    later = Loading(Settings(data_dir=tmp_path), delay=0.0)
    later.start()
    assert later.runner() is made[0]  # type: ignore[comparison-overlap]
    assert made[0].recovered.wait(LIMIT)
    assert len(made) == 1


def test_a_data_folder_has_one_at_a_time(
    tmp_path: Path, made: list[FakeRunner], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loading, "TURN_PAUSE", 0.01)
    first, second = (Loading(Settings(data_dir=tmp_path), delay=0.0) for _ in range(2))
    first.runner()
    second.start()
    with pytest.raises(UnavailableError, match="another server") as refused:
        second.runner()
    assert refused.value.retry_after == 2
    assert second.made() is None
    wait_for(lambda: "another server" in caplog.text)
    assert len(made) == 1
    first.close()
    wait_for(lambda: len(made) == 2 and made[1].recovered.is_set())
    assert caplog.text.count("another server") == 1
    second.close()


def test_none_is_made_while_the_process_ends(tmp_path: Path, made: list[FakeRunner]) -> None:
    later = Loading(Settings(data_dir=tmp_path), delay=600.0)
    later.start()
    later.close()
    with pytest.raises(UnavailableError, match="shutting down"):
        later.runner()
    assert made == []


def test_one_that_could_not_be_made_holds_nothing_up(
    tmp_path: Path, made: list[FakeRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(settings: Settings) -> Any:
        raise OSError("no more files")

    later = Loading(Settings(data_dir=tmp_path), delay=600.0)
    with monkeypatch.context() as broken:
        broken.setattr(loading, "_made", fail)
        with pytest.raises(OSError, match="no more files"):
            later.runner()
    assert later.runner() is made[0]  # type: ignore[comparison-overlap]
    later.close()


def test_the_process_ends_where_none_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that answers nothing but errors would look like a runner."""
    ended: list[int] = []
    over = threading.Event()

    def fail(settings: Settings) -> Any:
        raise ImportError("half an installation")

    def end(code: int) -> None:
        ended.append(code)
        later.close()  # the real one does not return
        over.set()

    monkeypatch.setattr(loading, "_made", fail)
    monkeypatch.setattr(loading.os, "_exit", end)
    later = Loading(Settings(data_dir=tmp_path), delay=0.0)
    later.start()
    assert over.wait(LIMIT)
    assert ended == [1]
