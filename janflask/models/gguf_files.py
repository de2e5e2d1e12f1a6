"""What can be said of a model's files before llama.cpp is asked to load them."""

from __future__ import annotations

import re
from pathlib import Path

from janflask.errors import ModelLoadError

GGUF_MAGIC = b"GGUF"

_SPLIT = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)


def check_parts(path: Path) -> None:
    """Raises ModelLoadError unless the file, and every other part of a split model, is a GGUF that can be read."""
    parts = model_parts(path)
    for number, part in enumerate(parts, 1):
        check_magic(part, f"part {number} of {len(parts)}," if len(parts) > 1 else "")


def model_parts(path: Path) -> list[Path]:
    """All files of the model that one is of: itself, or the parts of a split model. Whether they are there is open."""
    split = _SPLIT.fullmatch(path.name)
    if split is None:
        return [path]
    return [path.with_name(f"{split[1]}-{number:05d}-of-{split[3]}.gguf") for number in range(1, int(split[3]) + 1)]


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
