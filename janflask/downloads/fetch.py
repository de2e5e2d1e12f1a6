"""Gets one file: resumed by range, tried again with back-off, hashed, and never taken for whole when it is not.

While it comes it is ``<name>.part``; ``<name>.part.json`` beside it says of which URL and which version of the file
(the server's validator) its bytes are. Both outlive a killed process, so the next one goes on where this one was.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from janflask.downloads.gguf_header import MAGIC
from janflask.downloads.safety import Answer, Web
from janflask.errors import InvalidRequestError, JanflaskError, RequestTooLargeError, StorageFullError, UnavailableError

BLOCK = 256 * 1024  # bytes read at once
MIN_PROGRESS = 64 * 1024  # bytes by which an attempt must get further, or it counts as a failure
RESERVE = 64 * 1024 * 1024  # bytes of the disk that are left alone
REPORT_EVERY = 0.25  # seconds
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class SourceError(InvalidRequestError):
    """The source does not give the file; trying again would not help."""

    code = "download_failed"


class SourceUnavailableError(UnavailableError):
    """The source could not be reached or kept failing; the same download may work later, and goes on then."""

    code = "download_interrupted"


class CancelledError(JanflaskError):
    """Somebody ended the download."""

    status = 409
    code = "download_cancelled"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file to fetch; ``size`` in bytes and ``sha256`` where they are known beforehand."""

    url: str
    name: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient a download is. Seconds, bytes and bytes per second."""

    max_bytes: int = 1 << 40
    stall_timeout: float = 30.0
    min_rate: float = 1024.0  # over a whole stall_timeout
    tries: int = 6  # in a row without getting further
    back_off: float = 1.0  # before the second try; doubles
    longest_wait: float = 300.0  # of a Retry-After; a longer one ends the download


@dataclass(slots=True)
class _Part:
    """What ``<name>.part.json`` says of the bytes beside it."""

    url: str
    validator: str | None = None
    total: int | None = None


class _TryAgainError(Exception):
    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


Progress = Callable[[int, int | None], None]


class Fetch:
    """One download of one file into ``folder``; ``run`` once. ``cancel`` may come from another thread."""

    def __init__(self, file: RemoteFile, folder: Path, web: Web, limits: Limits, progress: Progress) -> None:
        self._file = file
        self._web = web
        self._limits = limits
        self._progress = progress
        self.path = folder / f"{file.name}.part"
        self._about = folder / f"{file.name}.part.json"
        self._cancelled = threading.Event()
        self._answer: Answer | None = None
        self._reported = 0.0

    def cancel(self) -> None:
        self._cancelled.set()
        answer = self._answer
        if answer is not None:
            answer.abort()

    def run(self) -> str:
        """The sha256 of the whole file, which is then at ``path``, flushed to the disk.

        Raises SourceError, UnsafeSourceError, RequestTooLargeError, StorageFullError: final, nothing is left on the
        disk. SourceUnavailableError, CancelledError: the part stays and a later run goes on.
        """
        try:
            self._get_all()
            return self._verified()
        except (InvalidRequestError, StorageFullError):
            self._forget()
            raise

    def _get_all(self) -> None:
        failures, furthest = 0, self._have()
        while not self._is_whole():
            self._check_cancelled()
            wait: float | None = None
            try:
                self._attempt()
                continue
            except _TryAgainError as error:
                why, wait = str(error), error.wait
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, OSError) and error.filename is not None:
                    raise  # a file of ours, not the network
                why = str(error) or type(error).__name__
            self._check_cancelled()
            failures = 1 if self._have() >= furthest + MIN_PROGRESS else failures + 1
            furthest = max(furthest, self._have())
            if failures >= self._limits.tries or (wait or 0) > self._limits.longest_wait:
                raise SourceUnavailableError(
                    f"{self._file.name} could not be downloaded: {why}; ask for it again to go on where it ended",
                    retry_after=round(wait) if wait else None,
                )
            self._cancelled.wait(wait if wait is not None else self._limits.back_off * 2 ** (failures - 1))

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise CancelledError("the download was cancelled")

    # --- one attempt --------------------------------------------------------------------------------------------

    def _attempt(self) -> None:
        part = self._known_part()
        offset = self._have() if part is not None else 0
        headers = {}
        if part is not None and offset:
            headers["Range"] = f"bytes={offset}-"
            if part.validator:
                headers["If-Range"] = part.validator
        self._answer = answer = self._web.open(self._file.url, headers)
        try:
            self._check_cancelled()
            self._check_status(answer, asking_from=offset)
            start, total = self._what_comes(answer, part, offset)
            self._check_room(total, start)
            validator = _validator(answer)
            _write_json(self._about, _Part(self._file.url, validator, total))
            # Unbuffered: what was received is in the kernel's hands even if this process is killed.
            with self.path.open("r+b" if start else "wb", buffering=0) as out:
                out.seek(start)
                self._receive(answer, out, start, total)
        finally:
            self._answer = None
            answer.close()

    def _check_status(self, answer: Answer, asking_from: int) -> None:
        status, name = answer.status, self._file.name
        if status == 416 and asking_from:
            self._forget()
            raise _TryAgainError("the server has less of the file than we do")
        if status in (401, 403):
            raise SourceError(
                f"the server refuses to give {name} ({status}): if it is gated or private, accept its terms on its "
                "page and set HF_TOKEN for the server"
            )
        if status in (404, 410):
            raise SourceError(f"there is no such file at the source ({status}): {answer.url[:300]}")
        if status in _AGAIN:
            raise _TryAgainError(f"the server answered {status}", _retry_after(answer))
        if status not in (200, 206):
            raise SourceError(f"the server answered {status} where {name} was asked for")
        if answer.headers.get("content-type", "").lower().startswith(("text/html", "application/xhtml")):
            raise SourceError("the URL leads to a web page, not to a GGUF file: take the file's own download link")
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            raise SourceError("the server sends the file compressed, though it was asked not to")

    def _what_comes(self, answer: Answer, part: _Part | None, offset: int) -> tuple[int, int | None]:
        """Where in the file the answer begins, and how long the whole file is."""
        length = answer.headers.get("content-length", "")
        if answer.status == 200:
            return 0, int(length) if length.isdecimal() else self._file.size
        found = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        total = int(found[3]) if found and found[3] != "*" else None
        validator = _validator(answer)
        same = part is not None and (part.total in (None, total)) and validator in (None, part.validator)
        if found is None or int(found[1]) != offset or not offset or not same:
            self._forget()
            raise _TryAgainError("the server answered with another part of the file, or of another file")
        return offset, total

    def _check_room(self, total: int | None, start: int) -> None:
        if self._file.size is not None and total is not None and total != self._file.size:
            raise SourceError(f"{self._file.name} should have {self._file.size} bytes, the server has {total}")
        self._check_size(total or 0)
        free = shutil.disk_usage(self.path.parent).free + (self._have() - start)
        needed = (total or 0) - start + RESERVE
        if free < needed:
            raise StorageFullError(
                f"{self._file.name} needs {needed / 2**30:.1f} GiB more, {free / 2**30:.1f} GiB are free on the disk"
            )

    def _check_size(self, size: int) -> None:
        if size > self._limits.max_bytes:
            raise RequestTooLargeError(
                f"{self._file.name} is larger than {self._limits.max_bytes / 2**30:.1f} GiB, "
                "which JANFLASK_MAX_MODEL_GB sets as the limit"
            )

    def _receive(self, answer: Answer, out: BinaryIO, start: int, total: int | None) -> None:
        have, window_from, window_start = start, start, time.monotonic()
        first = b""
        while block := answer.read(BLOCK):
            if have < len(MAGIC):
                first += block[: len(MAGIC)]
                if not MAGIC.startswith(first[: len(MAGIC)]):
                    raise SourceError(f"{self._file.name} is not a GGUF file: it does not begin with GGUF")
            self._check_size(have + len(block))
            _write_all(out, block)
            have += len(block)
            now = time.monotonic()
            if now - window_start > self._limits.stall_timeout:
                if have - window_from < self._limits.min_rate * self._limits.stall_timeout:
                    raise _TryAgainError(f"the server sends less than {self._limits.min_rate:g} bytes a second")
                window_from, window_start = have, now
            if now - self._reported >= REPORT_EVERY:
                self._reported = now
                self._progress(have, total)
            self._check_cancelled()
        if total is None and "transfer-encoding" in answer.headers:  # chunked: its end is marked
            _write_json(self._about, _Part(self._file.url, _validator(answer), have))
        elif total is None:
            raise SourceError("the server does not say how long the file is, so nobody can tell when it is whole")
        elif have != total:
            raise _TryAgainError(f"the connection ended after {have} of {total} bytes")

    # --- what is on the disk ------------------------------------------------------------------------------------

    def _have(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _known_part(self) -> _Part | None:
        """What the part on the disk is of; None when nobody can tell or prove it."""
        part = self._read_about()
        if part is None or part.url != self._file.url:
            return None
        if part.validator is None and self._file.sha256 is None:
            return None
        return part if part.total is None or self._have() <= part.total else None

    def _read_about(self) -> _Part | None:
        try:
            raw = json.loads(self._about.read_bytes())
            part = _Part(**raw)
        except (FileNotFoundError, ValueError, TypeError):
            return None
        validator_ok = part.validator is None or isinstance(part.validator, str)
        total_ok = part.total is None or (isinstance(part.total, int) and part.total > 0)
        return part if validator_ok and total_ok else None

    def _is_whole(self) -> bool:
        part = self._read_about()
        return part is not None and part.url == self._file.url and part.total == self._have()

    def _forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)

    def _verified(self) -> str:
        """Hashes what is on the disk, not what passed by: that covers a resumed part, too."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
            while block := file.read(1 << 20):
                self._check_cancelled()
                digest.update(block)
        found = digest.hexdigest()
        if self._file.sha256 is not None and found != self._file.sha256.lower():
            self._forget()
            raise SourceError(
                f"{self._file.name} has the sha256 {found}, not {self._file.sha256.lower()}: it is damaged"
            )
        size = self._have()
        self._progress(size, size)
        return found


def _validator(answer: Answer) -> str | None:
    """What If-Range takes: a strong ETag, else the time of the last change."""
    etag = answer.headers.get("etag", "")
    if etag.startswith('"'):
        return etag
    return answer.headers.get("last-modified")


def _retry_after(answer: Answer) -> float | None:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None


def _write_all(out: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[out.write(view) :]
    except OSError as error:
        raise StorageFullError(f"the download could not be written: {error.strerror}") from error


def _write_json(path: Path, part: _Part) -> None:
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(asdict(part)))
    fresh.replace(path)
