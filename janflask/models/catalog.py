"""Which models are on disk: ``models/<id>/model.json`` in Jan's layout, read leniently. Standard library only.

A model is a folder that holds a ``model.json``, or no ``model.json`` but a single model in ``*.gguf`` files. One that
holds neither may have models in folders of its own (later versions of Jan have ``models/<author>/<name>``). The
folder's name, or its path below ``models``, is the model's id for Jan, whatever the file inside says. A legal id is
ours, too; for other names ``folder_ids`` makes one. Both lead to the model, and only the legal one becomes part of a
path.

Where the weights are looked for, in this order:

1. ``settings.llama_model_path``,
2. each of ``sources``: its ``filename``, then its ``url``,
3. the only model among the ``*.gguf`` files in the folder (see ``model_files``; the parts of a split model are one, and
   its first part stands for it).

A ``model.json`` with an ``upstream`` table has no weights: another server runs the model (see ``upstream``).

A relative path counts from the model's own folder and may not leave it through ``..``. An absolute path (or ``file://``
URL) to an existing ``.gguf`` is taken as it is, as Jan does for imported models: whoever can write ``model.json`` owns
the server's data. The API must therefore never let a client write such a path. Symbolic links are the owner's, too.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from janflask.errors import InvalidRequestError, ModelNotFoundError
from janflask.models.card import ModelCard
from janflask.models.engine_settings import EngineSettings
from janflask.models.folder_ids import MODEL_ID as MODEL_ID
from janflask.models.folder_ids import derived_id, same_name, shown
from janflask.models.folder_ids import is_model_id as is_model_id
from janflask.models.model_files import MODEL_FILE as MODEL_FILE
from janflask.models.model_files import find_weights, is_gguf_name, resolve, weights_size
from janflask.models.upstream import Upstream, read_upstream

log = logging.getLogger(__name__)

MAX_MODEL_FILE = 4 * 1024 * 1024  # bytes
MAX_DEPTH = 4  # folders in each other; cortex had models/huggingface.co/<author>/<name>

_MILLISECONDS_FROM = 100_000_000_000  # as seconds that is the year 5138, as milliseconds 1973


class ModelCatalog:
    """The models in one folder. A card is read again only when its files changed. Thread-safe."""

    def __init__(self, models_dir: Path) -> None:
        self._root = models_dir
        self._lock = threading.Lock()
        self._cache: dict[str, tuple[_Signature, ModelCard]] = {}  # by folder

    def list(self) -> list[ModelCard]:
        """Every model, by id. A model that cannot be read is there too, with its ``problem``."""
        places = self._places()
        cards = [card for name, folder in places.items() if (card := self._card(name, folder)) is not None]
        with self._lock:
            for gone in self._cache.keys() - {card.folder for card in cards}:
                del self._cache[gone]
        return sorted(cards, key=lambda card: card.id)

    def get(self, name: str) -> ModelCard:
        """The model whose id is ``name``, or else its folder's name. Raises ModelNotFoundError."""
        card = self._get(name)
        if card is None:
            raise ModelNotFoundError(
                f"there is no model {name[:128]!r} on this server; GET /v1/models lists them", param="model"
            )
        return card

    def find(self, name: str) -> ModelCard:
        """The model whose id, folder's name or else one of whose ``source_urls`` is ``name``.

        Of several that have a URL, the first by id. A name and a URL are only ever compared. Raises ModelNotFoundError.
        """
        card = self._get(name)
        if card is not None:
            return card
        for card in () if is_model_id(name) else self.list():
            if name in source_urls(card):
                return card
        raise ModelNotFoundError(
            f"there is no model {name[:500]!r} on this server, neither by id nor by source URL; "
            "GET /v1/models lists them",
            param="model",
        )

    def folder(self, model_id: str) -> Path:
        """Where the model of that id lies, or will lie once it is there. ValueError for what is no id."""
        if not is_model_id(model_id):
            raise ValueError(f"{model_id[:128]!r} is no model's id")
        own = self._root / model_id
        return own if os.path.lexists(own) else self._root / self._places().get(model_id, model_id)

    def with_paths(self, model_id: str, settings: EngineSettings) -> EngineSettings:
        """``settings`` with the files that they name as absolute paths; a relative one counts from the model's folder.

        Raises InvalidRequestError for a name that is no path to a GGUF, or that leaves the folder.
        """
        folder = self.folder(model_id)
        return replace(
            settings, lora=_file(folder, "lora", settings.lora), mmproj=_file(folder, "mmproj", settings.mmproj)
        )

    def _get(self, name: str) -> ModelCard | None:
        if is_model_id(name) and (card := self._card(name, name)) is not None:
            return card
        places = self._places()
        if name in places:
            return self._card(name, places[name])
        found = [(model_id, folder) for model_id, folder in places.items() if folder == name]
        if not found:
            found = [(model_id, folder) for model_id, folder in places.items() if same_name(folder, name)]
        return self._card(*found[0]) if len(found) == 1 else None

    def _places(self) -> dict[str, str]:
        """Each id's folder, of all folders that may be a model's. A folder that is called like an id has it."""
        folders = [inner for name in _folders(self._root) for inner in (name, *self._inner(name))]
        places = {name: name for name in folders if is_model_id(name)}
        for name in folders:
            if name in places:
                continue
            model_id = derived_id(name, places)
            if model_id is None:
                log.warning("%r in %s has no id left: rename it", shown(name), self._root)
            else:
                places[model_id] = name
        return places

    def _inner(self, folder: str, depth: int = 1) -> Iterator[str]:
        """The folders in one that is no model's itself, and no link, which might lead back here."""
        path = self._root / folder
        with self._lock:
            known = folder in self._cache
        if known or depth == MAX_DEPTH or path.is_symlink() or _holds_model(path):
            return
        for name in _folders(path, follow=False):
            inner = f"{folder}/{name}"
            yield inner
            yield from self._inner(inner, depth + 1)

    def _card(self, model_id: str, folder: str) -> ModelCard | None:
        try:
            before = _signature(f"{self._root}/{folder}")
        except OSError:
            return None
        with self._lock:
            known = self._cache.get(folder)
        if known is not None and known[0] == before and _is_current(known[1]) and known[1].id == model_id:
            return known[1]
        card = _read_card(model_id, self._root / folder, folder)
        if card is not None and card.problem and (known is None or known[1].problem != card.problem):
            log.warning("model %s: %s", model_id, card.problem)
        with self._lock:
            if card is None:
                self._cache.pop(folder, None)
            else:
                self._cache[folder] = (before, card)
        return card


def _folders(root: Path, *, follow: bool = True) -> Sequence[str]:
    """The names of the folders in a folder, sorted, links to folders too if ``follow``; hidden ones are no models."""
    try:
        with os.scandir(root) as entries:
            folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=follow)]
        return sorted(name for name in folders if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _holds_model(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(entry.name == MODEL_FILE or is_gguf_name(entry.name) for entry in entries)
    except OSError:
        return True  # its card says why it cannot be read


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
    if card.problem is not None or not card.present:
        return False
    return card.path is None or weights_size(card.path) == card.size_bytes


def _stat(path: str) -> os.stat_result:
    return os.stat(path)  # noqa: PTH116 - for each model of a list, where a Path costs more than the call


def _read_card(model_id: str, folder: Path, place: str) -> ModelCard | None:
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
    upstream: Upstream | None = None
    try:
        path = find_weights(folder, settings, raw)
        upstream = _upstream(raw, folder, path)
    except (OSError, ValueError) as error:
        problems.append(str(error))
    if not described and path is None and not problems:
        return None
    if upstream is not None and upstream.ctx_len is not None:
        metadata = {**metadata, "context_length": upstream.ctx_len}
    size = weights_size(path) if path is not None else None
    name = raw.get("name")
    return ModelCard(
        id=model_id,
        folder=place,
        name=name if isinstance(name, str) and name else shown(place),
        path=str(path) if path is not None else None,
        upstream=upstream,
        size_bytes=size if size is not None else max(0, int(_number(metadata.get("size")) or 0)),
        created=_created(raw, folder),
        settings=settings,
        parameters=parameters,
        metadata=metadata,
        raw=raw,
        problem=shown("; ".join(problems)) or None,
    )


def _upstream(raw: Mapping[str, Any], folder: Path, weights: Path | None) -> Upstream | None:
    """Raises ValueError for a table that is wrong, and for one beside weights: it would not be clear what answers."""
    if raw.get("upstream") is None:
        return None
    if weights is not None:
        raise ValueError(f"{MODEL_FILE} names an upstream, and there are weights ({weights.name}): remove one of them")
    return read_upstream(raw["upstream"], folder)


def _read_json(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        data = file.read(MAX_MODEL_FILE + 1)
    if len(data) > MAX_MODEL_FILE:
        raise ValueError(f"it is larger than {MAX_MODEL_FILE} bytes")
    value: object = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse_constant)
    if not isinstance(value, dict):
        raise ValueError(f"it holds {type(value).__name__}, not an object")
    if b"\\ud" in data.lower():  # half of a character, as programs leave it that cut text in two, is none to others
        value = dict(json.loads(shown(json.dumps(value, ensure_ascii=False))))
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


def _file(folder: Path, name: str, place: str | None) -> str | None:
    """The path of a file that the setting ``name`` names, which may not be there. Raises InvalidRequestError."""
    if not place:
        return None
    try:
        path = resolve(folder, place)
        if path is None:
            raise ValueError(f"{place[:500]!r} is a URL: it must be a file on this machine")
    except ValueError as error:
        raise InvalidRequestError(f"settings.{name}: {error}", param=f"settings.{name}") from None
    return str(path)
