"""The downloads together: a queue with two at once, one download for one source, cancelling, and going on later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from janflask.downloads.manager import DownloadManager
from janflask.errors import ConflictError, InvalidRequestError
from janflask.models.catalog import ModelCatalog
from janflask.models.state import DownloadRequest
from tests.fakes.file_server import FileServer, gguf, serving
from tests.fakes.hub import fake_hub
from tests.integration.download_world import manager, settled, until

BODY = gguf(2 << 20)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(BODY) as server:
        yield server


def stage(downloads: DownloadManager, model_id: str) -> str | None:
    state = downloads.states().get(model_id)
    return None if state is None else state.stage


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root / "models")) for path in (root / "models").rglob("*") if path.is_file())


def models(root: Path) -> list[str]:
    return [card.id for card in ModelCatalog(root / "models").list()]


def request(server: FileServer, way: str, model_id: str | None = None) -> DownloadRequest:
    """A source of its own for each model, so that none joins another's."""
    return DownloadRequest(source=server.url(way, f"{model_id or 'm'}.gguf"), model_id=model_id)


def test_two_run_and_the_others_wait_their_turn(tmp_path: Path, server: FileServer) -> None:
    downloads = manager(tmp_path)
    for name in "abcd":
        assert downloads.start(request(server, "held", name)) == name
    until(lambda: len(server.asked) == 2)
    assert [stage(downloads, name) for name in "abcd"] == ["downloading", "downloading", "queued", "queued"]
    server.hold.set()
    for name in "abcd":
        assert settled(downloads, name) is None
    assert models(tmp_path) == ["a", "b", "c", "d"]


def test_one_source_is_one_download(tmp_path: Path, server: FileServer) -> None:
    downloads = manager(tmp_path)
    source = server.url("held", "one.gguf")
    names = {downloads.start(DownloadRequest(source=source)) for _ in range(5)}
    assert names == {"one"}
    with pytest.raises(ConflictError):
        downloads.start(DownloadRequest(source=source, model_id="another"))
    server.hold.set()
    assert settled(downloads, "one") is None
    assert len(server.asked) == 1
    with pytest.raises(ConflictError) as there:
        downloads.start(DownloadRequest(source=source))
    assert there.value.code == "model_exists"
    assert len(server.asked) == 1


def test_a_folder_of_models_is_refused_before_anything_is_fetched(tmp_path: Path, server: FileServer) -> None:
    downloads = manager(tmp_path)
    downloads.start(DownloadRequest(source=server.url("whole", "m.gguf")))
    assert settled(downloads, "m") is None
    (folder,) = tmp_path.rglob("m")
    (folder.parent / "author").mkdir()
    folder.rename(folder.parent / "author" / "name")
    asked = len(server.asked)
    with pytest.raises(ConflictError, match="holds models"):
        downloads.start(DownloadRequest(source=server.url("stamped", "m.gguf"), model_id="author"))
    assert len(server.asked) == asked


def test_an_id_that_is_taken_is_refused_or_made_free(tmp_path: Path, server: FileServer) -> None:
    downloads = manager(tmp_path)
    downloads.start(DownloadRequest(source=server.url("whole", "m.gguf")))
    assert settled(downloads, "m") is None
    with pytest.raises(ConflictError):
        downloads.start(DownloadRequest(source=server.url("stamped", "m.gguf"), model_id="m"))
    other = downloads.start(DownloadRequest(source=server.url("stamped", "m.gguf")))
    assert other != "m"
    assert settled(downloads, other) is None
    assert models(tmp_path) == sorted(["m", other])


def test_an_upstream_keeps_its_id_and_its_source(tmp_path: Path, server: FileServer) -> None:
    folder = tmp_path / "models" / "m"
    folder.mkdir(parents=True)
    source = server.url("whole", "other.gguf")
    entry = {"source_url": source, "upstream": {"base_urls": ["http://h.example/v1"], "model": "x"}}
    (folder / "model.json").write_text(json.dumps(entry))
    downloads = manager(tmp_path)
    for request in (
        DownloadRequest(source=server.url("whole", "m.gguf"), model_id="m"),
        DownloadRequest(source=source),
    ):
        with pytest.raises(ConflictError):
            downloads.start(request)
    other = downloads.start(DownloadRequest(source=server.url("whole", "m.gguf")))
    assert other != "m"
    assert settled(downloads, other) is None
    assert [path.name for path in folder.iterdir()] == ["model.json"]


def test_a_repository_that_brings_a_model_json_makes_no_upstream(tmp_path: Path) -> None:
    evil = {"upstream": {"base_urls": ["http://h.example/v1"], "model": "x", "api_key_env": "JANFLASK_UPSTREAM_KEY"}}
    with fake_hub() as hub:
        hub.add("acme/tiny-GGUF", {"tiny-Q8_0.gguf": BODY, "model.json": json.dumps(evil).encode()})
        downloads = manager(tmp_path, {"HF_ENDPOINT": hub.endpoint}, allow_private_sources=False)
        assert settled(downloads, downloads.start(DownloadRequest(source="hf:acme/tiny-GGUF"))) is None
    (card,) = ModelCatalog(tmp_path / "models").list()
    assert (card.upstream, card.problem) == (None, None)
    assert "upstream" not in card.raw
    with fake_hub() as hub:
        hub.add("acme/none", {"model.json": json.dumps(evil).encode()})
        downloads = manager(tmp_path, {"HF_ENDPOINT": hub.endpoint}, allow_private_sources=False)
        state = settled(downloads, downloads.start(DownloadRequest(source="hf:acme/none")))
        assert state is not None
        assert state.stage == "failed"
    assert [card.upstream for card in ModelCatalog(tmp_path / "models").list()] == [None]


@pytest.mark.parametrize("model_id", ["../m", ".hidden", "", "a/b", "x" * 129])
def test_an_id_is_never_a_path(tmp_path: Path, server: FileServer, model_id: str) -> None:
    downloads = manager(tmp_path)
    with pytest.raises(InvalidRequestError):
        downloads.start(DownloadRequest(source=server.url("whole"), model_id=model_id))
    assert downloads.states() == {}
    assert server.asked == []


def test_cancelled_while_it_comes_it_leaves_nothing(tmp_path: Path, server: FileServer) -> None:
    downloads = manager(tmp_path)
    downloads.start(request(server, "held", "a"))
    until(lambda: server.asked)
    assert downloads.cancel("a")
    assert not downloads.cancel("a")
    assert downloads.states() == {}
    assert files(tmp_path) == []
    server.hold.set()
    downloads.start(request(server, "whole", "a"))
    assert settled(downloads, "a") is None


def test_cancelled_in_the_queue_it_is_never_asked_for(tmp_path: Path, server: FileServer) -> None:
    downloads = manager(tmp_path, download_slots=1)
    for name in "abc":
        downloads.start(request(server, "held", name))
    until(lambda: server.asked)
    assert downloads.cancel("b")
    server.hold.set()
    assert settled(downloads, "a") is None
    assert settled(downloads, "c") is None
    assert models(tmp_path) == ["a", "c"]
    assert len(server.asked) == 2


def test_a_failed_one_is_told_of_until_it_is_forgotten(tmp_path: Path, server: FileServer) -> None:
    downloads = manager(tmp_path)
    downloads.start(request(server, "html", "a"))
    failed = settled(downloads, "a")
    assert failed is not None
    assert failed.error
    assert files(tmp_path) == []
    assert downloads.cancel("a")
    assert downloads.states() == {}


def test_the_next_manager_goes_on_where_this_one_ended(tmp_path: Path, server: FileServer) -> None:
    first = manager(tmp_path)
    server.pause = 0.001
    first.start(request(server, "whole", "a"))
    until(lambda: server.served > len(BODY) // 2)
    first.close()
    assert any(name.endswith(".part") for name in files(tmp_path))
    assert models(tmp_path) == []
    second = manager(tmp_path)
    second.resume()
    assert settled(second, "a") is None
    assert server.asked[-1] is not None  # a range
    assert server.served < 2 * len(BODY)
    (card,) = ModelCatalog(tmp_path / "models").list()
    assert card.metadata["sha256"] == hashlib.sha256(BODY).hexdigest()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model_id": "../x"}', json.dumps({"model_id": "a"})])
def test_a_damaged_job_is_set_aside_and_harms_no_other(tmp_path: Path, server: FileServer, content: str) -> None:
    first = manager(tmp_path)
    first.start(request(server, "held", "good"))
    until(lambda: server.asked)
    first.close()
    (tmp_path / "models" / ".downloads" / "a.json").write_text(content)
    server.hold.set()
    second = manager(tmp_path)
    second.resume()
    assert settled(second, "good") is None
    assert models(tmp_path) == ["good"]
    assert "a" not in second.states()


def test_a_name_on_the_hub(tmp_path: Path) -> None:
    with fake_hub() as hub:
        hub.add("acme/tiny-GGUF", {"tiny-Q8_0.gguf": BODY, "tiny-Q4_0.gguf": gguf(1 << 20)}, tags=["tiny"])
        downloads = manager(tmp_path, {"HF_ENDPOINT": hub.endpoint}, allow_private_sources=False)
        model_id = downloads.start(DownloadRequest(source="hf:acme/tiny-GGUF:Q8_0"))
        assert settled(downloads, model_id) is None
    (card,) = ModelCatalog(tmp_path / "models").list()
    assert card.id == model_id
    assert card.metadata["author"] == "acme"
    assert card.metadata["sha256"] == hashlib.sha256(BODY).hexdigest()
