"""``janflask models import``, and ``set`` and ``rm`` without a server, on a real disk."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from janflask.cli.models import models
from janflask.cli.tables import size
from janflask.models.catalog import ModelCatalog
from janflask.models.state import DownloadRequest
from janflask.services import model_import
from tests.models.tiny import TinyModels

CHAT = "tiny-chat-F32"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The models' folder of this shell's settings, where no server listens. Nothing half-made may be left in it."""
    monkeypatch.setenv("JANFLASK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JANFLASK_PORT", "1")
    root = tmp_path / "data" / "models"
    yield root
    staging = root / ".janflask"
    assert not staging.exists() or list(staging.iterdir()) == []


@pytest.fixture
def shelf(tmp_path: Path, tiny_models: TinyModels) -> Path:
    """A user's folder with a chat model in it."""
    folder = tmp_path / "my models"
    folder.mkdir()
    shutil.copy(tiny_models.chat, folder)
    return folder


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(models, [str(arg) for arg in args])


def description(root: Path, model_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / model_id / "model.json").read_text())
    return found


def names(root: Path) -> list[str]:
    return [card.id for card in ModelCatalog(root).list()]


# --- import -------------------------------------------------------------------------------------------------------


def test_a_hard_link_by_default(root: Path, shelf: Path) -> None:
    result = run("import", shelf / f"{CHAT}.gguf")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{CHAT} (llama, 95936, F32, 390 kB, 512 tokens of context): 1 file, hard link")
    file = root / CHAT / f"{CHAT}.gguf"
    assert file.samefile(shelf / f"{CHAT}.gguf")
    (shelf / f"{CHAT}.gguf").unlink()
    (card,) = ModelCatalog(root).list()
    assert (card.path, card.problem) == (str(file), None)
    assert str(shelf) not in json.dumps(description(root, CHAT)), "the place of a user's file is nobody's business"
    assert (root / CHAT).stat().st_mode & 0o777 == 0o777 & ~_umask()


def test_a_folder_of_models_does_not_become_one(root: Path, shelf: Path) -> None:
    (root / "author" / "name").mkdir(parents=True)
    (root / "author" / "name" / "x.gguf").write_bytes(b"GGUF")
    result = run("import", "--id", "author", shelf / f"{CHAT}.gguf")
    assert result.exit_code == 1
    assert "the folder author holds models, such as 'author/name': choose another id" in result.stderr
    assert [entry.name for entry in (root / "author").iterdir()] == ["name"]


def test_an_upstream_does_not_become_a_file(root: Path, shelf: Path) -> None:
    (root / "far").mkdir(parents=True)
    entry = json.dumps({"upstream": {"base_urls": ["http://h.example/v1"], "model": "x"}})
    (root / "far" / "model.json").write_text(entry)
    result = run("import", "--id", "far", shelf / f"{CHAT}.gguf")
    assert result.exit_code == 1
    assert "there is a model far already" in result.stderr
    assert (root / "far" / "model.json").read_text() == entry


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_copy(root: Path, shelf: Path) -> None:
    result = run("import", "--copy", "--id", "mine", "--name", "My own", shelf / f"{CHAT}.gguf")
    assert result.stdout.endswith("1 file, copy\n")
    file = root / "mine" / f"{CHAT}.gguf"
    assert not file.samefile(shelf / f"{CHAT}.gguf")
    assert file.read_bytes() == (shelf / f"{CHAT}.gguf").read_bytes()
    assert (description(root, "mine")["name"], description(root, "mine")["id"]) == ("My own", "mine")


def test_another_file_system_gets_a_copy(root: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert run("import", shelf / f"{CHAT}.gguf").stdout.endswith("1 file, copy\n")
    assert (root / CHAT / f"{CHAT}.gguf").is_file()


def test_link_leaves_the_file_where_it_is(root: Path, shelf: Path) -> None:
    result = run("import", "--link", shelf / f"{CHAT}.gguf")
    assert result.stdout.endswith(f"1 file, used from {shelf}\n")
    assert [entry.name for entry in (root / CHAT).iterdir()] == ["model.json"]
    assert description(root, CHAT)["settings"]["llama_model_path"] == str(shelf / f"{CHAT}.gguf")
    assert ModelCatalog(root).get(CHAT).path == str(shelf / f"{CHAT}.gguf")


def test_a_relative_path_and_a_symbolic_link(root: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the hub's cache has it: a name that points to a file called after its hash."""
    (shelf / f"{CHAT}.gguf").rename(shelf / "0a1b")
    (shelf / "nice.gguf").symlink_to("0a1b")
    monkeypatch.chdir(shelf)
    assert run("import", "nice.gguf").exit_code == 0
    file = root / "nice" / "nice.gguf"
    assert not file.is_symlink()
    assert file.samefile(shelf / "0a1b")


@pytest.mark.parametrize("part", [0, 1])
def test_any_part_of_a_split_model_stands_for_all(root: Path, tiny_models: TinyModels, part: int) -> None:
    assert "2 files, hard link" in run("import", tiny_models.split[part]).stdout
    (card,) = ModelCatalog(root).list()
    assert (card.id, card.size_bytes) == ("tiny-split", sum(file.stat().st_size for file in tiny_models.split))


def test_a_missing_part_is_named(root: Path, tiny_models: TinyModels, tmp_path: Path) -> None:
    shutil.copy(tiny_models.split[0], tmp_path)
    result = run("import", tmp_path / tiny_models.split[0].name)
    assert result.exit_code == 1
    assert f"missing in {tmp_path}: {tiny_models.split[1].name}" in result.stderr
    assert names(root) == []


def test_a_lone_projector_comes_along(root: Path, shelf: Path) -> None:
    shutil.copy(shelf / f"{CHAT}.gguf", shelf / "mmproj-f16.gguf")
    result = run("import", shelf / f"{CHAT}.gguf")
    assert "2 files" in result.stdout
    assert result.stdout.endswith("mmproj-f16.gguf came along as its projector.\n")
    assert description(root, CHAT)["settings"]["mmproj"] == "mmproj-f16.gguf"
    assert (root / CHAT / "mmproj-f16.gguf").is_file()


def test_a_projector_among_several_models_may_be_anybodys(root: Path, shelf: Path) -> None:
    for name in ("mmproj-f16.gguf", "other.gguf"):
        shutil.copy(shelf / f"{CHAT}.gguf", shelf / name)
    assert "1 file" in run("import", shelf / f"{CHAT}.gguf").stdout
    assert "mmproj" not in description(root, CHAT)["settings"]


def test_a_name_that_tells_of_no_part_there_can_be_is_one_like_any_other(root: Path, shelf: Path) -> None:
    odd = (shelf / f"{CHAT}.gguf").rename(shelf / f"{CHAT}-00001-of-00000.gguf")
    result = run("import", "--copy", odd)
    assert (result.exit_code, "1 file" in result.stdout) == (0, True)
    assert (root / CHAT / odd.name).is_file()


def test_json(root: Path, shelf: Path) -> None:
    shown = json.loads(run("import", "--json", shelf / f"{CHAT}.gguf").stdout)
    size = (shelf / f"{CHAT}.gguf").stat().st_size
    assert shown == {"model_id": CHAT, "way": "hard_link", "size_bytes": size, "files": 1, "mmproj": None}


@pytest.mark.parametrize(
    ("which", "reason"),
    [
        ("cut_short", "cut-short.gguf is no GGUF file that can be used: it is cut short"),
        ("lora", "is an adapter (LoRA)"),
    ],
)
@pytest.mark.parametrize("way", ["--link", "--copy", None])
def test_what_is_no_model_is_refused(
    root: Path, tiny_models: TinyModels, which: str, reason: str, way: str | None
) -> None:
    result = run("import", getattr(tiny_models, which), *([way] if way else []))
    assert (result.exit_code, result.stdout) == (1, "")
    assert reason in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert names(root) == []


def test_a_web_page_is_no_model(root: Path, tmp_path: Path) -> None:
    (tmp_path / "page.gguf").write_text("<!doctype html>")
    result = run("import", tmp_path / "page.gguf")
    assert (result.exit_code, "it does not begin with GGUF" in result.stderr) == (1, True)


def test_paths_that_lead_to_no_file(root: Path, shelf: Path) -> None:
    assert "is a folder: name a GGUF file in it" in run("import", shelf).stderr
    assert "none.gguf is not there" in run("import", shelf / "none.gguf").stderr
    (shelf / "a.bin").touch()
    assert "has no name that ends in .gguf" in run("import", shelf / "a.bin").stderr


def test_an_id_that_is_taken(root: Path, shelf: Path) -> None:
    assert run("import", shelf / f"{CHAT}.gguf").exit_code == 0
    before = (root / CHAT / "model.json").read_bytes()
    result = run("import", "--copy", shelf / f"{CHAT}.gguf")
    assert result.exit_code == 1
    assert f"there is a model {CHAT} already: choose another id" in result.stderr
    assert (root / CHAT / "model.json").read_bytes() == before


@pytest.mark.parametrize("model_id", ["../x", ".x", "a b", "x" * 129])
def test_an_id_that_is_none(root: Path, shelf: Path, model_id: str) -> None:
    result = run("import", "--id", model_id, shelf / f"{CHAT}.gguf")
    assert (result.exit_code, "cannot be a model's id" in result.stderr) == (1, True)


def test_two_ways_are_wrong_usage(root: Path, shelf: Path) -> None:
    assert run("import", "--link", "--copy", shelf / f"{CHAT}.gguf").exit_code == 2


def test_a_model_that_was_only_described_gets_its_weights(root: Path, shelf: Path) -> None:
    (root / "jans").mkdir(parents=True)
    (root / "jans" / "model.json").write_text(json.dumps({"id": "jans", "name": "Jan's own", "mine": 1}))
    assert run("import", "--id", "jans", shelf / f"{CHAT}.gguf").exit_code == 0
    assert (description(root, "jans")["name"], description(root, "jans")["mine"]) == ("Jan's own", 1)
    assert ModelCatalog(root).get("jans").path is not None


def test_a_full_disk_is_told_before_anything_is_copied(
    root: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_import, "MARGIN", 1 << 60)
    result = run("import", "--copy", shelf / f"{CHAT}.gguf")
    assert (result.exit_code, "make room, or import with --link" in result.stderr) == (1, True)
    assert names(root) == []


def test_a_copy_that_fails_half_way_leaves_nothing(root: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt

    settings_catalog = ModelCatalog(root)
    service = model_import.ModelImportService(_settings(), settings_catalog, lambda _: False)
    with pytest.raises(KeyboardInterrupt):
        service.add(shelf / f"{CHAT}.gguf", way=model_import.Way.COPY, name=None, progress=fail)
    assert names(root) == []


def _settings() -> Any:
    from janflask.settings import Settings

    return Settings.from_env()


@pytest.mark.parametrize(
    ("name", "model_id"),
    [
        ("Llama 3.2 (1B).Q4_K_M.gguf", "Llama-3.2-1B-.Q4_K_M"),
        ("x-00001-of-00003.GGUF", "x"),
        ("..gguf", "model"),
        ("ä.gguf", "model"),
    ],
)
def test_ids_made_from_names(name: str, model_id: str) -> None:
    assert model_import.default_id(Path(name)) == model_id


# --- set and rm without a server ----------------------------------------------------------------------------------


def test_set_writes_model_json(root: Path, shelf: Path) -> None:
    run("import", shelf / f"{CHAT}.gguf")
    result = run("set", CHAT, "ctx_len=256", "parameters.temperature=0.5", "name=Other", "description=A try")
    assert result.exit_code == 0
    assert f"No server answers: this is about the models in {root}." in result.stderr
    written = description(root, CHAT)
    assert (written["settings"]["ctx_len"], written["parameters"]["temperature"]) == (256, 0.5)
    assert (written["name"], written["description"]) == ("Other", "A try")
    assert run("set", CHAT, "ctx_len=", "parameters.temperature=").exit_code == 0
    assert "ctx_len" not in description(root, CHAT)["settings"]
    assert description(root, CHAT)["parameters"] == {}


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("ctx_len=many", "settings.ctx_len"),
        ("nonsense=1", "there is no setting 'nonsense'"),
        ("parameters.temperature=9", "parameters.temperature must be from 0 to 2"),
        ("parameters.nonsense=1", "is not a known parameter"),
        ("llama_model_path=/etc/passwd", "must be the plain name of a file"),
    ],
)
def test_set_refuses_what_the_server_would(root: Path, shelf: Path, item: str, reason: str) -> None:
    run("import", shelf / f"{CHAT}.gguf")
    before = (root / CHAT / "model.json").read_bytes()
    result = run("set", CHAT, item)
    assert (result.exit_code, reason in result.stderr) == (1, True), result.stderr
    assert (root / CHAT / "model.json").read_bytes() == before


def test_set_of_an_unknown_model(root: Path) -> None:
    assert "there is no model 'x' on disk; there are: none" in run("set", "x", "ctx_len=16").stderr


def test_rm_tells_what_came_free(root: Path, shelf: Path) -> None:
    """A file that has another name takes its space still."""
    run("import", "--copy", "--id", "copied", shelf / f"{CHAT}.gguf")
    run("import", "--id", "linked", shelf / f"{CHAT}.gguf")
    own = [[root / "copied" / f"{CHAT}.gguf", root / "copied" / "model.json"], [root / "linked" / "model.json"]]
    copied, linked = (size(512 * sum(file.stat().st_blocks for file in files)) for files in own)
    result = run("rm", "copied", "linked")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"copied is deleted, which frees {copied}.",
        f"linked is deleted, which frees {linked}.",
    ]
    assert names(root) == []
    assert (shelf / f"{CHAT}.gguf").is_file()


def test_rm_of_a_model_used_from_elsewhere_keeps_its_file(root: Path, shelf: Path) -> None:
    run("import", "--link", shelf / f"{CHAT}.gguf")
    assert run("rm", CHAT).exit_code == 0
    assert (names(root), (shelf / f"{CHAT}.gguf").is_file()) == ([], True)


def test_rm_of_an_unknown_model_goes_on_with_the_next(root: Path, shelf: Path) -> None:
    run("import", shelf / f"{CHAT}.gguf")
    result = run("rm", "nobody", CHAT)
    assert (result.exit_code, names(root)) == (1, [])
    assert "there is no model 'nobody' on disk" in result.stderr


def test_rm_of_a_download_that_an_ended_server_left(root: Path, shelf: Path) -> None:
    from janflask.downloads.job import Job, JobFolder

    jobs = JobFolder(root)
    jobs.save(Job(model_id="half", request=DownloadRequest(source="https://x.example/a.gguf"), created=1.0))
    jobs.staging("half").mkdir()
    (jobs.staging("half") / "a.gguf.part").write_bytes(bytes(100_000))
    assert "half is being downloaded" in run("import", "--id", "half", shelf / f"{CHAT}.gguf").stderr
    result = run("rm", "half")
    assert result.exit_code == 0
    assert result.stdout.startswith("half is deleted, which frees 10")
    assert not jobs.exists("half")
    assert not jobs.staging("half").exists()
