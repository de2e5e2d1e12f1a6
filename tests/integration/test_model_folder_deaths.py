"""Publishing a model, ended by a kill before each of its steps: the old state or the new one, and another try works."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from janflask.models.catalog import ModelCatalog
from janflask.models.publish import Origin, publish
from tests.models.tiny import TinyModels, write_chat

SOURCE = "https://h.example/model.gguf"
DEATHS = 24  # more than there are steps
ENTRY = {"id": "tiny", "object": "model", "name": "As listed", "settings": {"ctx_len": 64}, "featured": True}


def run(root: Path, names: list[str]) -> list[str]:
    """What each of the processes was about to do when it died."""
    command = [sys.executable, "-m", "tests.integration.model_folder_deaths"]
    places = [str(root / "{}" / "models"), str(root / "{}" / "models" / ".downloads" / "tiny")]
    done = subprocess.run(
        [*command, *places, SOURCE, str(DEATHS), *names], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.split()


def prepare(root: Path, files: list[Path], *, listed: bool) -> list[Path]:
    folders = []
    for number in range(DEATHS):
        models = root / str(number) / "models"
        staging = models / ".downloads" / "tiny"
        staging.mkdir(parents=True)
        for file in files:
            shutil.copy(file, staging)
        if listed:
            (models / "tiny").mkdir()
            (models / "tiny" / "model.json").write_text(json.dumps(ENTRY))
        folders.append(models)
    return folders


@pytest.mark.parametrize("listed", [False, True], ids=["new", "listed before"])
@pytest.mark.parametrize("kind", ["one file", "split, with a projector"])
def test_a_death_at_any_step(tmp_path: Path, tiny_models: TinyModels, listed: bool, kind: str) -> None:
    files = [tiny_models.chat]
    if kind != "one file":
        files = [*tiny_models.split, write_chat(tmp_path / "mmproj-tiny.gguf", architecture="clip")]
    folders = prepare(tmp_path, files, listed=listed)
    ends = run(tmp_path, [file.name for file in files])
    assert len(ends) == DEATHS
    assert ends[-1] == "published"
    assert ends.count("published") < DEATHS - 2
    size = sum(file.stat().st_size for file in files if not file.name.startswith("mmproj"))
    for models, end in zip(folders, ends, strict=True):
        cards = {card.id: card for card in ModelCatalog(models).list()}
        assert set(cards) <= {"tiny"}
        card = cards.get("tiny")
        if card is not None and card.path is not None:
            assert (card.problem, card.size_bytes) == (None, size)
            assert Path(card.path).read_bytes() == files[0].read_bytes()
        if listed:
            assert card is not None
            assert (card.name, card.raw["featured"], card.settings["ctx_len"]) == ("As listed", True, 64)
        elif card is not None:
            assert card.raw["source_url"] == SOURCE
        staging = models / ".downloads" / "tiny"
        if all((staging / file.name).exists() for file in files):
            origins = [Origin(file.name, f"https://h.example/{file.name}") for file in files]
            publish(models, "tiny", staging, source=SOURCE, files=origins)
        else:  # the model is there; what is left in staging is nobody's
            assert card is not None
            assert card.raw["source_url"] == SOURCE
        assert end == "published" or card is None or listed or not staging.exists()
        final = ModelCatalog(models).find(SOURCE)
        expected = {"model.json", *(file.name for file in files)}
        left = {path.name for path in (models / "tiny").iterdir()}
        assert (final.problem, final.size_bytes, left) == (None, size, expected)
