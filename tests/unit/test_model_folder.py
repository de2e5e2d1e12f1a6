"""Files become a model: what model.json says of them, and that nobody ever sees half of one."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFWriter

from janflask.errors import ConflictError, RequestTooLargeError, StorageFullError, StoreBusyError
from janflask.models import publish as model_folder
from janflask.models.catalog import MAX_MODEL_FILE, ModelCatalog
from janflask.models.description import MAX_TEMPLATE
from janflask.models.gguf_header import GgufError
from janflask.models.publish import Origin, describe, publish, write_model_json
from tests.models.tiny import CHAT_TEMPLATE, CONTEXT, EMBEDDING_CONTEXT, EMBEDDING_WIDTH, TinyModels, write_chat

SOURCE = "hf:org/tiny:F32"
ENTRY = {
    "id": "tiny",
    "object": "model",
    "name": "Tiny, as Jan lists it",
    "description": "Very small",
    "created": 1_700_000_000,
    "sources": [{"filename": "tiny.gguf", "url": "https://h.example/tiny.gguf"}],
    "settings": {"ctx_len": 256, "llama_model_path": "tiny.gguf", "prompt_template": "{prompt}"},
    "parameters": {"temperature": 0.1, "stop": []},
    "metadata": {"author": "Jan", "tags": ["listed"], "size": 1, "cover": "x.png"},
    "engine": "nitro",
    "featured": True,
}


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def stage(models_dir: Path, *files: Path, model_id: str = "tiny") -> Path:
    staging = models_dir / ".downloads" / model_id
    staging.mkdir(parents=True)
    for file in files:
        shutil.copy(file, staging)
    return staging


def origins(files: Sequence[Path]) -> list[Origin]:
    return [
        Origin(file.name, f"https://h.example/{file.name}", hashlib.sha256(file.read_bytes()).hexdigest())
        for file in files
    ]


def publish_files(models_dir: Path, files: Sequence[Path], **more: Any) -> Path:
    staging = stage(models_dir, *files)
    publish(models_dir, "tiny", staging, source=SOURCE, files=origins(files), **more)
    return models_dir / "tiny"


def read(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "model.json").read_text())
    return content


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def projector(folder: Path) -> Path:
    path = folder / "mmproj-tiny-f16.gguf"
    writer = GGUFWriter(path, "clip")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


# --- what files say ---------------------------------------------------------------------------------------------------


def test_a_chat_model_is_described(tiny_models: TinyModels) -> None:
    facts = describe([tiny_models.chat])
    assert facts.pop("parameter_count") > 10_000
    assert facts == {
        "architecture": "llama",
        "quantization": "F32",
        "context_length": CONTEXT,
        "size": tiny_models.chat.stat().st_size,
        "author": "nobody",
        "chat_template": CHAT_TEMPLATE,
    }


def test_an_embedding_model_is_described(tiny_models: TinyModels) -> None:
    facts = describe([tiny_models.embedding])
    assert (facts["architecture"], facts["context_length"]) == ("bert", EMBEDDING_CONTEXT)
    assert (facts["embedding"], facts["pooling"], facts["embedding_length"]) == (True, "mean", EMBEDDING_WIDTH)
    assert describe([tiny_models.reranker])["pooling"] == "rank"
    assert "embedding" not in describe([tiny_models.chat])


def test_the_parts_of_a_model_are_described_together(tiny_models: TinyModels) -> None:
    whole, split = describe([tiny_models.chat]), describe(tiny_models.split)
    assert split["parameter_count"] == whole["parameter_count"]
    assert split["size"] == sum(part.stat().st_size for part in tiny_models.split)
    with pytest.raises(GgufError, match="one of 2 files"):
        describe(tiny_models.split[:1])


def test_a_template_that_is_too_long_is_left_in_the_file(tmp_path: Path) -> None:
    longest = "ä" * (MAX_TEMPLATE // 2)
    assert describe([write_chat(tmp_path / "a.gguf", template=longest)])["chat_template"] == longest
    assert "chat_template" not in describe([write_chat(tmp_path / "b.gguf", template=longest + "a")])


def test_what_is_no_model_is_refused(tiny_models: TinyModels, tmp_path: Path) -> None:
    for path, says in (
        (tiny_models.lora, "tiny-lora.gguf is an adapter"),
        (projector(tmp_path), "is a projector"),
        (tiny_models.cut_short, "cut-short.gguf is no GGUF.*cut short"),
    ):
        with pytest.raises(GgufError, match=says):
            describe([path])


def test_a_vocabulary_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vocab.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_token_list(["a", "b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(GgufError, match="no weights"):
        describe([path])


# --- a new model ------------------------------------------------------------------------------------------------------


def test_a_new_model(models_dir: Path, tiny_models: TinyModels) -> None:
    sha256 = hashlib.sha256(tiny_models.chat.read_bytes()).hexdigest()
    folder = publish_files(
        models_dir,
        [tiny_models.chat],
        name="Tiny",
        settings={"ctx_len": 128, "llama_model_path": "/etc/passwd"},
        parameters={"temperature": 0.5},
        metadata={"author": "org", "tags": ["a"], "size": 7, "note": "ü \ud800"},
    )
    content = read(folder)
    assert names(folder) == ["model.json", tiny_models.chat.name]
    assert not (models_dir / ".downloads" / "tiny").exists()
    assert content.pop("created") > 1_700_000_000
    assert content.pop("metadata") == {
        **describe([tiny_models.chat]),
        "author": "org",
        "tags": ["a"],
        "note": "ü ?",
        "sha256": sha256,
    }
    assert content == {
        "id": "tiny",
        "object": "model",
        "name": "Tiny",
        "version": "1.0",
        "description": "",
        "format": "gguf",
        "owned_by": "org",
        "engine": "nitro",
        "source_url": SOURCE,
        "sources": [
            {
                "filename": tiny_models.chat.name,
                "url": f"https://h.example/{tiny_models.chat.name}",
                "sha256": sha256,
            }
        ],
        "settings": {"ctx_len": 128, "llama_model_path": tiny_models.chat.name},
        "parameters": {"temperature": 0.5},
    }
    card = ModelCatalog(models_dir).find(SOURCE)
    assert (card.problem, card.path) == (None, str(folder / tiny_models.chat.name))


def test_a_split_model_with_its_projector(models_dir: Path, tiny_models: TinyModels, tmp_path: Path) -> None:
    files = [*tiny_models.split, projector(tmp_path)]
    folder = publish_files(models_dir, files)
    content = read(folder)
    assert content["settings"] == {"llama_model_path": files[0].name, "mmproj": files[2].name}
    assert [source["filename"] for source in content["sources"]] == [file.name for file in files]
    card = ModelCatalog(models_dir).get("tiny")
    assert card.path == str(folder / files[0].name)
    assert card.size_bytes == sum(file.stat().st_size for file in tiny_models.split)


def test_what_else_is_in_staging_does_not_come_along(models_dir: Path, tiny_models: TinyModels) -> None:
    staging = stage(models_dir, tiny_models.chat)
    (staging / "other.part").write_text("x")
    (staging / "folder").mkdir()
    publish(models_dir, "tiny", staging, source=SOURCE, files=origins([tiny_models.chat]))
    assert names(models_dir / "tiny") == ["model.json", tiny_models.chat.name]


def test_a_file_that_stays_where_it_is(models_dir: Path, tiny_models: TinyModels) -> None:
    path = str(tiny_models.chat)
    publish(models_dir, "tiny", stage(models_dir), source=path, files=[Origin(path, tiny_models.chat.as_uri())])
    assert names(models_dir / "tiny") == ["model.json"]
    assert read(models_dir / "tiny")["settings"] == {"llama_model_path": path}
    assert ModelCatalog(models_dir).get("tiny").path == path


@pytest.mark.parametrize("filename", ["../x.gguf", "a/x.gguf", "..", "", "x\0.gguf", "mmproj.gguf"])
def test_names_that_are_paths_are_refused(models_dir: Path, filename: str) -> None:
    with pytest.raises(ValueError, match=r"name|projector"):
        publish(models_dir, "tiny", stage(models_dir), source=SOURCE, files=[Origin(filename, "https://h.example/x")])
    with pytest.raises(ValueError, match="id"):
        publish(models_dir, "../x", models_dir, source=SOURCE, files=[Origin("x.gguf", "https://h.example/x")])


def test_a_refusal_leaves_all_as_it_was(models_dir: Path, tiny_models: TinyModels) -> None:
    staging = stage(models_dir, tiny_models.cut_short)
    with pytest.raises(GgufError):
        publish(models_dir, "tiny", staging, source=SOURCE, files=origins([tiny_models.cut_short]))
    assert names(staging) == [tiny_models.cut_short.name]
    assert names(models_dir) == [".downloads"]


def test_a_description_that_is_too_large(models_dir: Path, tiny_models: TinyModels) -> None:
    with pytest.raises(RequestTooLargeError):
        publish_files(models_dir, [tiny_models.chat], metadata={"note": "x" * MAX_MODEL_FILE})
    assert names(models_dir) == [".downloads"]


# --- a model that is described already --------------------------------------------------------------------------------


def describe_entry(models_dir: Path, **more: Any) -> Path:
    folder = models_dir / "tiny"
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps({**ENTRY, **more}))
    (folder / "cover.png").write_text("a picture")
    return folder


def test_a_listed_model_gets_its_weights(models_dir: Path, tiny_models: TinyModels) -> None:
    folder = describe_entry(models_dir)
    publish_files(models_dir, [tiny_models.chat], settings={"ctx_len": 64}, metadata={"tags": ["mine"]})
    content = read(folder)
    assert names(folder) == ["cover.png", "model.json", tiny_models.chat.name]
    assert names(models_dir / ".downloads") == []
    kept = ("id", "object", "name", "description", "created", "engine", "featured", "parameters")
    assert {name: content[name] for name in kept} == {name: ENTRY[name] for name in kept}
    assert content["settings"] == {
        "ctx_len": 64,
        "llama_model_path": tiny_models.chat.name,
        "prompt_template": "{prompt}",
    }
    metadata = content["metadata"]
    assert (metadata["author"], metadata["tags"], metadata["cover"]) == ("Jan", ["mine"], "x.png")
    assert (metadata["architecture"], metadata["size"]) == ("llama", tiny_models.chat.stat().st_size)
    assert [source["filename"] for source in content["sources"]] == [tiny_models.chat.name, "tiny.gguf"]
    catalog = ModelCatalog(models_dir)
    assert catalog.find(SOURCE).id == catalog.find("https://h.example/tiny.gguf").id == "tiny"
    assert catalog.get("tiny").path == str(folder / tiny_models.chat.name)


def test_an_empty_folder_is_taken(models_dir: Path, tiny_models: TinyModels) -> None:
    (models_dir / "tiny").mkdir()
    publish_files(models_dir, [tiny_models.chat])
    assert ModelCatalog(models_dir).get("tiny").path is not None


UPSTREAM = {"base_urls": ["http://h.example/v1"], "model": "x", "api_key_env": "JANFLASK_UPSTREAM_KEY"}


def test_a_model_json_that_came_along_makes_no_upstream(models_dir: Path, tiny_models: TinyModels) -> None:
    staging = stage(models_dir, tiny_models.chat)
    (staging / "model.json").write_text(json.dumps({"upstream": UPSTREAM}))
    (staging / "a.key").write_text("key")
    told = {"upstream": UPSTREAM}
    files = origins([tiny_models.chat])
    publish(
        models_dir, "tiny", staging, source=SOURCE, files=files, settings=told, parameters=told, metadata=told, name="N"
    )
    assert "upstream" not in read(models_dir / "tiny")
    assert names(models_dir / "tiny") == ["model.json", tiny_models.chat.name]
    card = ModelCatalog(models_dir).get("tiny")
    assert (card.upstream, card.problem) == (None, None)


@pytest.mark.parametrize(("table", "code"), [(UPSTREAM, "model_exists"), ({"model": "x"}, "conflict")])
def test_an_upstream_is_never_given_weights(
    models_dir: Path, tiny_models: TinyModels, table: dict[str, Any], code: str
) -> None:
    folder = describe_entry(models_dir, upstream=table)
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    with pytest.raises(ConflictError) as refused:
        publish_files(models_dir, [tiny_models.chat])
    assert refused.value.code == code
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before


def test_weights_are_never_replaced(models_dir: Path, tiny_models: TinyModels) -> None:
    folder = publish_files(models_dir, [tiny_models.other_chat])
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    with pytest.raises(ConflictError) as refused:
        publish_files(models_dir, [tiny_models.chat])
    assert refused.value.code == "model_exists"
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before
    assert names(models_dir / ".downloads" / "tiny") == [tiny_models.chat.name]


def test_other_files_are_never_replaced(models_dir: Path, tiny_models: TinyModels, tmp_path: Path) -> None:
    folder = describe_entry(models_dir)
    image = projector(tmp_path)
    (folder / image.name).write_text("somebody's own")
    with pytest.raises(ConflictError, match=r"a file mmproj-tiny-f16\.gguf"):
        publish_files(models_dir, [tiny_models.chat, image])
    assert (folder / image.name).read_text() == "somebody's own"
    assert ModelCatalog(models_dir).get("tiny").path is None


def test_a_damaged_description_is_not_overwritten(models_dir: Path, tiny_models: TinyModels) -> None:
    folder = describe_entry(models_dir)
    (folder / "model.json").write_text("{")
    with pytest.raises(ConflictError, match="cannot be used"):
        publish_files(models_dir, [tiny_models.chat])
    assert (folder / "model.json").read_text() == "{"


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_what_is_no_folder_is_left_alone(models_dir: Path, tiny_models: TinyModels, kind: str) -> None:
    place = models_dir / "tiny"
    if kind == "file":
        place.write_text("x")
    else:
        place.symlink_to("nowhere")
    with pytest.raises(ConflictError):
        publish_files(models_dir, [tiny_models.chat])
    assert os.path.lexists(place)
    assert names(models_dir / ".downloads" / "tiny") == [tiny_models.chat.name]


def test_it_waits_for_who_changes_the_model(
    models_dir: Path, tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = describe_entry(models_dir)
    monkeypatch.setattr(model_folder, "LOCK_TIMEOUT", 0.02)
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(StoreBusyError):
            publish_files(models_dir, [tiny_models.chat])
    finally:
        os.close(fd)
    assert json.loads((folder / "model.json").read_text()) == ENTRY
    publish(
        models_dir,
        "tiny",
        models_dir / ".downloads" / "tiny",
        source=SOURCE,
        files=origins([tiny_models.chat]),
    )
    assert ModelCatalog(models_dir).get("tiny").path is not None


def test_without_hard_links_files_are_moved(
    models_dir: Path, tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    folder = describe_entry(models_dir)
    publish_files(models_dir, tiny_models.split)
    assert names(folder) == ["cover.png", "model.json", *(part.name for part in tiny_models.split)]


# --- the disk ---------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model_json(tmp_path, {"id": "a"}, durable=True)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFullError):
        write_model_json(tmp_path, {"id": "b"}, durable=True)
    assert (names(tmp_path), read(tmp_path)) == (["model.json"], {"id": "a"})


def test_files_and_folders_reach_the_disk_in_order(
    models_dir: Path, tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int | str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: steps.append(os.fstat(fd).st_ino))
    rename = Path.rename

    def noted(self: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", noted)
    folder = publish_files(models_dir, [tiny_models.chat])
    synced = (folder / tiny_models.chat.name, folder / "model.json", folder)
    assert steps == [*(path.stat().st_ino for path in synced), "rename", models_dir.stat().st_ino]
    steps.clear()
    publish(
        models_dir,
        "other",
        stage(models_dir, tiny_models.chat, model_id="other"),
        source=SOURCE,
        files=origins([tiny_models.chat]),
        durable=False,
    )
    assert steps == ["rename"]


def test_files_join_a_described_model_in_a_folder_of_any_name(models_dir: Path, tiny_models: TinyModels) -> None:
    """Jan's catalogue has it without weights; its id leads to that folder, and to no second one."""
    folder = models_dir / "Tiny (135M) chat"
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps(ENTRY))
    model_id = ModelCatalog(models_dir).get("Tiny (135M) chat").id
    staging = stage(models_dir, tiny_models.chat, model_id=model_id)
    publish(models_dir, model_id, staging, source=SOURCE, files=origins([tiny_models.chat]))
    (card,) = ModelCatalog(models_dir).list()
    assert (card.id, card.folder) == (model_id, "Tiny (135M) chat")
    assert card.path == str(folder / tiny_models.chat.name)
    assert not (models_dir / model_id).exists()
    staging = stage(models_dir, tiny_models.other_chat, model_id=model_id)
    with pytest.raises(ConflictError, match="there is a model"):
        publish(models_dir, model_id, staging, source=SOURCE, files=origins([tiny_models.other_chat]))


def test_no_model_takes_a_folder_of_models(models_dir: Path, tiny_models: TinyModels) -> None:
    """It would hide them, and take them along when it is deleted."""
    inner = models_dir / "author" / "name"
    inner.mkdir(parents=True)
    (inner / "x.gguf").write_bytes(b"GGUF")
    files = origins([tiny_models.chat])
    with pytest.raises(ConflictError, match="holds models, such as 'author/name'"):
        publish(
            models_dir, "author", stage(models_dir, tiny_models.chat, model_id="author"), source=SOURCE, files=files
        )
    assert [card.folder for card in ModelCatalog(models_dir).list()] == ["author/name"]
    publish(models_dir, "auth", stage(models_dir, tiny_models.chat, model_id="auth"), source=SOURCE, files=files)
