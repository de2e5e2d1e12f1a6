"""A model from servers that misbehave: a clear error, nothing that passes for a model, the disk as it was before."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from janflask.downloads import part
from janflask.downloads.wire import Patience
from janflask.models.catalog import ModelCatalog
from janflask.models.state import DownloadRequest
from tests.fakes.file_server import FileServer, gguf, serving
from tests.integration.download_world import manager, settings, settled, tree, until

BODY = gguf(1_000_000)
STRICT = Patience(silence=0.3, head=0.3, min_rate=100_000, window=0.3)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(BODY) as files:
        yield files


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A models' folder with a model in it, which has to stay as it is."""
    folder = tmp_path / "models"
    (folder / "other").mkdir(parents=True)
    (folder / "other" / "other.gguf").write_bytes(gguf(100))
    return folder


FINAL = {
    "401": "HF_TOKEN",
    "403": "HF_TOKEN",
    "404": "no such file",
    "410": "no such file",
    "418": "answered 418",
    "html": "web page",
    "disguised": "not a GGUF file",
    "almost": "cannot be used as a model",
    "gzip": "compressed",
    "empty": "is empty",
    "emptychunks": "is empty",
    "nolength": "does not say how long",
    "claimsless": "cut short",
    "huge": "JANFLASK_MAX_MODEL_GB",
    "loop": "redirects more than",
    "tofile": "only http and https",
}

INTERRUPTED = {
    "429": "answered 429",
    "500": "answered 500",
    "503": "answered 503",
    "never": "the connection ended",
    "claimsmore": "could not be downloaded",
    "trickles": "bytes a second",
    "slowhead": "timed out|took more than",  # in the middle of a wait, or between two
    "silent": "timed out|took more than",
    "goesquiet": "timed out",
}

ARRIVES = ("closes", "norange", "novalidator", "wrongrange", "unsatisfied", "chunked", "stamped", "busy")


@pytest.mark.parametrize("way", FINAL)
def test_what_cannot_work_says_why_and_leaves_nothing(server: FileServer, models: Path, way: str) -> None:
    before = tree(models)
    downloads = manager(models.parent)
    model_id = downloads.start(DownloadRequest(source=server.url(way)))
    state = settled(downloads, model_id)
    assert state is not None
    assert FINAL[way] in (state.error or "")
    assert tree(models) == before
    assert [card.id for card in ModelCatalog(models).list()] == ["other"]
    assert downloads.cancel(model_id)
    assert downloads.states() == {}


@pytest.mark.parametrize("way", INTERRUPTED)
def test_what_may_work_later_says_so_and_leaves_nothing_once_cancelled(
    server: FileServer, models: Path, way: str
) -> None:
    before = tree(models)
    downloads = manager(models.parent, patience=STRICT)
    model_id = downloads.start(DownloadRequest(source=server.url(way)))
    state = settled(downloads, model_id)
    assert state is not None
    assert re.search(INTERRUPTED[way], state.error or "")
    assert "ask for it again to go on where it ended" in (state.error or "")
    assert [card.id for card in ModelCatalog(models).list()] == ["other"]
    assert downloads.cancel(model_id)
    assert tree(models) == before


@pytest.mark.parametrize("way", ARRIVES)
def test_what_can_be_had_becomes_a_model(server: FileServer, models: Path, way: str) -> None:
    downloads = manager(models.parent)
    model_id = downloads.start(DownloadRequest(source=server.url(way)))
    assert settled(downloads, model_id) is None
    card = ModelCatalog(models).get(model_id)
    assert Path(card.path or "").read_bytes() == BODY
    assert card.metadata["architecture"] == "llama"
    assert sorted(path.name for path in models.iterdir()) == ["m", "other"]


@pytest.mark.parametrize("way", ["changes", "slyly"])
def test_a_file_that_changes_is_fetched_anew(server: FileServer, models: Path, way: str) -> None:
    downloads = manager(models.parent)
    model_id = downloads.start(DownloadRequest(source=server.url(way)))
    assert settled(downloads, model_id) is None
    assert Path(ModelCatalog(models).get(model_id).path or "").read_bytes() == server.other


def test_a_wrong_hash_is_told_with_the_right_one(server: FileServer, models: Path) -> None:
    before = tree(models)
    downloads = manager(models.parent)
    model_id = downloads.start(DownloadRequest(source=server.url("whole"), sha256="0" * 64))
    state = settled(downloads, model_id)
    assert state is not None
    assert "sha256" in (state.error or "")
    assert tree(models) == before


def test_a_private_source_is_refused_unasked(server: FileServer, models: Path) -> None:
    before = tree(models)
    downloads = manager(models.parent, allow_private_sources=False)
    model_id = downloads.start(DownloadRequest(source=server.url("whole")))
    state = settled(downloads, model_id)
    assert state is not None
    assert "JANFLASK_ALLOW_PRIVATE_SOURCES" in (state.error or "")
    assert server.asked == []
    assert tree(models) == before


def test_a_redirect_to_a_private_address_is_not_followed(server: FileServer, models: Path) -> None:
    """The hub's address may be private, as its owner chose it; where it leads may not."""
    before = tree(models)
    with serving(BODY) as inside:
        server.elsewhere = inside.url("whole")
        downloads = manager(models.parent, {"HF_ENDPOINT": server.origin}, allow_private_sources=False)
        model_id = downloads.start(DownloadRequest(source=server.url("redirects")))
        state = settled(downloads, model_id)
        assert state is not None
        assert "not a public address" in (state.error or "")
        assert inside.asked == []
    assert tree(models) == before


def test_a_full_disk_is_seen_before_anything_is_asked(
    server: FileServer, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(models)
    monkeypatch.setattr(part.shutil, "disk_usage", lambda _: SimpleNamespace(free=part.RESERVE + 500_000))
    downloads = manager(models.parent)
    model_id = downloads.start(DownloadRequest(source=server.url("whole")))
    state = settled(downloads, model_id)
    assert state is not None
    assert "make room" in (state.error or "")
    assert tree(models) == before


def test_a_disk_that_fills_up_meanwhile_is_emptied_again(
    server: FileServer, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(models)
    written = 0
    really = part.os.write

    def write(file: int, data: memoryview) -> int:
        nonlocal written
        written += len(data)
        if written > 200_000:
            raise OSError(28, "No space left on device")
        return really(file, data)

    monkeypatch.setattr(part.os, "write", write)
    downloads = manager(models.parent)
    model_id = downloads.start(DownloadRequest(source=server.url("whole")))
    state = settled(downloads, model_id)
    monkeypatch.undo()
    assert state is not None
    assert "make room" in (state.error or "")
    assert len(server.asked) == 1, "trying again would not help"
    assert tree(models) == before


def test_a_failure_of_ours_is_an_error_too(server: FileServer, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(models)

    def fails(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("janflask.models.publish.publish", fails)
    downloads = manager(models.parent)
    model_id = downloads.start(DownloadRequest(source=server.url("whole")))
    state = settled(downloads, model_id)
    assert state is not None
    assert "Input/output error" in (state.error or "")
    assert tree(models) == before


def test_an_interrupted_download_goes_on_when_it_is_asked_for_again(server: FileServer, models: Path) -> None:
    downloads = manager(models.parent)
    server.cut = 0
    model_id = downloads.start(DownloadRequest(source=server.url("closes")))
    assert settled(downloads, model_id) is not None
    server.cut = 400_000
    server.asked.clear()
    assert downloads.start(DownloadRequest(source=server.url("closes"))) == model_id
    assert settled(downloads, model_id) is None
    assert server.served == len(BODY)
    assert shutil.disk_usage(settings(models.parent).models_dir).free > 0
    until(lambda: not (models / ".downloads").exists())
