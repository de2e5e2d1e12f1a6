"""What happens to models is told, and no model fails because that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from janflask.errors import ConflictError, JanflaskError
from janflask.models.catalog import ModelCatalog
from janflask.models.state import DownloadRequest, ModelStatus
from janflask.services.model_changes import ModelChanges, ModelChangeService
from janflask.services.model_import import ModelImportService
from janflask.services.upstream_entries import UpstreamEntryService
from janflask.settings import Settings
from tests.fakes.file_server import serving
from tests.integration.download_world import manager, settled
from tests.integration.engine_world import World
from tests.integration.webhook_world import WebhookWorld
from tests.models.tiny import TinyModels


def told(folder: Path) -> list[tuple[str, str]]:
    """Type and model of each event in the spool."""
    world = WebhookWorld(folder)
    (endpoint,) = world.file.current().known.values()
    world.queue.hand_out([endpoint])
    query = "SELECT type, json_extract(data, '$.id') FROM deliveries ORDER BY seq"
    with world.queue._spool.reading() as db:
        return [tuple(row) for row in db.execute(query)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    WebhookWorld(tmp_path).endpoint("https://example.com/")
    return tmp_path


def never(_: str) -> bool:
    return False


def test_files_come_change_and_go(folder: Path, tiny_models: TinyModels) -> None:
    settings = Settings(data_dir=folder, durability="os")
    catalog = ModelCatalog(settings.models_dir)
    settings.models_dir.mkdir()
    imports = ModelImportService(settings, catalog, never)
    imports.add(tiny_models.chat, model_id="m", name=None, progress=lambda *_: None)
    with pytest.raises(JanflaskError):
        imports.add(tiny_models.chat, model_id="m", name=None, progress=lambda *_: None)
    changes = ModelChangeService(settings, catalog)
    changes.modify("m", ModelChanges(name="Tiny"))
    with pytest.raises(ConflictError):
        changes.delete("m", lambda _: ModelStatus.RUNNING)
    changes.delete("m", lambda _: None)
    upstreams = UpstreamEntryService(settings, catalog, never)
    table = {"base_urls": ["http://127.0.0.1:9/v1"], "model": "x"}
    upstreams.add("far", table)
    upstreams.add("far", table | {"model": "y"}, replace=True)
    assert told(folder) == [
        ("model.created", "m"),
        ("model.updated", "m"),
        ("model.deleted", "m"),
        ("model.created", "far"),
        ("model.updated", "far"),
    ]


def test_a_download_is_told_when_the_model_is_there(folder: Path, tiny_models: TinyModels) -> None:
    with serving(tiny_models.chat.read_bytes()) as server:
        downloads = manager(folder)
        downloads.start(DownloadRequest(source=server.url("whole", "m.gguf"), model_id="m"))
        assert settled(downloads, "m") is None
        downloads.close()
    assert told(folder) == [("model.created", "m")]


def test_starts_and_ends(world: World) -> None:
    folder = world.data_dir
    WebhookWorld(folder).endpoint("https://example.com/", "model.*")
    world.model("m")
    world.model("broken", "exit 3")
    supervisor = world.supervisor()
    supervisor.start("m", {})
    with pytest.raises(JanflaskError):
        supervisor.start("broken", {})
    supervisor.stop("m")
    assert told(folder) == [("model.running", "m"), ("model.failed", "broken"), ("model.stopped", "m")]


def test_a_model_starts_though_nobody_can_be_told(world: World) -> None:
    folder = world.data_dir
    WebhookWorld(folder).endpoint("https://example.com/")
    (folder / "webhooks").mkdir()
    (folder / "webhooks" / "spool.sqlite").write_bytes(b"no database" * 1000)
    world.model("m")
    assert world.supervisor().start("m", {}).status is ModelStatus.RUNNING


def test_a_download_that_is_refused_is_not_told(folder: Path) -> None:
    with serving(b"no model at all") as server:
        downloads = manager(folder)
        downloads.start(DownloadRequest(source=server.url("whole", "m.gguf"), model_id="m"))
        assert settled(downloads, "m") is not None
        downloads.close()
    assert not (folder / "models" / "m").exists()
    assert told(folder) == []
