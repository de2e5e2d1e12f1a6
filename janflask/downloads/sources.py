"""Where a model comes from, as a user writes it, and the files that this means.

- ``https://host/path/model.gguf``, also with a query: that file.
- ``hf:org/repo/path/model.gguf``, or the file's ``blob`` or ``resolve`` URL on the hub: that file.
- ``hf:org/repo:Q4_K_M``: the model whose name carries that quantization.
- ``hf:org/repo``, or the repository's page: its only model, or the one in ``Q4_K_M``.
- ``starter``, or its package URL: the starter model.

``@revision`` may follow the repository or stand at the end of a ``hf:`` source. A part of a split model
(``-00001-of-00003.gguf``) stands for all of it. A projector (``mmproj``) in the same folder of a repository, or else at
its top, comes along: of several one in f16, then bf16, f32, q8_0. All files are of one commit.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from janflask.downloads.fetch import RemoteFile
from janflask.downloads.hub import ENDPOINT, Hub, HubFile, Listing
from janflask.downloads.names import (
    EXTENSION,
    base_name,
    carries,
    is_gguf,
    is_model,
    is_projector,
    model_id,
    parts_of,
    plain_name,
    stem_of,
)
from janflask.downloads.safety import MAX_URL, check_url, origin_of
from janflask.downloads.starter import Starter, known_starter
from janflask.errors import InvalidRequestError, SourceError

DEFAULT_QUANTIZATION = "Q4_K_M"
NAMES_SHOWN = 20
_PROJECTORS = ("f16", "bf16", "f32", "q8_0")  # the best first
_PUBLIC_HUB = (ENDPOINT, "https://www.huggingface.co", "https://hf.co", "http://huggingface.co")
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"{_NAME}/{_NAME}")
_HF = re.compile(r"hf:(?://)?([^/:@]+/[^/:@]+)(?:@([^/:@]+))?(?:/([^@]+)|:([^/@]+))?(?:@(.+))?", re.IGNORECASE)
_QUANTIZATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
_PIECE = re.compile(r"[^/?&=;']+")  # of a URL that may be a file's name


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a source means now: a model's ``files``, in order, and what its origin says of it."""

    files: tuple[RemoteFile, ...]
    mmproj: RemoteFile | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a source says of how its model is called and used, where a request says nothing."""

    name: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)


class Source(ABC):
    """A place that a model can be fetched from. ``source_url`` is what the user wrote."""

    source_url: str

    @property
    @abstractmethod
    def key(self) -> str:
        """Equal for sources that mean the same, however they are written."""

    @property
    @abstractmethod
    def default_id(self) -> str:
        """A legal model id, from the source's own name."""

    @property
    def defaults(self) -> Defaults:
        return Defaults()

    @abstractmethod
    def resolve(self, hub: Hub, sha256: str | None = None) -> Resolved:
        """Asks the hub if need be. ``sha256`` is what the user expects of the (first) file.

        Raises SourceError, SourceUnavailableError.
        """


def parse(text: str, hub: Hub | None = None) -> Source:
    """The source that a user means, without asking anybody. ``hub``: the environment's, if none is given.

    Raises InvalidRequestError (param ``source_url``).
    """
    text = text.strip()
    if len(text) > MAX_URL:
        raise _invalid(f"a source has at most {MAX_URL} characters")
    starter = known_starter(text)
    if starter is not None:
        return StarterSource(starter.source, starter)
    if text[:3].lower() == "hf:":
        return _parse_hf(text)
    if "://" not in text:
        raise _invalid(
            f"{text[:200]!r} is no source for a model: give the http(s) URL of a .gguf file, "
            "hf:org/repo/file.gguf or hf:org/repo:Q4_K_M"
        )
    parts = check_url(text)
    return _parse_page(text, parts, hub or Hub.from_env(os.environ)) or _parse_url(text, parts)


# --- the starter model ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StarterSource(Source):
    """The model that a new server begins with, in its package."""

    source_url: str
    starter: Starter

    @property
    def key(self) -> str:
        return self.starter.source

    @property
    def default_id(self) -> str:
        return self.starter.id

    @property
    def defaults(self) -> Defaults:
        return Defaults(self.starter.name, self.starter.settings, self.starter.parameters)

    def resolve(self, hub: Hub, sha256: str | None = None) -> Resolved:
        """Asks nobody: the file is known."""
        file = RemoteFile(self.starter.source, self.starter.filename, self.starter.size, self.starter.sha256)
        if sha256 and sha256.lower() != file.sha256:
            raise SourceError(f"{file.name} has the sha256 {file.sha256}: it is another file", param="sha256")
        return Resolved((file,), metadata=dict(self.starter.metadata))


# --- a plain URL ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UrlSource(Source):
    """A file on the web, or the parts of one: their URLs, and their names on this machine."""

    source_url: str
    urls: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def key(self) -> str:
        return self.urls[0]

    @property
    def default_id(self) -> str:
        return model_id(stem_of(self.names[0]))

    def resolve(self, hub: Hub, sha256: str | None = None) -> Resolved:
        """Asks nobody: where all parts are follows from the first."""
        files = [RemoteFile(url, name) for url, name in zip(self.urls, self.names, strict=True)]
        if sha256:
            files[0] = replace(files[0], sha256=sha256.lower())
        return Resolved(tuple(files))


def _parse_url(text: str, parts: SplitResult) -> UrlSource:
    place = parts.path + (f"?{parts.query}" if parts.query else "")
    last = parts.path.rindex("/") + 1
    found = next((piece for piece in _PIECE.finditer(place, last) if is_gguf(piece[0])), None)
    if found is not None:
        files = parts_of(found[0])
        places = [place[: found.start()] + file + place[found.end() :] for file in files]
    elif parts.path[last:]:
        files, places = [parts.path[last:] + EXTENSION], [place]
    else:
        raise _invalid(f"{text[:200]!r} names no file: give the URL of a .gguf file")
    if is_projector(files[0]):
        raise _invalid(f"{text[:200]!r} is a projector and no model: give the model's URL")
    origin = origin_of(parts)
    names = [plain_name(unquote(file)) for file in files]
    return UrlSource(text, tuple(origin + place for place in places), tuple(names))


# --- a repository on the hub ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource(Source):
    """A model in a repository: by its file's ``path``, by its ``quantization``, or the one to be expected."""

    source_url: str
    repository: str
    revision: str | None = None  # None: main
    path: str | None = None
    quantization: str | None = None

    @property
    def key(self) -> str:
        what = f"/{parts_of(self.path)[0]}" if self.path else ""
        what += f":{self.quantization.upper()}" if self.quantization else ""
        return f"hf:{self.repository.lower()}@{self.revision or 'main'}{what}"

    @property
    def default_id(self) -> str:
        if self.path:
            return model_id(stem_of(plain_name(self.path)))
        name = re.sub(r"[-_.]gguf$", "", self.repository.split("/")[1], flags=re.IGNORECASE)
        return model_id(f"{name}-{self.quantization.upper()}" if self.quantization else name)

    def resolve(self, hub: Hub, sha256: str | None = None) -> Resolved:
        """Asks the hub for the files, and takes those of the commit that it names."""
        listing = hub.listing(self.repository, self.revision)
        if listing.is_gated and not hub.token:
            raise hub.gated(listing.repository)
        chosen = self._choose(listing)
        expected = chosen[0].sha256
        if sha256 and expected and sha256.lower() != expected:
            raise SourceError(
                f"{chosen[0].path} has the sha256 {expected} on the hub, not {sha256.lower()}: it is another file",
                param="sha256",
            )
        files = [_hub_file(hub, listing, file) for file in chosen]
        if sha256:
            files[0] = replace(files[0], sha256=sha256.lower())
        projector = _projector(listing.files, chosen[0].path)
        metadata: dict[str, Any] = {"repository": listing.repository, "revision": listing.commit}
        metadata |= {"author": listing.author} if listing.author else {}
        metadata |= {"tags": list(listing.tags)} if listing.tags else {}
        return Resolved(tuple(files), _hub_file(hub, listing, projector) if projector else None, metadata)

    def _choose(self, listing: Listing) -> list[HubFile]:
        """The model's files, in order."""
        models = _models(listing.files)
        if self.path:
            found = [first for first in models if first == parts_of(self.path or "")[0]]
        elif self.quantization or len(models) > 1:
            found = [first for first in models if carries(first, self.quantization or DEFAULT_QUANTIZATION)]
        else:
            found = list(models)
        if len(found) == 1:
            return _whole(found[0], models[found[0]])
        wanted = self.path or self.quantization
        what = f"{'no' if not found else 'more than one'} {wanted}" if wanted else "more than one model"
        if not models:
            raise SourceError(f"{listing.repository} has no GGUF model; look for a repository that has one")
        raise SourceError(
            f"{listing.repository} has {what}: name a file as in hf:org/repo/file.gguf; "
            f"there are {_shown(found or models)}"
        )


def _parse_hf(text: str) -> HubSource:
    found = _HF.fullmatch(text)
    if found is None or (found[2] and found[5]):
        raise _invalid(
            f"{text[:200]!r} is none of hf:org/repo, hf:org/repo/file.gguf and hf:org/repo:Q4_K_M, "
            "each with @revision if need be"
        )
    revision = unquote(found[2] or found[5] or "")
    return _hub_source(text, found[1], revision, path=found[3], quantization=found[4])


def _parse_page(text: str, parts: SplitResult, hub: Hub) -> HubSource | None:
    """The source behind a URL on the hub; None for a URL elsewhere, or one that is no model's page."""
    segments = None
    for endpoint in (*_PUBLIC_HUB, hub.endpoint):
        prefix = urlsplit(endpoint).path.rstrip("/") + "/"
        if origin_of(parts) == origin_of(endpoint) and parts.path.startswith(prefix):
            segments = [unquote(segment) for segment in parts.path.removeprefix(prefix).rstrip("/").split("/")]
    match segments:
        case [org, name] if not is_gguf(name):
            return _hub_source(text, f"{org}/{name}", "")
        case [org, name, "blob" | "resolve", *rest]:
            depth = 3 if rest[:1] == ["refs"] else 1  # refs/pr/1
            revision, path = "/".join(rest[:depth]), "/".join(rest[depth:])
            return _hub_source(text, f"{org}/{name}", revision, path=path)
    return None


def _hub_source(
    text: str, repository: str, revision: str, *, path: str | None = None, quantization: str | None = None
) -> HubSource:
    if _REPOSITORY.fullmatch(repository) is None or ".." in repository or "--" in repository:
        raise _invalid(f"{repository[:200]!r} is no repository's name: it has the form org/name")
    if revision and (_REVISION.fullmatch(revision) is None or ".." in revision):
        raise _invalid(f"{revision[:200]!r} is no revision: give a branch, a tag or a commit")
    if quantization is not None and _QUANTIZATION.fullmatch(quantization) is None:
        raise _invalid(f"{quantization[:80]!r} is no quantization: give one as in hf:org/repo:Q4_K_M")
    if path is not None:
        if not is_gguf(path) or any(part in ("", ".", "..") for part in path.split("/")) or not path.isprintable():
            raise _invalid(f"{path[:200]!r} is no path of a .gguf file in a repository")
        if is_projector(path):
            raise _invalid(f"{path[:200]!r} is a projector and no model: give the model, its projector comes along")
        parts_of(path)
    return HubSource(
        source_url=text,
        repository=repository,
        revision=None if revision in ("", "main") else revision,
        path=path,
        quantization=quantization,
    )


def _models(files: Iterable[HubFile]) -> dict[str, list[HubFile]]:
    """The files of each model by its first file's path, which need not be there. Unusable names are left out."""
    models: dict[str, list[HubFile]] = {}
    for file in sorted(files, key=lambda file: file.path):
        if not is_model(file.path) or not file.path.isprintable():
            continue
        try:
            first = parts_of(file.path)[0]
        except InvalidRequestError:
            continue
        models.setdefault(first, []).append(file)
    return models


def _whole(first: str, files: list[HubFile]) -> list[HubFile]:
    missing = set(parts_of(first)) - {file.path for file in files}
    if missing:
        raise SourceError(f"the model is not whole on the hub: {_shown(sorted(missing))} missing")
    return files


def _projector(files: Iterable[HubFile], model: str) -> HubFile | None:
    """The projector that belongs to ``model``, if there is one: the best in the same folder, or else at the top."""
    found = [file for file in files if is_gguf(file.path) and is_projector(file.path) and file.path.isprintable()]
    for folder in dict.fromkeys((model.rpartition("/")[0], "")):
        here = sorted((file for file in found if file.path.rpartition("/")[0] == folder), key=lambda file: file.path)
        if here:
            return min(here, key=_rank)
    return None


def _rank(file: HubFile) -> int:
    return next(
        (rank for rank, name in enumerate(_PROJECTORS) if carries(base_name(file.path), name)), len(_PROJECTORS)
    )


def _hub_file(hub: Hub, listing: Listing, file: HubFile) -> RemoteFile:
    url = hub.file_url(listing.repository, listing.commit, file.path)
    return RemoteFile(url, plain_name(file.path), file.size, file.sha256)


def _shown(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(name[:200] for name in names[:NAMES_SHOWN]) + more


def _invalid(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, param="source_url")
