"""Gets one file: resumed by range, tried again with back-off, hashed on its way, not taken for whole when it is not."""

from __future__ import annotations

import email.utils
import http.client
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from janflask.downloads.hashing import BLOCK, StreamHash
from janflask.downloads.part import About, Part, disk_errors
from janflask.downloads.safety import Answer, Web
from janflask.downloads.wire import Wire
from janflask.errors import (
    DownloadCancelledError,
    InvalidRequestError,
    RequestTooLargeError,
    SourceError,
    SourceUnavailableError,
    StorageFullError,
)
from janflask.models.gguf_header import MAGIC

MIN_PROGRESS = 64 * 1024  # bytes by which an attempt must get further, or it counts as a failure
REPORT_EVERY = 0.25  # seconds
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_LENGTH = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file to fetch; ``size`` in bytes and ``sha256`` where they are known beforehand."""

    url: str
    name: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a file may be, in bytes, and how often it is tried. Seconds."""

    max_bytes: int = 1 << 40
    tries: int = 6  # in a row without getting further
    back_off: float = 1.0  # before the second try; doubles
    longest_wait: float = 300.0  # of a Retry-After; a longer one ends the download

    def wait(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        return float(self.back_off * 2 ** (failures - 1))


class _TryAgainError(Exception):
    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


# What is going on ("downloading", "verifying"), the bytes that are there, and those of the whole file where known.
Progress = Callable[[str, int, int | None], None]


class Fetch:
    """One download of one file into ``folder``; ``run`` once. ``cancel`` may come from another thread."""

    def __init__(self, file: RemoteFile, folder: Path, web: Web, limits: Limits, progress: Progress) -> None:
        self._file = file
        self._web = web
        self._limits = limits
        self._progress = progress
        self.part = Part(folder, file.name)
        self._hash = StreamHash()
        self._cancelled = threading.Event()
        self._wire = Wire()
        self._reported = 0.0

    def cancel(self) -> None:
        """``run`` raises DownloadCancelledError soon, wherever it is."""
        self._cancelled.set()
        self._wire.cut()

    def run(self) -> str:
        """The sha256 of the whole file, which is then at ``part.path`` and on the disk.

        Raises SourceError, UnsafeSourceError, RequestTooLargeError, StorageFullError: final, nothing is left on the
        disk. SourceUnavailableError, DownloadCancelledError: the part stays and a later run goes on. UnavailableError:
        the server's own disk failed.
        """
        try:
            self._get_all()
            return self._verified()
        except (InvalidRequestError, StorageFullError) as error:
            if not isinstance(error, DownloadCancelledError):
                self.part.forget()
            raise

    def _get_all(self) -> None:
        failures, furthest = 0, self.part.size()
        while not self._is_whole():
            self._check_cancelled()
            wait: float | None = None
            try:
                self._attempt()
                continue
            except _TryAgainError as error:
                why, wait = str(error), error.wait
            except (OSError, http.client.HTTPException) as error:
                why = str(error) or type(error).__name__
            self._check_cancelled()
            failures = 1 if self.part.size() >= furthest + MIN_PROGRESS else failures + 1
            furthest = max(furthest, self.part.size())
            if failures >= self._limits.tries or (wait or 0) > self._limits.longest_wait:
                raise SourceUnavailableError(
                    f"{self._file.name} could not be downloaded: {why}; ask for it again to go on where it ended",
                    retry_after=round(wait) if wait else None,
                )
            self._cancelled.wait(self._limits.wait(failures) if wait is None else wait)

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise DownloadCancelledError("the download was cancelled")

    def _is_whole(self) -> bool:
        about = self.part.about()
        return about is not None and about.url == self._file.url and about.total == self.part.size()

    # --- one attempt --------------------------------------------------------------------------------------------

    def _attempt(self) -> None:
        about = self._usable()
        offset = self.part.size() if about is not None else 0
        self._hash_up_to(offset)  # before the server is asked, so that it does not wait for us
        headers = {}
        if about is not None and offset:
            headers["Range"] = f"bytes={offset}-"
            if about.validator:
                headers["If-Range"] = about.validator
        answer = self._web.open(self._file.url, headers, self._wire)
        try:
            self._check_cancelled()
            self._check_status(answer, asking_from=offset)
            start, total = self._what_comes(answer, about, offset)
            self._check_size(total or 0)
            self.part.check_room((total or 0) - max(start, self.part.size()))
            validator = _validator(answer) or (about.validator if about is not None and start else None)
            self._receive(answer, start, total, validator)
        finally:
            answer.close()

    def _usable(self) -> About | None:
        """What the part is of, if it is worth going on with: the same URL, and a way to tell that it fits."""
        about = self.part.about()
        if about is None or about.url != self._file.url:
            return None
        if about.validator is None and self._file.sha256 is None:
            return None
        return about if about.total is None or self.part.size() <= about.total else None

    def _check_status(self, answer: Answer, asking_from: int) -> None:
        status, name = answer.status, self._file.name
        if status == 416 and asking_from:
            self.part.forget()
            raise _TryAgainError("the server has less of the file than it said")
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

    def _what_comes(self, answer: Answer, about: About | None, offset: int) -> tuple[int, int | None]:
        """Where in the file the answer begins, and how long the whole file is."""
        start, total = (offset, self._rest(answer, about, offset)) if answer.status == 206 else (0, _length(answer))
        if total is None and not answer.is_chunked:
            total = self._file.size
        if self._file.size is not None and total not in (None, self._file.size):
            raise SourceError(f"{self._file.name} should have {self._file.size} bytes, the server has {total}")
        if total is None and not answer.is_chunked:
            raise SourceError("the server does not say how long the file is, so nobody can tell when it is whole")
        if total == 0:
            raise SourceError(f"{self._file.name} is empty at its source")
        return start, total

    def _rest(self, answer: Answer, about: About | None, offset: int) -> int | None:
        """The whole file's length by the answer to a range, which has to be the one that was asked for."""
        found = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        total = int(found[3]) if found and found[3] != "*" else None
        same = about is not None and about.total in (None, total) and _validator(answer) in (None, about.validator)
        if found is None or int(found[1]) != offset or not offset or not same:
            self.part.forget()
            raise _TryAgainError("the server answered with another part of the file, or of another file")
        return total

    def _check_size(self, size: int) -> None:
        if size > self._limits.max_bytes:
            raise RequestTooLargeError(
                f"{self._file.name} is larger than {self._limits.max_bytes / 2**30:.1f} GiB, "
                "which JANFLASK_MAX_MODEL_GB sets as the limit"
            )

    def _receive(self, answer: Answer, start: int, total: int | None, validator: str | None) -> None:
        if not start:
            self._hash = StreamHash()
        out = self.part.open(start)
        try:
            self.part.describe(About(self._file.url, validator, total))
            have = self._stream(answer, out, start, total)
        finally:
            os.close(out)
        if total is None:  # chunked, and its end was marked
            if have == 0:
                raise SourceError(f"{self._file.name} is empty at its source")
            self.part.describe(About(self._file.url, validator, have))
        elif have != total:
            raise _TryAgainError(f"the connection ended after {have} of {total} bytes")

    def _stream(self, answer: Answer, out: int, have: int, total: int | None) -> int:
        """Writes what comes, while another thread hashes it. How much of the file there is then."""
        with self._hash.in_background() as hashing:
            while True:
                buffer = hashing.buffer()
                size = answer.read_into(buffer)
                self._check_cancelled()  # a cut connection may look like an end
                if not size:
                    return have
                self._check_magic(buffer, have, size)
                self._check_size(have + size)
                hashing.hash(buffer, size)
                self.part.write(out, buffer[:size])
                have += size
                self._report("downloading", have, total)

    def _check_magic(self, buffer: memoryview, have: int, size: int) -> None:
        if have < len(MAGIC) and bytes(buffer[: min(size, len(MAGIC) - have)]) != MAGIC[have : have + size]:
            raise SourceError(f"{self._file.name} is not a GGUF file: it does not begin with GGUF")

    def _report(self, stage: str, have: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._reported >= REPORT_EVERY:
            self._reported = now
            self._progress(stage, have, total)

    # --- what is on the disk ------------------------------------------------------------------------------------

    def _hash_up_to(self, end: int) -> None:
        """Hashes what an earlier attempt left, as far as that was not seen passing by."""
        if self._hash.size > end:
            self._hash = StreamHash()
        if self._hash.size == end:
            return
        buffer = memoryview(bytearray(BLOCK))
        with disk_errors(self._file.name), self.part.path.open("rb", buffering=0) as file:
            file.seek(self._hash.size)
            while self._hash.size < end and (size := file.readinto(buffer[: end - self._hash.size])):
                self._hash.update(buffer[:size])
                self._report("verifying", end, self._file.size)
                self._check_cancelled()

    def _verified(self) -> str:
        """The sha256, if it is the right one, of a file that is on the disk."""
        size = self.part.size()
        self._progress("verifying", size, size)
        self._hash_up_to(size)
        self.part.sync()
        found = self._hash.hexdigest()
        if self._file.sha256 is not None and found != self._file.sha256.lower():
            raise SourceError(
                f"{self._file.name} has the sha256 {found}, not {self._file.sha256.lower()}: it is damaged, "
                "or another file than was asked for"
            )
        return found


def _length(answer: Answer) -> int | None:
    text = answer.headers.get("content-length", "")
    return int(text) if _LENGTH.fullmatch(text) and not answer.is_chunked else None


def _validator(answer: Answer) -> str | None:
    """What If-Range takes: a strong ETag, else the time of the last change."""
    etag = answer.headers.get("etag", "")
    if etag.startswith('"'):
        return etag
    return answer.headers.get("last-modified")


def _retry_after(answer: Answer) -> float | None:
    """Seconds, from a number of them or from a date."""
    text = answer.headers.get("retry-after", "").strip()
    if _LENGTH.fullmatch(text):
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:  # "-0000": UTC, its sender's place unknown
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
