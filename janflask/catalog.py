"""Which models are on disk: ``models/<id>/model.json`` in Jan's layout, read leniently. Standard library only.

A model is a folder whose name is a legal id and that holds a ``model.json``, or no ``model.json`` but a single model in
``*.gguf`` files. The folder's name is the model's id, whatever the file inside says.

Where the weights are looked for, in this order:

1. ``settings.llama_model_path``,
2. each of ``sources``: its ``filename``, then its ``url``,
3. the only model among the ``*.gguf`` files in the folder (an ``mmproj`` file is not one; the parts of a split model
   are one, and its first part stands for it).

A relative path counts from the model's own folder and may not leave it through ``..``. An absolute path (or ``file://``
URL) to an existing ``.gguf`` is taken as it is, as Jan does for imported models: whoever can write ``model.json`` owns
the server's data. The API must therefore never let a client write such a path. Symbolic links are the owner's, too.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from janflask.errors import InvalidRequestError, ModelNotFoundError
from janflask.types import EngineSettings, ModelCard

log = logging.getLogger(__name__)

MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MODEL_FILE = "model.json"
MAX_MODEL_FILE = 4 * 1024 * 1024  # bytes

_SPLIT = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.gguf)", re.IGNORECASE)
_MILLISECONDS_FROM = 100_000_000_000  # as seconds that is the year 5138, as milliseconds 1973


def is_model_id(text: str) -> bool:
    """Whether ``text`` may be a model's id, and so the name of its folder."""
    return MODEL_ID.fullmatch(text) is not None


class ModelCatalog:
    """The models in one folder. A card is read again only when its files changed. Thread-safe."""

    def __init__(self, models_dir: Path) -> None:
        self._root = models_dir
        self._lock = threading.Lock()
        self._cache: dict[str, tuple[_Signature, ModelCard]] = {}
        self._skipped: set[str] = set()

    def list(self) -> list[ModelCard]:
        """Every model, by id. A model that cannot be read is there too, with its ``problem``."""
        cards = [card for name in self._folders() if (card := self._card(name)) is not None]
        with self._lock:
            for gone in self._cache.keys() - {card.id for card in cards}:
                del self._cache[gone]
        return cards

    def get(self, model_id: str) -> ModelCard:
        """Raises ModelNotFoundError for an unknown id and for anything that is not an id."""
        card = self._card(model_id) if is_model_id(model_id) else None
        if card is None:
            raise ModelNotFoundError(
                f"there is no model {model_id[:128]!r} on this server; GET /v1/models lists them", param="model"
            )
        return card

    def find(self, name: str) -> ModelCard:
        """The model whose id, or else one of whose ``source_urls``, is ``name``; of several the first by id.

        A URL is only ever compared. Raises ModelNotFoundError.
        """
        if is_model_id(name):
            return self.get(name)
        for card in self.list():
            if name in source_urls(card):
                return card
        raise ModelNotFoundError(
            f"there is no model {name[:500]!r} on this server, neither by id nor by source URL; "
            "GET /v1/models lists them",
            param="model",
        )

    def with_paths(self, model_id: str, settings: EngineSettings) -> EngineSettings:
        """``settings`` with the files that they name as absolute paths; a relative one counts from the model's folder.

        Raises InvalidRequestError for a name that is no path to a GGUF, or that leaves the folder.
        """
        folder = self._root / model_id
        return replace(
            settings, lora=_file(folder, "lora", settings.lora), mmproj=_file(folder, "mmproj", settings.mmproj)
        )

    def _folders(self) -> Sequence[str]:
        try:
            with os.scandir(self._root) as entries:
                names = sorted(entry.name for entry in entries if entry.is_dir())
        except FileNotFoundError:
            return []
        for name in names:
            if not is_model_id(name) and not name.startswith(".") and name not in self._skipped:
                self._skipped.add(name)
                log.warning("%r in %s is no model: its name is not a legal model id", name, self._root)
        return [name for name in names if is_model_id(name)]

    def _card(self, model_id: str) -> ModelCard | None:
        try:
            before = _signature(f"{self._root}/{model_id}")
        except OSError:
            return None
        with self._lock:
            known = self._cache.get(model_id)
        if known is not None and known[0] == before and _is_current(known[1]):
            return known[1]
        card = _read_card(model_id, self._root / model_id)
        if card is None:
            return None
        if card.problem and (known is None or known[1].problem != card.problem):
            log.warning("model %s: %s", model_id, card.problem)
        with self._lock:
            self._cache[model_id] = (before, card)
        return card


def source_urls(card: ModelCard) -> Sequence[str]:
    """Where ``model.json`` says the model came from: its ``source_url``, then each ``url`` of its ``sources``."""
    sources = card.raw.get("sources")
    listed = [source.get("url") for source in sources if isinstance(source, dict)] if isinstance(sources, list) else []
    return [url for url in (card.raw.get("source_url"), *listed) if isinstance(url, str) and url]


@dataclass(frozen=True, slots=True)
class _Signature:
    """What changes when a model's folder or its ``model.json`` does."""

    folder: tuple[int, int]  # inode, mtime in ns
    file: tuple[int, int, int] | None  # inode, mtime in ns, size in bytes


def _signature(folder: str) -> _Signature:
    where = _stat(folder)
    try:
        file = _stat(f"{folder}/{MODEL_FILE}")
    except OSError:
        return _Signature((where.st_ino, where.st_mtime_ns), None)
    return _Signature((where.st_ino, where.st_mtime_ns), (file.st_ino, file.st_mtime_ns, file.st_size))


def _is_current(card: ModelCard) -> bool:
    """A card with a problem, or without weights, is read anew each time: what is wrong may lie outside its folder."""
    if card.problem is not None or card.path is None:
        return False
    if "-of-" in card.path.lower():
        return _weights_size(Path(card.path)) == card.size_bytes
    try:
        return _stat(card.path).st_size == card.size_bytes
    except OSError:
        return False


def _stat(path: str) -> os.stat_result:
    return os.stat(path)  # noqa: PTH116 - for each model of a list, where a Path costs more than the call


def _read_card(model_id: str, folder: Path) -> ModelCard | None:
    raw: dict[str, Any] = {}
    problems: list[str] = []
    try:
        raw = _read_json(folder / MODEL_FILE)
        described = True
    except FileNotFoundError:
        described = False
    except (OSError, ValueError, RecursionError) as error:
        described = True
        problems.append(f"{MODEL_FILE} cannot be read: {error}")
    settings, parameters, metadata = (_table(raw, name, problems) for name in ("settings", "parameters", "metadata"))
    path: Path | None = None
    try:
        path = _find_weights(folder, settings, raw)
    except (OSError, ValueError) as error:
        problems.append(str(error))
    if not described and path is None and not problems:
        return None
    size = _weights_size(path) if path is not None else None
    name = raw.get("name")
    return ModelCard(
        id=model_id,
        name=name if isinstance(name, str) and name else model_id,
        path=str(path) if path is not None else None,
        size_bytes=size if size is not None else max(0, int(_number(metadata.get("size")) or 0)),
        created=_created(raw, folder),
        settings=settings,
        parameters=parameters,
        metadata=metadata,
        raw=raw,
        problem="; ".join(problems) or None,
    )


def _read_json(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        data = file.read(MAX_MODEL_FILE + 1)
    if len(data) > MAX_MODEL_FILE:
        raise ValueError(f"it is larger than {MAX_MODEL_FILE} bytes")
    value = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse_constant)
    if not isinstance(value, dict):
        raise ValueError(f"it holds {type(value).__name__}, not an object")
    return value


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _table(raw: Mapping[str, Any], name: str, problems: list[str]) -> dict[str, Any]:
    value = raw.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        problems.append(f"{name} in {MODEL_FILE} is {type(value).__name__}, not an object")
        return {}
    return value


def _number(value: object) -> float | None:
    """A number that may be written as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < 1e18 else None


def _created(raw: Mapping[str, Any], folder: Path) -> int:
    for name in ("created", "created_at"):
        number = _number(raw.get(name))
        if number is not None and number > 0:
            return int(number / 1000 if number >= _MILLISECONDS_FROM else number)
    try:
        return int((folder / MODEL_FILE).stat().st_mtime)
    except OSError:
        return int(folder.stat().st_mtime)


# --- where the weights are ----------------------------------------------------------------------------------------


def _find_weights(folder: Path, settings: Mapping[str, Any], raw: Mapping[str, Any]) -> Path | None:
    """The GGUF, or None while there is none; one with a part missing is none.

    Raises ValueError when a path is refused, the choice is not clear, or there is nothing but the beginning of a model.
    """
    for place in _named_places(settings, raw):
        path = _resolve(folder, place)
        if path is not None and path.is_file() and _weights_size(path) is not None:
            return path
    candidates = [path for path in sorted(folder.iterdir()) if _is_weights(path)]
    models = [path for path in candidates if not (split := _SPLIT.fullmatch(path.name)) or int(split[2]) == 1]
    whole = [path for path in models if _weights_size(path) is not None]
    if len(whole) > 1:
        names = ", ".join(path.name for path in whole)
        raise ValueError(f"it holds several models ({names}): name one in settings.llama_model_path")
    if models and not whole:
        raise ValueError(f"{models[0].name} is one part of a model, and others are missing")
    return whole[0] if whole else None


def _named_places(settings: Mapping[str, Any], raw: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(named := settings.get("llama_model_path"), str) and named:
        yield named
    sources = raw.get("sources")
    for source in sources if isinstance(sources, list) else []:
        for key in ("filename", "url") if isinstance(source, dict) else ():
            if isinstance(place := source.get(key), str) and place:
                yield place


def _resolve(folder: Path, place: str) -> Path | None:
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
        if path.suffix.lower() != ".gguf":
            raise ValueError(f"{place!r} in {MODEL_FILE} is not a .gguf file")
        return path
    if ".." in path.parts:
        raise ValueError(f"{place!r} in {MODEL_FILE} leaves the model's folder")
    return folder / path


def _file(folder: Path, name: str, place: str | None) -> str | None:
    """The path of a file that the setting ``name`` names, which may not be there. Raises InvalidRequestError."""
    if not place:
        return None
    try:
        path = _resolve(folder, place)
        if path is None:
            raise ValueError(f"{place[:500]!r} is a URL: it must be a file on this machine")
    except ValueError as error:
        raise InvalidRequestError(f"settings.{name}: {error}", param=f"settings.{name}") from None
    return str(path)


def _is_weights(path: Path) -> bool:
    return path.suffix.lower() == ".gguf" and not path.name.lower().startswith("mmproj") and path.is_file()


def _weights_size(path: Path) -> int | None:
    """Bytes of the GGUF, of all its parts if it is split; None when it is gone."""
    split = _SPLIT.fullmatch(path.name)
    parts = [path]
    if split is not None:
        parts = [path.with_name(f"{split[1]}-{i:05d}-of-{split[3]}{split[4]}") for i in range(1, int(split[3]) + 1)]
    try:
        return sum(part.stat().st_size for part in parts)
    except OSError:
        return None
