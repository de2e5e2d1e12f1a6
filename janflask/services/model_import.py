"""A GGUF file of this machine becomes a model: linked, copied, or named where it lies. Never half of one."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from janflask.errors import ConflictError, InvalidRequestError, ModelNotFoundError, NotFoundError, StorageFullError
from janflask.files.disk import STAGING, Disk, translated
from janflask.models.catalog import ModelCatalog, is_model_id
from janflask.models.gguf_header import GgufError, read_header
from janflask.models.model_files import is_gguf_name, is_model_name, is_projector_name
from janflask.models.publish import Origin, check_holds_none, describe, publish
from janflask.models.split_names import part_paths, split_name
from janflask.settings import Settings
from janflask.webhooks.events import of_model
from janflask.webhooks.outbox import Outbox

BLOCK = 4 << 20  # bytes copied at once
MARGIN = 64 << 20  # bytes that stay free on the disk after a copy

Progress = Callable[[int, int], None]  # bytes so far, bytes in all
IsDownload = Callable[[str], bool]  # whether a model of that id is being fetched

_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9._-]+")


class Way(StrEnum):
    """How the weights come into the model's folder."""

    HARD_LINK = "hard_link"  # a further name of the same file: takes no space, and stays when the other is removed
    COPY = "copy"
    REFERENCE = "reference"  # they stay where they are, and model.json says where: Jan's way


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of it."""

    model_id: str
    way: Way
    size_bytes: int  # of all files
    files: int
    mmproj: str | None  # the name of the projector that was beside the model


@dataclass(frozen=True, slots=True)
class _Found:
    """A model's files, in order, and its projector."""

    weights: tuple[Path, ...]
    mmproj: Path | None

    @property
    def files(self) -> tuple[Path, ...]:
        return self.weights if self.mmproj is None else (*self.weights, self.mmproj)


class ModelImportService:
    """Makes ``models/<id>/`` out of files on this machine, with or without a running server."""

    def __init__(self, settings: Settings, catalog: ModelCatalog, is_download: IsDownload) -> None:
        self._is_download = is_download
        self._root = settings.models_dir
        self._catalog = catalog
        self._disk = Disk(durable=settings.durability == "disk")
        self._telling = Outbox(settings).telling

    def add(
        self, path: Path, *, way: Way | None = None, model_id: str | None = None, name: str | None, progress: Progress
    ) -> Imported:
        """The model in ``path``: one file, or any part of a split one. A lone ``mmproj*.gguf`` beside it comes along.

        ``way`` None: a hard link, or a copy where the file system allows none. Raises InvalidRequestError for what is
        no whole model, NotFoundError, ConflictError where the id is taken, StorageFullError and OSError.
        """
        found = _find(path)
        _check(found)
        model_id = self._free_id(model_id or default_id(found.weights[0]))
        size = sum(file.stat().st_size for file in found.files)
        with self._disk.staged(self._root) as (staged, _):
            # One more folder in it: the outer one is as private as conversations are.
            staging = self._root / STAGING / staged / model_id
            staging.mkdir()
            if way is not Way.REFERENCE:
                with translated(f"model {model_id}"):
                    way = _bring(found.files, staging, way, size, progress)
            self._publish(found, staging, model_id, name, way)
        mmproj = None if found.mmproj is None else found.mmproj.name
        return Imported(model_id, way, size, len(found.files), mmproj)

    def _publish(self, found: _Found, staging: Path, model_id: str, name: str | None, way: Way) -> None:
        """A place is told to clients only where the weights are used from it."""
        referred = way is Way.REFERENCE
        files = [
            Origin(str(file) if referred else file.name, file.as_uri() if referred else "") for file in found.files
        ]
        source = files[0].url
        try:
            with self._telling(of_model("created", model_id), alone=True):
                publish(
                    self._root, model_id, staging, source=source, files=files, name=name, durable=self._disk.durable
                )
        except GgufError as error:
            raise InvalidRequestError(str(error)) from None

    def _free_id(self, model_id: str) -> str:
        if not is_model_id(model_id):
            raise InvalidRequestError(
                f"{model_id[:128]!r} cannot be a model's id: letters, digits, '.', '_' and '-', 128 at most, the first "
                "a letter or digit",
                param="id",
            )
        if self._is_download(model_id):
            raise ConflictError(f"{model_id} is being downloaded: choose another id, or delete it first", param="id")
        try:
            taken = self._catalog.get(model_id).present
        except ModelNotFoundError:
            taken = False
            check_holds_none(model_id, self._catalog.list())
        if taken:
            raise ConflictError(
                f"there is a model {model_id} already: choose another id, or delete it first",
                param="id",
                code="model_exists",
            )
        return model_id


def default_id(path: Path) -> str:
    """A legal id out of a file's name."""
    split = split_name(path.name)
    text = _NOT_IN_IDS.sub("-", split.stem if split else path.stem).lstrip("._-")[:128]
    return text or "model"


# --- looking ------------------------------------------------------------------------------------------------------


def _find(path: Path) -> _Found:
    path = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - a link keeps its own name, which ends in .gguf
    if not path.is_file():
        kind = "a folder: name a GGUF file in it" if path.is_dir() else "not there"
        raise NotFoundError(f"{path} is {kind}")
    if path.suffix.lower() != ".gguf":
        raise InvalidRequestError(f"{path} has no name that ends in .gguf")
    weights = tuple(part_paths(path))
    missing = [part.name for part in weights if not part.is_file()]
    if missing:
        raise NotFoundError(f"{path.name} is one part of a model; missing in {path.parent}: {', '.join(missing)}")
    return _Found(weights, _projector(weights))


def _projector(weights: Sequence[Path]) -> Path | None:
    """The only projector in a folder that holds no other model, for else it may be another's."""
    beside = [path for path in weights[0].parent.iterdir() if is_gguf_name(path.name) and path.is_file()]
    projectors = [path for path in beside if is_projector_name(path.name)]
    others = {path for path in beside if is_model_name(path.name)} - set(weights)
    return projectors[0] if len(projectors) == 1 and not others else None


def _check(found: _Found) -> None:
    """Raises InvalidRequestError for a file that is broken, or no model by itself."""
    try:
        describe(found.weights)
    except GgufError as error:
        raise InvalidRequestError(str(error)) from None
    if found.mmproj is not None:
        try:
            read_header(found.mmproj)
        except GgufError as error:
            raise InvalidRequestError(
                f"{found.mmproj.name} beside the model is no GGUF file that can be used ({error}): move it away"
            ) from None


# --- bringing -----------------------------------------------------------------------------------------------------


def _bring(files: Sequence[Path], staging: Path, way: Way | None, size: int, progress: Progress) -> Way:
    """Links or copies the files into ``staging``; which of the two it was."""
    if way is not Way.COPY and _link(files, staging):
        progress(size, size)
        return Way.HARD_LINK
    free = shutil.disk_usage(staging).free
    if size + MARGIN > free:
        raise StorageFullError(f"a copy takes {size} bytes and {free} are free: make room, or import with --link")
    done = 0
    for file in files:
        done = _copy(file, staging / file.name, done, size, progress)
    return Way.COPY


def _link(files: Sequence[Path], staging: Path) -> bool:
    """Whether every file has a further name in ``staging``; on another file system it cannot have one."""
    try:
        for file in files:
            (staging / file.name).hardlink_to(file.resolve())
    except OSError:
        for file in files:
            (staging / file.name).unlink(missing_ok=True)
        return False
    return True


def _copy(source: Path, target: Path, done: int, size: int, progress: Progress) -> int:
    with source.open("rb") as read, target.open("xb") as write:
        while block := read.read(BLOCK):
            write.write(block)
            done += len(block)
            progress(done, size)
    return done
