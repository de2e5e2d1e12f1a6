"""The model entry of an upstream: a folder with a ``model.json`` and no weights. Only the command line writes one."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Any

from janflask.errors import ConflictError, InvalidRequestError, ModelNotFoundError
from janflask.files.disk import STAGING, Disk, translated
from janflask.files.locks import FolderLocks
from janflask.models.card import ModelCard
from janflask.models.catalog import ModelCatalog, is_model_id
from janflask.models.publish import check_holds_none, write_model_json
from janflask.models.upstream import read_upstream
from janflask.models.upstream_entry import entry_json
from janflask.settings import Settings
from janflask.webhooks.events import of_model
from janflask.webhooks.outbox import Outbox

IsDownload = Callable[[str], bool]  # whether a model of that id is being fetched

_THERE = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}


class UpstreamEntryService:
    """Makes ``models/<id>/`` of an upstream, with or without a running server."""

    def __init__(self, settings: Settings, catalog: ModelCatalog, is_download: IsDownload) -> None:
        self._root = settings.models_dir
        self._catalog = catalog
        self._is_download = is_download
        self._disk = Disk(durable=settings.durability == "disk")
        self._locks = FolderLocks(settings.lock_timeout)
        self._telling = Outbox(settings).telling

    def check(self, model_id: str, table: Mapping[str, Any], *, replace: bool = False) -> ModelCard | None:
        """Whether ``add`` may be; the entry that it would replace. Raises as ``add``."""
        if not is_model_id(model_id):
            raise InvalidRequestError(
                f"{model_id[:128]!r} cannot be a model's id: letters, digits, '.', '_' and '-', 128 at most, the first "
                "a letter or digit",
                param="id",
            )
        try:
            read_upstream(table, self._root / model_id)
        except ValueError as error:
            raise InvalidRequestError(str(error), param="upstream") from None
        if self._is_download(model_id):
            raise ConflictError(f"{model_id} is being downloaded: choose another id, or delete it first", param="id")
        try:
            card = self._catalog.get(model_id)
        except ModelNotFoundError:
            check_holds_none(model_id, self._catalog.list())
            return None
        _check_replaceable(card, replace)
        return card

    def add(
        self, model_id: str, table: Mapping[str, Any], *, facts: Mapping[str, Any] | None = None, replace: bool = False
    ) -> ModelCard:
        """The model ``model_id``, run by the upstream that ``table`` names; ``facts`` go into its ``metadata``.

        With ``replace`` an entry of that id gets another upstream, and keeps its name, its parameters and whatever else
        stands in it; a model with weights is never touched. Raises InvalidRequestError, ConflictError, StoreBusyError,
        StorageFullError and OSError.
        """
        card = self.check(model_id, table, replace=replace)
        if card is None:
            with self._telling(of_model("created", model_id), alone=True):
                self._create(model_id, entry_json(model_id, table, facts or {}))
        else:
            folder, what = self._root / card.folder, f"model {model_id}"
            with self._locks.exclusive(folder, what), translated(what):
                now = self._catalog.get(model_id)  # it may be another by now
                _check_replaceable(now, replace)
                content = entry_json(model_id, table, facts or {}, before=now.raw)
                with self._telling(of_model("updated", model_id)):
                    write_model_json(folder, content, self._disk.durable)
        return self._catalog.get(model_id)

    def _create(self, model_id: str, content: Mapping[str, Any]) -> None:
        with translated(f"model {model_id}"), self._disk.staged(self._root) as (staged, _):
            # One more folder in it: the outer one is as private as conversations are.
            made = self._root / STAGING / staged / model_id
            made.mkdir()
            write_model_json(made, content, self._disk.durable)
            try:
                made.rename(self._root / model_id)
            except OSError as error:
                if error.errno in _THERE:
                    raise _taken(model_id) from None
                raise
            self._disk.sync_root(self._root)


def _check_replaceable(card: ModelCard, replace: bool) -> None:
    """Raises ConflictError unless it is the entry of an upstream, which may be one that is wrong."""
    if card.path is not None or card.raw.get("upstream") is None:
        raise _taken(card.id)
    if not replace:
        raise ConflictError(
            f"there is a model {card.id} already, of an upstream: choose another id, or replace it with --force",
            param="id",
            code="model_exists",
        )


def _taken(model_id: str) -> ConflictError:
    return ConflictError(
        f"there is a model {model_id} already: choose another id, or delete it first", param="id", code="model_exists"
    )
