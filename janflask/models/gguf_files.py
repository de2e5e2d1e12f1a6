"""What can be said of a model's files before llama.cpp is asked to load them."""

from __future__ import annotations

from pathlib import Path

from janflask.errors import ModelLoadError
from janflask.models.split_names import part_paths

GGUF_MAGIC = b"GGUF"


def check_parts(path: Path) -> None:
    """Raises ModelLoadError unless the file, and every other part of a split model, is a GGUF that can be read."""
    parts = part_paths(path)
    for number, part in enumerate(parts, 1):
        check_magic(part, f"part {number} of {len(parts)}," if len(parts) > 1 else "")


def check_magic(path: Path, what: str = "") -> None:
    """Raises ModelLoadError unless the file is there, readable and begins like a GGUF; ``what`` says what it is."""
    name = f"{what} {path.name}".strip()
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise ModelLoadError(f"{name} cannot be read: {error.strerror}") from error
    if head != GGUF_MAGIC:
        found = "is empty" if not head else f"starts with {head!r}, not {GGUF_MAGIC!r}"
        raise ModelLoadError(f"{name} is not a GGUF file: it {found}")
