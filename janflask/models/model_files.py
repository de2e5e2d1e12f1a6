"""Which files in a model's folder are its weights, and which only lie beside them in the same format.

Names tell most of it: macOS leaves ``._NAME.gguf``, projectors have ``mmproj`` in their names, those of importance
matrices end in ``imatrix.gguf``. The beginning of the file tells the rest (adapters, control vectors, vocabularies),
and counts over a name: there are models with such names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from janflask.models.gguf_header import GgufError, GgufHeader, read_beginning
from janflask.models.split_names import parts_of, split_name

MODEL_FILE = "model.json"
EXTENSION = ".gguf"


def is_gguf_name(name: str) -> bool:
    """Whether a file is called a GGUF. Hidden ones are not: ``._NAME.gguf`` is what macOS knows of ``NAME.gguf``."""
    return name.lower().endswith(EXTENSION) and not name.startswith(".")


def is_projector_name(name: str) -> bool:
    """Whether a file's name says that it is what turns pictures or sound into a model's input."""
    return "mmproj" in name.lower()


def is_model_name(name: str) -> bool:
    """Whether a file's name may be that of a model's weights."""
    return is_gguf_name(name) and not is_projector_name(name) and not name.lower().endswith("imatrix" + EXTENSION)


def find_weights(folder: Path, settings: Mapping[str, Any], raw: Mapping[str, Any]) -> Path | None:
    """The GGUF, or None while there is none; one with a part missing is none.

    Raises ValueError when a path is refused, the choice is not clear, or there is nothing but the beginning of a model
    or what belongs to one.
    """
    for place in _named_places(settings, raw):
        path = resolve(folder, place)
        if path is not None and path.is_file() and weights_size(path) is not None:
            return path
    files = [path for path in sorted(folder.iterdir()) if is_gguf_name(path.name) and path.is_file()]
    candidates = [path for path in files if is_model_name(path.name) or _is_model_inside(path)]
    models = [path for path in candidates if path.name == parts_of(path.name)[0]]
    whole = {path: _other_than_model(path, _beginning(path)) for path in models if weights_size(path) is not None}
    weights = [path for path, other in whole.items() if other is None]
    if len(weights) > 1:
        names = ", ".join(path.name for path in weights)
        raise ValueError(f"it holds several models ({names}): name one in settings.llama_model_path")
    if models and not whole:
        raise ValueError(f"{models[0].name} is one part of a model, and others are missing")
    if whole and not weights:
        raise ValueError("it holds no model: " + ", ".join(f"{path.name} is {other}" for path, other in whole.items()))
    return weights[0] if weights else None


def resolve(folder: Path, place: str) -> Path | None:
    """A path on this machine for what ``model.json`` names, or None for a URL elsewhere. Raises ValueError."""
    if "\0" in place:
        raise ValueError(f"{place!r} in {MODEL_FILE} is no path")
    scheme = urlsplit(place).scheme.lower()
    if scheme == "file":
        place = unquote(urlsplit(place).path)
    elif len(scheme) > 1:  # one letter is a drive
        return None
    path = Path(place)
    if path.is_absolute():
        if path.suffix.lower() != EXTENSION:
            raise ValueError(f"{place!r} in {MODEL_FILE} is not a .gguf file")
        return path
    if ".." in path.parts:
        raise ValueError(f"{place!r} in {MODEL_FILE} leaves the model's folder")
    return folder / path


def weights_size(path: str | Path) -> int | None:
    """Bytes of the GGUF, of all its parts if it is split; None when it is gone."""
    try:
        # For each model of a list, where a Path costs more than the call.
        return sum(os.stat(part).st_size for part in parts_of(str(path)))  # noqa: PTH116
    except OSError:
        return None


def _named_places(settings: Mapping[str, Any], raw: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(named := settings.get("llama_model_path"), str) and named:
        yield named
    sources = raw.get("sources")
    for source in sources if isinstance(sources, list) else []:
        for key in ("filename", "url") if isinstance(source, dict) else ():
            # Jan lists a model's projector among its sources, too.
            if isinstance(place := source.get(key), str) and place and not is_projector_name(place.rpartition("/")[2]):
                yield place


def _is_model_inside(path: Path) -> bool:
    """Whether its beginning says so whatever its name: some call a model imatrix.gguf that was quantized by one."""
    header = _beginning(path)
    return header is not None and _other_than_model(path, header) is None


def _beginning(path: Path) -> GgufHeader | None:
    try:
        return read_beginning(path)
    except (GgufError, OSError):
        return None


def _other_than_model(path: Path, header: GgufHeader | None) -> str | None:
    """What a GGUF is, in words, if it is no model. One that cannot be read is taken for one: its start tells why."""
    if header is None:
        return None
    if header.is_projector:
        return "a projector"
    if header.is_adapter:
        return "an adapter"
    if header.is_imatrix:
        return "an importance matrix"
    if not header.tensor_count and split_name(path.name) is None:
        return "a vocabulary without weights"
    return None
