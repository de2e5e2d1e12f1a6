"""Asks the Hugging Face hub, or a server that speaks its API, which files a repository has.

Only names, sizes and hashes come this way, through ``huggingface_hub``; the files are fetched as any other URL is. The
library is imported at the first question: most servers never ask one.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlsplit

from janflask.downloads.safety import check_url, origin_of
from janflask.errors import InvalidRequestError, SettingsError, SourceError, SourceUnavailableError

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo
    from huggingface_hub.errors import HfHubHTTPError

ENDPOINT = "https://huggingface.co"
MAX_FILES = 20_000  # of a repository
MAX_TAGS = 64
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_REPOSITORY = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository; ``size`` in bytes and ``sha256`` where the hub knows them."""

    path: str
    size: int | None
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A repository at one commit. The names of its files are as somebody wrote them: no paths to be used here."""

    repository: str
    commit: str  # or what was asked for, where the hub does not say
    author: str | None
    tags: tuple[str, ...]
    is_gated: bool
    files: tuple[HubFile, ...]


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub and who asks it. ``timeout`` is the longest silence in seconds; twice that, an answer may take in all."""

    endpoint: str = ENDPOINT
    token: str | None = field(default=None, repr=False)
    timeout: float = 30.0

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Hub:
        """The hub of ``HF_ENDPOINT`` and ``HF_TOKEN``. Raises SettingsError if one of them cannot be used."""
        endpoint = env.get("HF_ENDPOINT", "").strip().rstrip("/") or ENDPOINT
        token = env.get("HF_TOKEN", "").strip() or None
        try:
            check_url(endpoint)
        except InvalidRequestError as error:
            raise SettingsError(f"HF_ENDPOINT cannot be used: {error.message}") from None
        if urlsplit(endpoint).query or (token is not None and not re.fullmatch(r"[!-~]{1,1000}", token)):
            raise SettingsError("HF_ENDPOINT must be a URL without a query, and HF_TOKEN plain characters only")
        return cls(endpoint, token)

    @property
    def origin(self) -> str:
        """Who may see the token: ``scheme://host[:port]``."""
        return origin_of(self.endpoint)

    @property
    def private_origin(self) -> str:
        """Whose address may be a private one, since the server's owner chose it; empty for the public hub."""
        return "" if self.endpoint == ENDPOINT else self.origin

    def file_url(self, repository: str, commit: str, path: str) -> str:
        """Where a file is, at one version."""
        return f"{self.endpoint}/{repository}/resolve/{quote(commit, safe='')}/{quote(path)}"

    def listing(self, repository: str, revision: str | None) -> Listing:
        """The repository's files. Raises SourceError if it cannot be had, SourceUnavailableError if the hub cannot."""
        from huggingface_hub import HfApi, constants
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        constants.HF_HUB_DISABLE_TELEMETRY = True
        api = HfApi(endpoint=self.endpoint, token=self.token or False, headers={"user-agent": "janflask"})

        def ask() -> ModelInfo:
            return api.model_info(repository, revision=revision, files_metadata=True, timeout=self.timeout)

        try:
            listing = _read(_within(2 * self.timeout, ask), repository, revision or "main")
        except HFValidationError as error:
            raise SourceError(f"{repository!r} is no repository's name: {_short(error)}") from None
        except HfHubHTTPError as error:
            raise self._refusal(error, repository, revision) from error
        except TimeoutError:
            raise SourceUnavailableError(f"{self.origin} took longer than {2 * self.timeout:g} seconds") from None
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise SourceUnavailableError(
                f"{self.origin} did not answer as a Hugging Face hub does; is HF_ENDPOINT right?"
            ) from error
        except Exception as error:  # the HTTP library's own, which goes by several names
            raise SourceUnavailableError(f"{self.origin} cannot be reached: {_short(error)}") from error
        if len(listing.files) > MAX_FILES:
            raise SourceError(f"{repository} has {len(listing.files)} files, which is too much to look through")
        return listing

    def _refusal(self, error: HfHubHTTPError, repository: str, revision: str | None) -> Exception:
        """Our error for an answer that is one, with what to do about it."""
        from huggingface_hub.errors import (
            DisabledRepoError,
            GatedRepoError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        status = error.response.status_code
        if isinstance(error, GatedRepoError):
            return self.gated(repository)
        if isinstance(error, RevisionNotFoundError):
            return SourceError(f"{repository} has no version {revision!r} on {self.origin}")
        if isinstance(error, DisabledRepoError):
            return SourceError(f"{repository} is disabled on {self.origin}: nobody can fetch it")
        if isinstance(error, RepositoryNotFoundError) or status == 404:
            hint = "that HF_TOKEN may read it" if self.token else "set HF_TOKEN on the server if it is a private one"
            return SourceError(f"there is no {repository} on {self.origin}: check its name, and {hint}")
        if status in (401, 403):
            hint = "HF_TOKEN is wrong, or may not read it" if self.token else "set HF_TOKEN on the server"
            return SourceError(f"{self.origin} refuses to show {repository} ({status}): {hint}")
        if status in (408, 425, 429) or status >= 500:
            wait = error.response.headers.get("retry-after", "")
            return SourceUnavailableError(
                f"{self.origin} cannot tell about {repository} now ({status}); try again later",
                retry_after=int(wait) if wait.isdecimal() else None,
            )
        return SourceError(f"{self.origin} refuses to tell about {repository} ({status})")

    def gated(self, repository: str) -> SourceError:
        """What to do about a repository whose files are for those who agreed to its terms."""
        where = f"accept its terms at {self.endpoint}/{repository}"
        then = "with the account of HF_TOKEN" if self.token else "and set HF_TOKEN on the server to your access token"
        return SourceError(f"{repository} is gated: {where} {then}")


def _read(info: ModelInfo, repository: str, revision: str) -> Listing:
    """What is wanted of an answer. Raises ValueError, TypeError and their like for one that makes no sense."""
    files = [
        HubFile(item.rfilename, _size(item.size), _sha256(item.lfs.sha256 if item.lfs else None))
        for item in info.siblings or []
        if isinstance(item.rfilename, str)
    ]
    named = isinstance(info.id, str) and _REPOSITORY.fullmatch(info.id) is not None  # another than asked: it has moved
    return Listing(
        repository=info.id if named else repository,
        commit=info.sha if info.sha and _COMMIT.fullmatch(info.sha) else revision,
        author=info.author if isinstance(info.author, str) else None,
        tags=tuple(tag for tag in info.tags or [] if isinstance(tag, str))[:MAX_TAGS],
        is_gated=bool(info.gated),
        files=tuple(files),
    )


def _size(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _sha256(value: object) -> str | None:
    return value.lower() if isinstance(value, str) and _SHA256.fullmatch(value) else None


def _short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _within(seconds: float, call: Callable[[], T]) -> T:
    """What ``call`` gives. TimeoutError if it takes longer: then it is left to itself, which the thread survives."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # for whoever waits
            future.set_exception(error)

    threading.Thread(target=run, name="hub", daemon=True).start()
    return future.result(seconds)
