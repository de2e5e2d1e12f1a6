"""Describes a model in Jan's format: what its files say of themselves, where they came from, how it is to be run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from janflask.models.gguf_header import GgufError, GgufHeader, read_header
from janflask.models.model_files import is_projector_name

MAX_TEMPLATE = 64 * 1024  # bytes of a chat template that is told in model.json; the file has it anyway
MAX_TEXT = 200  # characters of what a file says of itself in free text


@dataclass(frozen=True, slots=True)
class Origin:
    """A model's file and where it came from.

    ``filename`` is a plain name in the model's folder, or the absolute path of a file that stays where it is.
    """

    filename: str
    url: str
    sha256: str | None = None

    @property
    def is_projector(self) -> bool:
        """Whether it is what turns pictures or sound into the model's input; known by its name, as in Jan's folders."""
        return is_projector_name(Path(self.filename).name)


def describe(paths: Sequence[Path]) -> dict[str, Any]:
    """What the files of one model, in order and without its projector, say of themselves: ``metadata`` of model.json.

    Raises GgufError if they are no model, or not all of it, OSError if they cannot be read.
    """
    headers = [header_of(path) for path in paths]
    first = headers[0]
    _check_model(first, paths[0].name, len(paths), sum(header.tensor_count for header in headers))
    template = first.chat_template
    facts = {
        "architecture": first.architecture,
        "quantization": first.quantization,
        "parameter_count": sum(header.parameter_count for header in headers),
        "context_length": first.context_length,
        "size": sum(path.stat().st_size for path in paths),
        "author": _short(first.text("general.author")),
        "license": _short(first.text("general.license")),
        "chat_template": template if template and len(template.encode()) <= MAX_TEMPLATE else None,
    }
    if first.is_embedding:
        facts |= {"embedding": True, "embedding_length": first.embedding_length, "pooling": first.pooling}
    return {name: value for name, value in facts.items() if value is not None}


def header_of(path: Path) -> GgufHeader:
    """Raises GgufError, with the file's name, and OSError."""
    try:
        return read_header(path)
    except GgufError as error:
        raise GgufError(f"{path.name} is no GGUF file that can be used: {error}") from None


def _check_model(first: GgufHeader, name: str, files: int, tensors: int) -> None:
    if first.is_projector:
        raise GgufError(f"{name} is a projector (mmproj): fetch or import the model that it belongs to")
    if first.is_adapter:
        raise GgufError(f"{name} is an adapter (LoRA): put it into its model's folder and name it in the setting lora")
    if first.architecture is None or len(first.architecture) > MAX_TEXT:
        raise GgufError(f"{name} does not say what architecture it has")
    if first.split_count != files:
        raise GgufError(f"{name} is one of {first.split_count} files of a model, of which {files} are given")
    if not tensors:
        raise GgufError(f"{name} has no weights, only a vocabulary")


def _short(text: str | None) -> str | None:
    return text if text is not None and len(text) <= MAX_TEXT else None


def model_json(
    model_id: str,
    files: Sequence[Origin],
    facts: Mapping[str, Any],
    *,
    source: str,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    existing: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A model's description in Jan's format; ``facts`` is what ``describe`` gives.

    What the caller names goes over what an ``existing`` model.json says, and that over what the file says of its author
    and licence. What the file says of its weights stands. Fields that nobody here knows are kept.
    """
    before = existing or {}
    hashes = {"sha256": files[0].sha256} if files[0].sha256 else {}
    soft = {name: facts[name] for name in ("author", "license") if name in facts}
    hard = {name: value for name, value in facts.items() if name not in soft}
    merged = {**soft, **_table(before, "metadata"), **(metadata or {}), **hard, **hashes}
    author = merged.get("author")
    projectors = [file.filename for file in files if file.is_projector]
    places = {"llama_model_path": files[0].filename} | ({"mmproj": projectors[0]} if projectors else {})
    content = {
        "id": model_id,
        "object": "model",
        "name": model_id,
        "version": "1.0",
        "description": "",
        "format": "gguf",
        "created": int(time.time()),
        "owned_by": author if isinstance(author, str) else "",
        "engine": "nitro",
        **before,
        "source_url": source,
        "sources": _sources(before, files),
        "settings": {**_table(before, "settings"), **(settings or {}), **places},
        "parameters": {**_table(before, "parameters"), **(parameters or {})},
        "metadata": merged,
    }
    return content | ({"name": name} if name else {})


def _table(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = content.get(name)
    return dict(value) if isinstance(value, dict) else {}


def _sources(before: Mapping[str, Any], files: Sequence[Origin]) -> list[Any]:
    """Ours, then those that a description named before us: somebody may know the model by one of them."""
    ours = [
        {"filename": file.filename, "url": file.url} | ({"sha256": file.sha256} if file.sha256 else {})
        for file in files
    ]
    known = {(file.filename, file.url) for file in files}
    listed = before.get("sources")
    theirs = [
        entry
        for entry in (listed if isinstance(listed, list) else [])
        if not isinstance(entry, dict) or (entry.get("filename"), entry.get("url")) not in known
    ]
    return [*ours, *theirs]
