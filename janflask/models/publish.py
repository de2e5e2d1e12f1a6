"""Makes a model out of files: writes its ``model.json``, and shows the whole to others in one step.

A model of a new id is a folder renamed into place. Where ``models/<id>`` describes a model without having its weights
(Jan's catalogue), the files join that folder as further names of the same files, the first part of a model last, and
``model.json`` is completed after them. Whoever looks meanwhile, or after a crash, sees the old state or the new one,
and doing it again ends well.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from janflask.errors import ConflictError, ModelNotFoundError, RequestTooLargeError, StoreBusyError
from janflask.files import by_path
from janflask.files.disk import is_full, translate
from janflask.files.locks import lock_until
from janflask.models.card import ModelCard
from janflask.models.catalog import MAX_MODEL_FILE, MODEL_FILE, ModelCatalog, is_model_id
from janflask.models.description import Origin as Origin
from janflask.models.description import describe as describe
from janflask.models.description import header_of
from janflask.models.description import model_json as model_json

ATTEMPTS = 5  # to find the model's folder as it was a moment ago
LOCK_TIMEOUT = 10.0  # seconds
_THERE = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}


def write_model_json(folder: Path, content: Mapping[str, Any], durable: bool) -> None:
    """Replaces ``folder/model.json`` in one step. ``durable``: it is on the disk when this returns.

    Raises RequestTooLargeError for more than a model.json may hold, StorageFullError and OSError.
    """
    data = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    if len(data) > MAX_MODEL_FILE:
        raise RequestTooLargeError(f"{MODEL_FILE} would be larger than {MAX_MODEL_FILE} bytes: give less metadata")
    with _translated(MODEL_FILE):
        by_path.replace(
            folder / MODEL_FILE, data, durable=durable, mode=by_path.SHARED_MODE, temporary=f".{MODEL_FILE}.tmp"
        )


def publish(
    models_dir: Path,
    model_id: str,
    staging: Path,
    *,
    source: str,
    files: Sequence[Origin],
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    durable: bool = True,
) -> None:
    """The ``files`` in the folder ``staging`` become the model ``models_dir/model_id``; the folder is gone then.

    ``files`` are the model's, in order, and its projector. ``staging`` is on the models' file system and nobody writes
    in it; whatever else it holds is removed. ``source`` is where the model can be had, as its user wrote it.

    Raises GgufError if the files are no model, ConflictError if the id has weights already, StoreBusyError,
    StorageFullError, RequestTooLargeError and OSError; the files are still in ``staging`` then.
    """
    _check_names(model_id, files)
    for file in files:
        if file.is_projector:
            header_of(staging / file.filename)
    content = partial(
        model_json,
        model_id,
        files,
        describe([staging / file.filename for file in files if not file.is_projector]),
        source=source,
        name=name,
        settings=settings,
        parameters=parameters,
        metadata=metadata,
    )
    with _translated(f"the model {model_id}"):
        _tidy(staging, files, durable)
        for _ in range(ATTEMPTS):
            target = ModelCatalog(models_dir).folder(model_id)
            if _became(staging, target, content, durable) or _joined(staging, target, files, content, durable):
                return
    raise StoreBusyError(f"the folder of the model {model_id} keeps changing; try again")


def check_holds_none(model_id: str, cards: Iterable[ModelCard]) -> None:
    """Raises ConflictError for an id whose folder holds models' folders: as a model's it would hide these."""
    inner = next((card.folder for card in cards if card.folder.startswith(f"{model_id}/")), None)
    if inner is not None:
        raise ConflictError(f"the folder {model_id} holds models, such as {inner!r}: choose another id", param="id")


Content = Callable[..., dict[str, Any]]


def _check_names(model_id: str, files: Sequence[Origin]) -> None:
    if not is_model_id(model_id):
        raise ValueError(f"{model_id[:128]!r} is no model's id")
    if not files or files[0].is_projector:
        raise ValueError("a model has a first file, and that is no projector")
    for file in files:
        path = Path(file.filename)
        plain = path.is_absolute() or path.name == file.filename
        if "\0" in file.filename or path.suffix.lower() != ".gguf" or not plain:
            raise ValueError(f"{file.filename[:200]!r} is no plain name of a .gguf file and no absolute path of one")


def _tidy(staging: Path, files: Sequence[Origin], durable: bool) -> None:
    """Only the model's files are left, and they are on the disk."""
    names = {file.filename for file in files}
    for entry in list(staging.iterdir()):
        if entry.name in names:
            _sync(entry, durable)
        elif entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _became(staging: Path, target: Path, content: Content, durable: bool) -> bool:
    """Whether ``staging`` is the model's folder now; it is not where there is one already."""
    if os.path.lexists(target):  # if nobody else were at it, that would do
        return False
    write_model_json(staging, content(), durable)
    try:
        staging.rename(target)
    except OSError as error:
        (staging / MODEL_FILE).unlink()
        if error.errno in _THERE:
            return False
        raise
    _sync(target.parent, durable)
    return True


def _joined(staging: Path, target: Path, files: Sequence[Origin], content: Content, durable: bool) -> bool:
    """Whether the files are in the folder ``target`` and it describes them; not, if it is gone."""
    with _locked(target) as is_there:
        if is_there:
            existing = _description(staging, target, files)
            _bring(staging, target, files)
            _sync(target, durable)
            write_model_json(target, content(existing=existing), durable)
            shutil.rmtree(staging)
    return is_there


def _description(staging: Path, target: Path, files: Sequence[Origin]) -> dict[str, Any]:
    """The model.json that is there. ConflictError if there are weights other than ours, or if it cannot be read."""
    catalog = ModelCatalog(target.parent)
    try:
        card = catalog.get(target.name)
    except ModelNotFoundError:
        check_holds_none(target.name, catalog.list())
        return {}
    if any(_is_same(staging / file.filename, target / file.filename) for file in files):
        return card.raw  # a crash ended an earlier attempt
    if card.present:
        raise ConflictError(
            f"there is a model {card.id} already: choose another id, or delete it first",
            param="id",
            code="model_exists",
        )
    if card.problem is not None:
        raise ConflictError(f"the folder of the model {card.id} cannot be used: {card.problem}", param="id")
    return card.raw


def _bring(staging: Path, target: Path, files: Sequence[Origin]) -> None:
    """The files are in ``target`` too. The first comes last: without it, the others are no model."""
    for file in reversed(files):
        here, there = staging / file.filename, target / file.filename
        if Path(file.filename).is_absolute() or _is_same(here, there):
            continue
        try:
            there.hardlink_to(here)
        except FileExistsError:
            raise ConflictError(f"there is a file {file.filename} in the folder of {target.name} already") from None
        except OSError as error:  # a file system without hard links
            if is_full(error):
                raise
            here.rename(there)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """While nobody else changes the model: the lock that PATCH and DELETE take, too. False if the folder is gone."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        if folder.is_symlink():
            raise ConflictError(f"{folder.name} is a link to nowhere: choose another id", param="id") from None
        yield False
        return
    except NotADirectoryError:
        raise ConflictError(f"{folder.name} among the models is no folder: choose another id", param="id") from None
    try:
        if not lock_until(fd, time.monotonic() + LOCK_TIMEOUT):
            raise StoreBusyError(f"somebody else is changing the model {folder.name}; try again")
        yield folder.exists() and os.path.samestat(os.fstat(fd), folder.stat())
    finally:
        os.close(fd)


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise translate(error, what) from error
        if error.errno == errno.EXDEV:
            raise ConflictError(f"{what} lies on another file system than its files: remove its folder") from error
        raise


def _sync(path: Path, durable: bool) -> None:
    if durable:
        by_path.sync_path(path)
