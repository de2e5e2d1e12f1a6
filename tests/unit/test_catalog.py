"""The models on disk: Jan's layout read leniently, nothing followed that a client could have written."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter

from janflask.errors import InvalidRequestError, ModelNotFoundError
from janflask.models.card import ModelCard
from janflask.models.catalog import ModelCatalog, is_model_id, source_urls
from janflask.models.engine_settings import EngineSettings

JAN_EXAMPLE: dict[str, Any] = {
    "sources": [{"filename": "x.gguf", "url": "https://models.example/x.gguf"}],
    "id": "tiny",
    "object": "model",
    "name": "Tiny 1.1B",
    "version": "1.0",
    "description": "a tiny model",
    "format": "gguf",
    "settings": {
        "ctx_len": 4096,
        "prompt_template": "<|system|>\n{system_message}<|user|>\n{prompt}<|assistant|>",
        "llama_model_path": "x.gguf",
    },
    "parameters": {"temperature": 0.7, "stop": []},
    "metadata": {"author": "someone", "tags": [], "size": 669000000},
    "engine": "nitro",
}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def put(models: Path, model_id: str, description: object = None, *files: str) -> Path:
    """A model's folder with ``description`` as its model.json (text as it is) and files of 4 bytes."""
    folder = models / model_id
    folder.mkdir(parents=True)
    if description is not None:
        text = description if isinstance(description, str) else json.dumps(description)
        (folder / "model.json").write_text(text, "utf-8")
    for name in files:
        (folder / name).write_bytes(b"GGUF")
    return folder


def only(models: Path) -> ModelCard:
    (card,) = ModelCatalog(models).list()
    return card


def test_jans_own_example(models: Path) -> None:
    folder = put(models, "tiny", JAN_EXAMPLE, "x.gguf")
    card = only(models)
    assert card.problem is None
    assert (card.id, card.name, card.path, card.size_bytes) == ("tiny", "Tiny 1.1B", str(folder / "x.gguf"), 4)
    assert card.settings["ctx_len"] == 4096
    assert card.parameters == {"temperature": 0.7, "stop": []}
    assert card.metadata["author"] == "someone"
    assert card.raw == JAN_EXAMPLE


def test_no_folder_is_no_models(tmp_path: Path) -> None:
    assert ModelCatalog(tmp_path / "nowhere").list() == []


def test_a_gguf_alone_is_a_model(models: Path) -> None:
    folder = put(models, "bare", None, "weights.GGUF", "mmproj-x.gguf")
    card = only(models)
    assert (card.name, card.path, card.problem, card.raw) == ("bare", str(folder / "weights.GGUF"), None, {})
    assert card.created == int(folder.stat().st_mtime)


def test_what_is_no_model_is_not_listed(models: Path) -> None:
    put(models, "empty")
    put(models, "notes", None, "readme.txt")
    put(models, "not a model id", None, "readme.txt")
    put(models, ".hidden", None, "x.gguf")
    (models / "file.gguf").write_bytes(b"GGUF")
    assert ModelCatalog(models).list() == []


def test_a_described_model_without_a_file_is_not_downloaded_yet(models: Path) -> None:
    put(models, "tiny", JAN_EXAMPLE)
    card = only(models)
    assert (card.path, card.problem, card.size_bytes) == (None, None, 669000000)


@pytest.mark.parametrize(
    ("description", "says"),
    [
        ("{not json", "cannot be read"),
        ("[]", "holds list"),
        ("", "cannot be read"),
        ('{"name": NaN}', "NaN is not JSON"),
        ("[" * 100_000, "cannot be read"),
        ('{"settings": []}', "settings in model.json is list"),
        ('{"parameters": "x"}', "parameters in model.json is str"),
    ],
)
def test_one_unreadable_file_does_not_empty_the_listing(models: Path, description: str, says: str) -> None:
    put(models, "bad", description, "x.gguf")
    put(models, "good", JAN_EXAMPLE, "x.gguf")
    bad, good = ModelCatalog(models).list()
    assert says in (bad.problem or "")
    assert good.problem is None


def test_bytes_that_are_no_text(models: Path) -> None:
    (put(models, "bad") / "model.json").write_bytes(b"\xff\xfe{}")
    assert "cannot be read" in (only(models).problem or "")


def test_a_byte_order_mark_is_no_problem(models: Path) -> None:
    put(models, "m", "\ufeff" + json.dumps(JAN_EXAMPLE), "x.gguf")
    assert only(models).problem is None


def test_a_huge_description_is_refused(models: Path) -> None:
    put(models, "m", json.dumps({"name": "x" * 5_000_000}), "x.gguf")
    assert "larger than" in (only(models).problem or "")


@pytest.mark.parametrize(
    ("fields", "created"),
    [
        ({"created": 1717666232}, 1717666232),
        ({"created": 1717666232000}, 1717666232),
        ({"created_at": 1717666232000}, 1717666232),
        ({"created_at": "1717666232"}, 1717666232),
        ({"created": 1, "created_at": 2}, 1),
        ({"created": None, "created_at": 2}, 2),
    ],
)
def test_timestamps(models: Path, fields: dict[str, Any], created: int) -> None:
    put(models, "m", fields, "x.gguf")
    assert only(models).created == created


@pytest.mark.parametrize("created", ["soon", -1, True, [], 1e300, "inf", "nan"])
def test_a_useless_timestamp_gives_the_files(models: Path, created: object) -> None:
    folder = put(models, "m", json.dumps({"created": created}), "x.gguf")
    assert only(models).created == int((folder / "model.json").stat().st_mtime)


# --- where the weights are ------------------------------------------------------------------------------------------


def with_path(place: str) -> dict[str, Any]:
    return {"settings": {"llama_model_path": place}}


@pytest.mark.parametrize("place", ["../x.gguf", "../other/x.gguf", "sub/../../x.gguf", "..", "a\0b.gguf"])
def test_a_path_may_not_leave_the_folder(models: Path, place: str) -> None:
    put(models, "other", None, "x.gguf")
    (models / "x.gguf").write_bytes(b"GGUF")
    put(models, "m", with_path(place))
    card = ModelCatalog(models).get("m")
    assert card.path is None
    assert "model.json" in (card.problem or "")


def test_a_subfolder_is_fine(models: Path) -> None:
    folder = put(models, "m", with_path("sub/x.gguf"), "y.gguf")
    (folder / "sub").mkdir()
    (folder / "sub" / "x.gguf").write_bytes(b"GGUF")
    assert only(models).path == str(folder / "sub" / "x.gguf")


def test_an_absolute_path_by_the_owner(models: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "with space.gguf"
    elsewhere.write_bytes(b"GGUF")
    put(models, "a", with_path(str(elsewhere)))
    put(models, "b", {"sources": [{"filename": "none.gguf", "url": str(elsewhere)}]})
    put(models, "c", {"sources": [{"url": elsewhere.as_uri()}]})
    assert [card.path for card in ModelCatalog(models).list()] == [str(elsewhere)] * 3


def test_an_absolute_path_to_something_else(models: Path) -> None:
    put(models, "m", with_path("/etc/passwd"))
    card = only(models)
    assert card.path is None
    assert "not a .gguf" in (card.problem or "")


def test_a_missing_absolute_file_heals(models: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "late.gguf"
    put(models, "m", with_path(str(elsewhere)))
    catalog = ModelCatalog(models)
    assert catalog.get("m").path is None
    elsewhere.write_bytes(b"GGUF")
    assert catalog.get("m").path == str(elsewhere)


def test_a_url_elsewhere_is_not_a_file(models: Path) -> None:
    put(models, "m", {"sources": [{"url": "https://models.example/x.gguf"}, "junk", {"filename": 3}]})
    assert (only(models).path, only(models).problem) == (None, None)


def test_several_files_need_a_name(models: Path) -> None:
    put(models, "m", None, "a.gguf", "b.gguf")
    card = only(models)
    assert card.path is None
    assert "a.gguf, b.gguf" in (card.problem or "")


def test_the_parts_of_a_split_model_are_one(models: Path) -> None:
    folder = put(models, "m", None, "x-00001-of-00002.gguf", "x-00002-of-00002.gguf")
    card = only(models)
    assert (card.path, card.size_bytes) == (str(folder / "x-00001-of-00002.gguf"), 8)


# --- ids ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model_id", ["", ".", "..", "../m", "m/../m", "/etc", "m\n", "m\0", "-m", ".m", "m" * 129, "é", "a b", "m/"]
)
def test_a_hostile_id_is_not_found(models: Path, model_id: str) -> None:
    put(models, "m", None, "x.gguf")
    assert not is_model_id(model_id)
    with pytest.raises(ModelNotFoundError) as caught:
        ModelCatalog(models).get(model_id)
    assert caught.value.param == "model"


def test_an_unknown_id_is_not_found(models: Path) -> None:
    put(models, "m", None, "x.gguf")
    with pytest.raises(ModelNotFoundError, match="'n'"):
        ModelCatalog(models).get("n")
    with pytest.raises(ModelNotFoundError):
        ModelCatalog(models).get("m" * 128)


# --- folders whose names are no ids ---------------------------------------------------------------------------------

JANS_NAMES = (
    "Llama 3 (8B)",
    "Qwen2.5+coder",
    "[test] 7b",
    "модель",
    "モデル",
    "modèle",
    "-m",
    "m" * 200,
    "author/name",
)


@pytest.mark.parametrize("name", JANS_NAMES)
def test_a_model_has_jans_id_and_one_of_ours(models: Path, name: str) -> None:
    put(models, name, None, "x.gguf")
    catalog = ModelCatalog(models)
    card = only(models)
    assert is_model_id(card.id)
    assert card.folder == card.name == name
    assert card.path == str(models / name / "x.gguf")
    for found in (catalog.get(name), catalog.get(card.id), catalog.find(name), catalog.find(card.id)):
        assert found == card
    assert catalog.with_paths(card.id, EngineSettings(lora="a.gguf")).lora == str(models / name / "a.gguf")
    assert catalog.folder(card.id) == models / name


def test_the_id_is_made_of_the_name_alone(models: Path) -> None:
    put(models, "Llama 3 (8B)", None, "x.gguf")
    first = only(models).id
    assert first == "Llama-3-8B-90f3f56b"
    for other in ("llama 3 (8b)", "Llama-3-8B", "Llama 3 [8B]", "Llama 3  (8B)"):
        put(models, other, None, "x.gguf")
    cards = ModelCatalog(models).list()
    assert len({card.id for card in cards}) == 5
    assert ModelCatalog(models).get("Llama 3 (8B)").id == first


def test_a_folder_that_has_the_very_name_wins(models: Path) -> None:
    put(models, "a b", None, "x.gguf")
    derived = only(models).id
    put(models, derived, None, "y.gguf")
    catalog = ModelCatalog(models)
    assert catalog.get(derived).folder == derived
    other = catalog.get("a b")
    assert other.folder == "a b"
    assert other.id != derived
    assert catalog.get(other.id) == other
    assert sorted(card.folder for card in catalog.list()) == sorted(["a b", derived])


def test_a_name_in_either_normal_form_is_the_same(models: Path) -> None:
    put(models, unicodedata.normalize("NFD", "modèle"), None, "x.gguf")  # as macOS writes it
    catalog = ModelCatalog(models)
    assert catalog.get("modèle").id == only(models).id
    put(models, unicodedata.normalize("NFC", "modèle"), None, "y.gguf")  # Linux takes both: each by its own name
    assert catalog.get("modèle").folder == unicodedata.normalize("NFC", "modèle")
    assert len({card.id for card in catalog.list()}) == 2


def test_a_name_that_is_no_text_has_an_id(models: Path) -> None:
    folder = os.fsdecode(b"caf\xe9")  # latin-1
    put(models, folder, None, "x.gguf")
    card = only(models)
    assert is_model_id(card.id)
    assert card.name == "caf\ufffd"
    assert ModelCatalog(models).get(card.id).path == str(models / folder / "x.gguf")


@pytest.mark.parametrize("name", ["a b/..", "a b/.", "a b/", "./a b", "../models/a b", "a b/../a b", "a b\0", ".x y"])
def test_a_folders_name_is_no_path(models: Path, name: str) -> None:
    put(models, "a b", None, "x.gguf")
    put(models, ".x y", None, "x.gguf")
    with pytest.raises(ModelNotFoundError):
        ModelCatalog(models).find(name)


def test_models_in_folders_of_their_authors(models: Path) -> None:
    put(models, "bartowski/Llama-3.2-1B", None, "model.gguf")
    put(models, "huggingface.co/qwen/Qwen2.5-0.5B", None, "q4.gguf")
    put(models, "plain", JAN_EXAMPLE, "x.gguf").joinpath("inner").mkdir()
    put(models, "plain/inner/deeper", None, "y.gguf")  # below a model there is no other
    put(models, "a/b/c/deep", None, "x.gguf")
    put(models, "b/b/c/d/too-deep", None, "x.gguf")
    (models / "loop").symlink_to(models)
    folders = {card.folder for card in ModelCatalog(models).list()}
    assert folders == {"bartowski/Llama-3.2-1B", "huggingface.co/qwen/Qwen2.5-0.5B", "plain", "a/b/c/deep"}


def test_what_is_no_text_can_be_told_all_the_same(models: Path) -> None:
    """Half of an emoji, as JavaScript writes it down, and bytes that are no UTF-8."""
    put(models, "m", '{"name": "half \\ud83d", "settings": {"x": "\\ud83d\\ude00"}}', "x.gguf")
    folder = put(models, "n")
    for name in (b"caf\xe9.gguf", b"caf\xe8.gguf"):
        (folder / os.fsdecode(name)).write_bytes(b"GGUF")
    cut, several = ModelCatalog(models).list()
    assert (cut.name, cut.settings) == ("half \ufffd", {"x": "\U0001f600"})
    assert "caf\ufffd.gguf" in str(several.problem)


# --- what lies beside a model ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "beside",
    [
        "._x.gguf",
        ".hidden.gguf",
        "x.imatrix.gguf",
        "imatrix.gguf",
        "mmproj.gguf",
        "mmproj-x-f16.gguf",
        "model-mmproj-f16.gguf",
        "MMPROJ-F16.GGUF",
    ],
)
def test_what_names_tell_to_be_no_model(models: Path, beside: str) -> None:
    put(models, "m", None, "x.gguf", beside)
    card = only(models)
    assert card.problem is None
    assert card.path == str(models / "m" / "x.gguf")


def kind(path: Path, architecture: str, general_type: str | None = None, *, tensors: int = 1) -> None:
    writer = GGUFWriter(path, architecture)
    if general_type is not None:
        writer.add_type(general_type)
    writer.add_token_list([f"token {number}" for number in range(100)])
    for number in range(tensors):
        writer.add_tensor(f"t{number}", np.zeros((32,), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("architecture", "general_type", "tensors", "says"),
    [
        ("llama", "adapter", 1, "an adapter"),
        ("controlvector", None, 1, "an adapter"),
        ("clip", None, 1, "a projector"),
        ("clip", "mmproj", 1, "a projector"),
        ("llama", "imatrix", 1, "an importance matrix"),
        ("llama", None, 0, "a vocabulary"),
    ],
)
def test_what_the_header_tells_to_be_no_model(
    models: Path, architecture: str, general_type: str | None, tensors: int, says: str
) -> None:
    folder = put(models, "m", None)
    kind(folder / "beside.gguf", architecture, general_type, tensors=tensors)
    card = only(models)
    assert card.path is None
    assert says in str(card.problem)
    kind(folder / "model.gguf", "llama", "model")
    card = only(models)
    assert card.problem is None
    assert card.path == str(folder / "model.gguf")


@pytest.mark.parametrize("name", ["m.IQ4_XS-imatrix.gguf", "m-without-mmproj.gguf"])
def test_a_model_by_its_header_is_one_by_any_name(models: Path, name: str) -> None:
    """Quantizers call a model so that was made with the help of an importance matrix."""
    folder = put(models, "m", None)
    kind(folder / name, "llama", "model")
    kind(folder / "imatrix.gguf", "llama", "imatrix")
    kind(folder / "mmproj.gguf", "clip", "mmproj")
    card = only(models)
    assert (card.problem, card.path) == (None, str(folder / name))
    kind(folder / "other.gguf", "llama", "model")
    assert "several models" in str(only(models).problem)


def test_the_vocabulary_is_not_read_to_tell_a_model(models: Path) -> None:
    folder = put(models, "m", None)
    kind(folder / "x.gguf", "llama", "adapter")
    data = (folder / "x.gguf").read_bytes()
    (folder / "x.gguf").write_bytes(data[: data.index(b"token 50")])  # it ends in the middle of the vocabulary
    assert "an adapter" in str(only(models).problem)


def test_a_projector_among_the_sources_is_not_the_model(models: Path) -> None:
    sources = [{"filename": "model.gguf", "url": ""}, {"filename": "mmproj-model-f16.gguf", "url": ""}]
    folder = put(models, "m", {"sources": sources}, "mmproj-model-f16.gguf")
    assert only(models).path is None
    (folder / "model.gguf").write_bytes(b"GGUF")
    assert only(models).path == str(folder / "model.gguf")


# --- the cache ------------------------------------------------------------------------------------------------------


def test_a_listing_reads_a_file_once(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(models, "m", JAN_EXAMPLE, "x.gguf")
    catalog = ModelCatalog(models)
    first = catalog.list()
    monkeypatch.setattr(json, "loads", lambda *_args, **_kwargs: pytest.fail("read again"))
    assert catalog.list() == first


def test_changes_are_seen(models: Path) -> None:
    folder = put(models, "m", JAN_EXAMPLE, "x.gguf")
    catalog = ModelCatalog(models)
    assert catalog.get("m").name == "Tiny 1.1B"
    (folder / "new.json").write_text(json.dumps(JAN_EXAMPLE | {"name": "Renamed!!"}))
    os.replace(folder / "new.json", folder / "model.json")  # noqa: PTH105
    assert catalog.get("m").name == "Renamed!!"
    with (folder / "x.gguf").open("ab") as file:
        file.write(b"more")
    assert catalog.get("m").size_bytes == 8
    (folder / "x.gguf").unlink()
    assert catalog.get("m").path is None
    (folder / "model.json").unlink()
    assert catalog.list() == []


# --- the files that settings name -----------------------------------------------------------------------------------


def test_files_that_settings_name_count_from_the_models_folder(models: Path) -> None:
    put(models, "m", {})
    found = ModelCatalog(models).with_paths("m", EngineSettings(lora="a.gguf", mmproj="sub/mmproj.gguf", ctx_len=64))
    folder = models / "m"
    assert found == EngineSettings(lora=str(folder / "a.gguf"), mmproj=str(folder / "sub/mmproj.gguf"), ctx_len=64)
    assert ModelCatalog(models).with_paths("m", EngineSettings()) == EngineSettings()


def test_an_absolute_one_is_taken_as_it_is(models: Path) -> None:
    catalog = ModelCatalog(models)
    for place in ("/elsewhere/a.gguf", "file:///elsewhere/a.gguf"):
        assert catalog.with_paths("m", EngineSettings(lora=place)).lora == "/elsewhere/a.gguf"


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("../other/a.gguf", "leaves the model's folder"),
        ("/etc/passwd", "is not a .gguf file"),
        ("https://models.example/a.gguf", "is a URL: it must be a file on this machine"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(models: Path, place: str, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says) as caught:
        ModelCatalog(models).with_paths("m", EngineSettings(lora=place))
    assert caught.value.param == "settings.lora"


def test_a_model_is_found_by_id_and_by_any_of_its_urls(models: Path) -> None:
    urls = ["https://models.example/first.gguf", "https://models.example/a.gguf", "https://models.example/b.gguf"]
    sources = [{"filename": "a.gguf", "url": urls[1]}, {"url": urls[2]}, {"url": 5}, "text"]
    put(models, "a", {"source_url": urls[0], "sources": sources})
    put(models, "b", {"source_url": urls[2], "sources": {"url": urls[1]}})
    catalog = ModelCatalog(models)
    assert [catalog.find(name).id for name in ("a", "b", *urls)] == ["a", "b", "a", "a", "a"]
    assert list(source_urls(catalog.get("a"))) == urls
    for name in ("c", "text", "../a", str(models / "a"), urls[0] + "x", ""):
        with pytest.raises(ModelNotFoundError):
            catalog.find(name)


UPSTREAM: dict[str, Any] = {"base_urls": ["http://10.0.0.2:8000/v1/"], "model": "org/Big", "ctx_len": 32768}


def test_a_model_that_another_server_runs(models: Path) -> None:
    put(models, "big", {"name": "Big", "upstream": UPSTREAM, "metadata": {"author": "org", "context_length": 7}})
    card = only(models)
    assert card.upstream is not None
    assert (card.problem, card.path, card.size_bytes, card.present) == (None, None, 0, True)
    assert (card.upstream.base_urls, card.upstream.model) == (("http://10.0.0.2:8000/v1",), "org/Big")
    assert card.metadata == {"author": "org", "context_length": 32768}


def test_the_card_of_an_upstream_is_kept_and_follows_its_file(models: Path) -> None:
    folder = put(models, "big", {"upstream": UPSTREAM})
    catalog = ModelCatalog(models)
    before = catalog.get("big")
    assert catalog.get("big") is before
    (folder / "model.json").write_text(json.dumps({"upstream": {**UPSTREAM, "model": "other"}}), "utf-8")
    after = catalog.get("big").upstream
    assert after is not None
    assert after.model == "other"


def test_an_upstream_that_is_wrong_is_the_models_problem(models: Path) -> None:
    put(models, "big", {"upstream": {**UPSTREAM, "kind": "tgi", "api_key": "sk-secret"}})
    card = only(models)
    assert card.problem is not None
    assert (card.upstream, card.present) == (None, False)
    assert "upstream.kind must be one of" in card.problem
    assert "sk-secret" not in card.problem


def test_an_upstream_beside_weights_is_not_guessed_about(models: Path) -> None:
    put(models, "big", {"upstream": UPSTREAM}, "x.gguf")
    card = only(models)
    assert card.upstream is None
    assert card.problem == "model.json names an upstream, and there are weights (x.gguf): remove one of them"
