"""Models on disk are changed and deleted: nothing lost, nothing outside of their folders touched."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from janflask.errors import ConflictError, InvalidRequestError, ModelNotFoundError, StoreDamagedError
from janflask.models.catalog import ModelCatalog
from janflask.models.state import ModelStatus
from janflask.services.model_changes import ModelChanges, ModelChangeService
from janflask.settings import Settings


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "tiny").mkdir(parents=True)
    (folder / "tiny" / "x.gguf").write_bytes(b"GGUF")
    return folder


@pytest.fixture
def service(root: Path) -> ModelChangeService:
    settings = Settings(data_dir=root.parent, durability="os")
    return ModelChangeService(settings, ModelCatalog(root))


def described(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "tiny" / "model.json").read_text())
    return content


def idle(_: str) -> ModelStatus | None:
    return None


def test_a_model_without_description_gets_one(service: ModelChangeService, root: Path) -> None:
    before = ModelCatalog(root).get("tiny").created
    card = service.modify("tiny", ModelChanges(name="Tiny", settings={"ctx_len": "4096"}))
    assert (card.name, card.settings, card.created) == ("Tiny", {"ctx_len": 4096}, before)


def test_what_is_not_named_stays(service: ModelChangeService, root: Path) -> None:
    start = {"x": [1], "created": 5, "settings": {"ctx_len": 64, "mine": 1, "llama_model_path": "/a.gguf"}}
    (root / "tiny" / "model.json").write_text(json.dumps(start))
    given = {"ngl": 3, "mine": None, "ctx_len": None, "llama_model_path": "/a.gguf"}
    service.modify("tiny", ModelChanges(settings=given))
    assert described(root) == {"x": [1], "created": 5, "settings": {"llama_model_path": "/a.gguf", "ngl": 3}}


@pytest.mark.parametrize(
    ("name", "value"),
    [("nonsense", 1), ("ctx_len", "many"), ("ctx_len", 1)]
    + [("llama_model_path", path) for path in ("/etc/passwd", "../x.gguf", "no.gguf", "file:x.gguf", "", 5, "x\0")],
)
def test_bad_settings_change_nothing(service: ModelChangeService, root: Path, name: str, value: object) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        service.modify("tiny", ModelChanges(name="New", settings={name: value}))
    assert caught.value.param == f"settings.{name}"
    assert not (root / "tiny" / "model.json").exists()


def test_a_file_of_the_folder_may_be_named(service: ModelChangeService) -> None:
    assert service.modify("tiny", ModelChanges(settings={"llama_model_path": "x.gguf"})).problem is None


@pytest.mark.parametrize("name", ["nobody", "..", "../tiny", "", "tiny/", ".janflask"])
def test_unknown_and_hostile_names(service: ModelChangeService, name: str) -> None:
    with pytest.raises(ModelNotFoundError):
        service.modify(name, ModelChanges(name="x"))
    with pytest.raises(ModelNotFoundError):
        service.delete(name, idle)


def test_a_damaged_description_is_not_replaced(service: ModelChangeService, root: Path) -> None:
    (root / "tiny" / "model.json").write_text("{")
    with pytest.raises(StoreDamagedError):
        service.modify("tiny", ModelChanges(name="x"))
    assert (root / "tiny" / "model.json").read_text() == "{"


def test_concurrent_changes_lose_nothing(service: ModelChangeService, root: Path) -> None:
    def change(number: int) -> None:
        service.modify("tiny", ModelChanges(metadata={f"k{number}": number}))

    threads = [threading.Thread(target=change, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert described(root)["metadata"] == {f"k{number}": number for number in range(16)}


def test_delete_follows_no_link(service: ModelChangeService, root: Path) -> None:
    elsewhere = root.parent / "kept.gguf"
    elsewhere.write_bytes(b"GGUF")
    (root / "tiny" / "link.gguf").symlink_to(elsewhere)
    (root / "tiny" / "model.json").write_text(json.dumps({"settings": {"llama_model_path": str(elsewhere)}}))
    assert service.delete("tiny", idle) == "tiny"
    assert not (root / "tiny").exists()
    assert list((root / ".janflask").iterdir()) == []
    assert elsewhere.read_bytes() == b"GGUF"
    (root / "linked").symlink_to(root.parent / "other")
    (root.parent / "other").mkdir()
    (root.parent / "other" / "y.gguf").write_bytes(b"GGUF")
    with pytest.raises(ConflictError):
        service.delete("linked", idle)
    assert (root.parent / "other" / "y.gguf").exists()


@pytest.mark.parametrize("status", ["starting", "running", "stopping"])
def test_a_model_in_use_stays(service: ModelChangeService, root: Path, status: str) -> None:
    with pytest.raises(ConflictError):
        service.delete("tiny", lambda _: ModelStatus(status))
    answers = iter([None, ModelStatus(status)])  # a start in the middle of the delete
    with pytest.raises(ConflictError):
        service.delete("tiny", lambda _: next(answers))
    assert (root / "tiny" / "x.gguf").exists()


@pytest.mark.parametrize("folder", ["Llama 3 (8B)", "\u65e5\u672c [x]+", "author/name", "author/\u65e5\u672c"])
@pytest.mark.parametrize("by_id", [True, False])
def test_a_folder_of_any_name_is_changed_and_deleted(
    service: ModelChangeService, root: Path, folder: str, by_id: bool
) -> None:
    (root / folder).mkdir(parents=True)
    (root / folder / "y.gguf").write_bytes(b"GGUF")
    name = ModelCatalog(root).get(folder).id if by_id else folder
    card = service.modify(name, ModelChanges(name="New", settings={"llama_model_path": "y.gguf"}))
    assert (card.folder, card.name, card.problem) == (folder, "New", None)
    assert json.loads((root / folder / "model.json").read_text())["id"] == folder
    assert service.delete(name, idle) == card.id
    assert not (root / folder).exists()
    assert [left.id for left in ModelCatalog(root).list()] == ["tiny"]
    assert list((root / ".janflask").iterdir()) == []


def test_half_a_character_in_a_description_stays_harmless(service: ModelChangeService, root: Path) -> None:
    (root / "tiny" / "model.json").write_text('{"description": "cut \\ud83d"}')
    assert service.modify("tiny", ModelChanges(name="New")).name == "New"
    assert described(root)["description"].startswith("cut ")
