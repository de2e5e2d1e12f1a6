"""The models in this shell's data folder: for when no server answers, and for what a server does not tell.

The server's own checks and locks are used: it may be started, or be running elsewhere, at the same time.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

import click

from janflask.cli import tables
from janflask.cli.client import ServerUnreachableError
from janflask.cli.options import current_settings
from janflask.cli.store import explained
from janflask.cli.terminal import echo
from janflask.errors import ModelNotFoundError
from janflask.models.card import ModelCard
from janflask.models.catalog import ModelCatalog, is_model_id

if TYPE_CHECKING:
    from janflask.downloads.job import JobFolder

BLOCK = 512  # bytes, the unit of ``st_blocks``


def models(url: str | None, error: ServerUnreachableError) -> list[dict[str, Any]]:
    """Those on disk, and a word about it. Raises ``error`` when a server was named: its disk may be another."""
    return [tables.card_object(card) for card in _catalog(url, error).list()]


def model(model_id: str, url: str | None, error: ServerUnreachableError) -> dict[str, Any]:
    """One of them; the same."""
    catalog = _catalog(url, error)
    if is_download(model_id):
        return {"id": model_id, "object": "model", "state": "not_downloaded", "status": "not_downloaded"}
    return tables.card_object(_found(catalog, model_id))


def change(model_id: str, changes: dict[str, Any], url: str | None, error: ServerUnreachableError) -> dict[str, Any]:
    """The model with ``changes``, the body of a PATCH, in its ``model.json``, checked as the server would."""
    from marshmallow import ValidationError

    from janflask.schemas.models import ModelChangesSchema
    from janflask.services.model_changes import ModelChanges, ModelChangeService

    catalog = _catalog(url, error)
    try:
        checked = ModelChangesSchema().load(changes)
    except ValidationError as wrong:
        raise click.ClickException(_first(wrong.messages)) from None
    with explained():
        service = ModelChangeService(current_settings(), catalog)
        return tables.card_object(service.modify(_found(catalog, model_id).id, ModelChanges(**checked)))


def delete(model_id: str) -> None:
    """The model's folder, or what there is of an unfinished download, is gone. For when no server runs."""
    from janflask.services.model_changes import ModelChangeService

    settings = current_settings()
    if is_download(model_id):
        _jobs().remove(model_id)
        if card(model_id) is None:
            return
    with explained():
        ModelChangeService(settings, ModelCatalog(settings.models_dir)).delete(model_id, lambda _: None)


def card(model_id: str) -> ModelCard | None:
    """What is on this disk of a model, named by id or source URL."""
    try:
        return ModelCatalog(current_settings().models_dir).find(model_id)
    except ModelNotFoundError:
        return None


def is_download(model_id: str) -> bool:
    """Whether there is a download of that id in the data folder, under way or left by a server that ended."""
    return is_model_id(model_id) and _jobs().exists(model_id)


def freed(model_id: str) -> int | None:
    """Bytes that this disk has again once the model is deleted; None for a model that is not on this disk.

    A file that has another name somewhere stays there, and so does one that ``model.json`` names elsewhere.
    """
    found = card(model_id)
    folders = [current_settings().models_dir / found.folder] if found is not None else []
    if is_download(model_id):
        folders.append(_jobs().staging(model_id))
    if not folders:
        return None
    files = [path.lstat() for folder in folders for path in folder.rglob("*")]
    return sum(BLOCK * about.st_blocks for about in files if stat.S_ISREG(about.st_mode) and about.st_nlink == 1)


def _catalog(url: str | None, error: ServerUnreachableError) -> ModelCatalog:
    if url is not None:
        raise error
    folder = current_settings().models_dir
    echo(f"No server answers: this is about the models in {folder}.", err=True)
    return ModelCatalog(folder)


def _found(catalog: ModelCatalog, model_id: str) -> ModelCard:
    try:
        return catalog.find(model_id)
    except ModelNotFoundError:
        known = ", ".join(card.id for card in catalog.list()) or "none"
        raise click.ClickException(f"there is no model {model_id!r} on disk; there are: {known}") from None


def _jobs() -> JobFolder:
    from janflask.downloads.job import JobFolder

    return JobFolder(current_settings().models_dir)


def _first(messages: Any, where: str = "") -> str:
    """The first of marshmallow's messages, with the name of its field."""
    if isinstance(messages, dict) and messages:
        name, inner = next(iter(messages.items()))
        return _first(inner, f"{where}.{name}".lstrip("."))
    text = messages[0] if isinstance(messages, list) and messages else messages
    return f"{where} {text}"
