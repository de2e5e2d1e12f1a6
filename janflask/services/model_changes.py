"""Changing and deleting the models on disk. A client names what changes, never a path."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from janflask.errors import ConflictError, RequestTooLargeError, StoreDamagedError
from janflask.files.disk import STAGING, Disk, read_plain, translated
from janflask.files.locks import FolderLocks
from janflask.models.card import ModelCard
from janflask.models.catalog import MAX_MODEL_FILE, MODEL_FILE, ModelCatalog, is_model_id
from janflask.models.folder_ids import shown
from janflask.models.known_fields import ALIASES
from janflask.models.state import ModelStatus
from janflask.services.overrides import FILE_SETTINGS, check_file, checked_settings, refuse_settings
from janflask.settings import Settings
from janflask.webhooks.events import of_model
from janflask.webhooks.outbox import Outbox

ALIVE = frozenset({ModelStatus.STARTING, ModelStatus.RUNNING, ModelStatus.STOPPING})

StatusOf = Callable[[str], ModelStatus | None]


@dataclass(frozen=True, slots=True)
class ModelChanges:
    """What to change of a model: names merged into what is there; one that is None is removed."""

    name: str | None = None
    description: str | None = None
    settings: Mapping[str, Any] | None = None
    parameters: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None


class ModelChangeService:
    """Changes ``model.json`` and deletes models; one writer at a time, among processes too. Thread-safe."""

    def __init__(self, settings: Settings, catalog: ModelCatalog) -> None:
        self._settings = settings
        self._catalog = catalog
        self._root = settings.models_dir
        self._disk = Disk(durable=settings.durability == "disk")
        self._locks = FolderLocks(settings.lock_timeout)
        self._telling = Outbox(settings).telling

    def modify(self, name: str, changes: ModelChanges) -> ModelCard:
        """The model, named by id or source URL, with ``changes`` in its ``model.json``; what is not named stays.

        Raises ModelNotFoundError, InvalidRequestError with ``param`` ``settings.<name>``, RequestTooLargeError,
        StoreDamagedError for a ``model.json`` that cannot be read, and what a lock and a full disk raise.
        """
        found = self._catalog.find(name)
        model_id, folder = found.id, self._root / found.folder
        what = f"model {model_id}"
        with self._locks.exclusive(folder, what) as fd, translated(what):
            card = self._catalog.get(model_id)
            content = _read(fd, what) or {"id": shown(found.folder), "object": "model"}
            if "created" not in content and "created_at" not in content:
                content["created"] = card.created  # else it would be the time of this change
            self._apply(content, changes, folder)
            data = json.dumps(content, indent=2, ensure_ascii=False).encode("utf-8", "replace")
            if len(data) > MAX_MODEL_FILE:
                raise RequestTooLargeError(f"{MODEL_FILE} of {what} would be larger than {MAX_MODEL_FILE} bytes")
            with self._telling(of_model("updated", model_id)):
                self._disk.replace(fd, MODEL_FILE, data)
        return self._catalog.get(model_id)

    def delete(self, name: str, status_of: StatusOf) -> str:
        """The model's folder is gone in one step; returns its id. What ``model.json`` names elsewhere stays.

        Raises ModelNotFoundError and ConflictError for a model that is running, starting or stopping.
        """
        found = self._catalog.find(name)
        model_id, folder = found.id, self._root / found.folder
        what = f"model {model_id}"
        told = self._telling(of_model("deleted", model_id), alone=True)
        with self._locks.exclusive(folder, what), translated(what), told:
            check_idle(model_id, status_of)
            gone = self._disk.retire(self._root, found.folder)
            try:
                check_idle(model_id, status_of)  # a start may have found it before it was away
                self._disk.sync_root(folder.parent)
            except BaseException:
                self._disk.restore(self._root, f"{STAGING}/{gone}", found.folder)
                raise
        self._disk.discard(self._root, gone)
        return model_id

    def _apply(self, content: dict[str, Any], changes: ModelChanges, folder: Path) -> None:
        """Puts ``changes`` into a ``model.json``."""
        for key in ("name", "description"):
            if (text := getattr(changes, key)) is not None:
                content[key] = text
        for key in ("settings", "parameters", "metadata"):
            given = getattr(changes, key)
            if given is None:
                continue
            present = content.get(key) or {}
            if not isinstance(present, dict):
                raise StoreDamagedError(f"{key} in {MODEL_FILE} is no object: repair the file by hand")
            if key == "settings" and content.get("upstream") is not None:
                refuse_settings(shown(folder.name), given)
            elif key == "settings":
                given = self._checked(given, present, folder)
            if key == "parameters":  # another server's name for one of these, which somebody wrote by hand
                present = {name: value for name, value in present.items() if ALIASES.get(name) not in given}
            merged = {**present, **given}
            content[key] = {item: value for item, value in merged.items() if value is not None}

    def _checked(self, given: Mapping[str, Any], present: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Settings that may be written, with numbers for numbers that are text; None for those to be removed."""
        # A setting of unknown name, or a path, that the owner put into the file may stay, and may be removed.
        removed = {name: None for name, value in given.items() if value is None and name in present}
        kept = {name for name in FILE_SETTINGS if name in present and present[name] == given.get(name)}
        rest = {name: value for name, value in given.items() if name not in removed and name not in kept}
        checked = checked_settings(self._settings, rest)
        for name in FILE_SETTINGS:
            if name in checked:
                check_file(name, checked[name], folder)
        return {**checked, **removed}


def _read(fd: int, what: str) -> dict[str, Any] | None:
    try:
        data, _ = read_plain(fd, MODEL_FILE, MAX_MODEL_FILE, what)
    except FileNotFoundError:
        return None
    try:
        content = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise StoreDamagedError(f"{MODEL_FILE} of {what} cannot be read ({error}): repair it by hand") from None
    if not isinstance(content, dict):
        raise StoreDamagedError(f"{MODEL_FILE} of {what} holds no object: repair it by hand")
    return content


def check_idle(model_id: str, status_of: StatusOf) -> None:
    """Raises ConflictError for a model that has an engine."""
    status = status_of(model_id) if is_model_id(model_id) else None
    if status in ALIVE:
        raise ConflictError(
            f"{model_id} is {status}: PUT /v1/models/{model_id}/stop first", param="model_id", code="model_in_use"
        )
