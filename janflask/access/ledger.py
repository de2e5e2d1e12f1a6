"""What each key has used, and may still use: a small file a key, which all workers and the runner change in turns.

A file begins with two buckets and the day at hand; the days before follow. A bucket holds a minute's worth and fills up
evenly. What an answer takes is known when it has ended: it is taken then, and whoever owes tokens waits for them.

Requests that no model answers are too many to go to the file for each. So a process takes some of the bucket in
advance, a tenth of a second's worth (of a small limit that is one), and tells after a second at most how many there
were. One that is killed has not told of its last second.
"""

from __future__ import annotations

import atexit
import fcntl
import logging
import math
import os
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from janflask.access.keys import Key, Limits
from janflask.errors import RateLimitedError
from janflask.files.disk import FILE_MODE, opened_root

SUFFIX = ".usage"
MINUTE, DAY = 60.0, 86_400  # seconds
ADVANCE = 600  # the part of a minute's worth that is taken in advance
HOLD = 1.0  # seconds that a process keeps what it took, and what it has to tell
MAX_OPEN = 64  # files that a process keeps open: those of the keys that were used last
_MANY = 1 << 62
_MAGIC = b"jfu1"
_HEAD = struct.Struct("<4s4dI4Q")
_DAY = struct.Struct("<I4Q")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Day:
    """A day of a key, counted from the epoch in UTC. ``cached_tokens`` are of the prompts'."""

    number: int
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int

    @property
    def began(self) -> int:
        """In seconds since the epoch."""
        return self.number * DAY


@dataclass(frozen=True, slots=True)
class Bucket:
    """``left`` may be below 0; ``limit`` a minute."""

    limit: int
    left: float

    @property
    def full_in(self) -> float:
        """Seconds until nothing of it is used."""
        return max(0.0, self.limit - self.left) * MINUTE / self.limit

    def has_one_in(self) -> int:
        """Seconds until there is one again, at least 1."""
        return max(1, math.ceil((1.0 - self.left) * MINUTE / self.limit))


@dataclass(frozen=True, slots=True)
class Room:
    """What a key has left; None: as much as it likes."""

    requests: Bucket | None = None
    tokens: Bucket | None = None


NO_LIMIT = Room()


@dataclass(slots=True)
class _Sheet:
    """A file's beginning."""

    requests_left: float = 0.0
    requests_at: float = 0.0  # when that was so, in seconds since the epoch
    tokens_left: float = 0.0
    tokens_at: float = 0.0
    day: int = 0
    requests: int = 0
    prompt: int = 0
    cached: int = 0
    completion: int = 0


@dataclass(slots=True)
class _Advance:
    """What this process took of a key's bucket, and has not told yet."""

    left: int = 0
    used: int = 0  # and not in the file
    until: float = 0.0
    room: Room = NO_LIMIT

    @property
    def has_left(self) -> bool:
        """Whether some of the bucket was taken in vain."""
        return self.left > 0 and self.room.requests is not None

    def take(self) -> Room:
        """One request's."""
        self.left -= 1
        self.used += 1
        requests = self.room.requests
        if requests is None:
            return self.room
        self.room = Room(Bucket(requests.limit, requests.left - 1), self.room.tokens)
        return self.room


class Ledger:
    """The files are in ``folder``. Thread-safe, and safe among processes: one that is killed leaves nothing locked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._guard = threading.Lock()
        self._files: OrderedDict[str, int] = OrderedDict()
        self._advances: dict[str, _Advance] = {}
        self._is_telling = False
        atexit.register(self.flush)

    def admit(self, key: Key, *, generates: bool, now: float | None = None) -> tuple[Room, RateLimitedError | None]:
        """Counts a request of the key's, or says why it must wait, and what is left then.

        ``generates``: a model is to answer it, which takes tokens. Raises OSError.
        """
        now = time.time() if now is None else now
        with self._guard:
            advance = self._advances.get(key.id)
            if advance is None:
                advance = self._advances[key.id] = _Advance()
            if not generates and advance.left > 0 and advance.until - HOLD <= now < advance.until:
                self._tell_later()
                return advance.take(), None
            with self._changing(key.id, now) as sheet:
                problem = _taken(advance, sheet, key.limits, now, generates=generates)
            return advance.room, problem

    def flush(self) -> None:
        """Tells the files what they were not told yet, gives back what was taken in advance, and forgets who is silent.

        One that cannot be written is none of the others' trouble; the log names it.
        """
        now = time.time()
        with self._guard:
            self._is_telling = False
            for key_id, advance in list(self._advances.items()):
                is_over = now >= advance.until
                if advance.used or (is_over and advance.has_left):
                    untold = advance.used
                    try:
                        with self._changing(key_id, now) as sheet:
                            _given_back(advance, sheet)
                    except OSError as error:
                        advance.used = untold
                        log.warning("the usage of key %s could not be written: %s", key_id, error)
                        continue
                if is_over:
                    del self._advances[key_id]

    def _tell_later(self) -> None:
        if not self._is_telling:
            self._is_telling = True
            timer = threading.Timer(HOLD, self.flush)
            timer.name, timer.daemon = "usage", True
            timer.start()

    def spend(self, key_id: str, prompt: int, cached: int, completion: int, now: float | None = None) -> None:
        """An answer has ended: these tokens were the key's. Raises OSError."""
        with self._guard, self._changing(key_id, time.time() if now is None else now) as sheet:
            sheet.prompt += prompt
            sheet.cached += cached
            sheet.completion += completion
            sheet.tokens_left -= prompt + completion

    def days(self, key_id: str) -> list[Day]:
        """The days on which the key was used, the oldest first."""
        try:
            data = (self._folder / f"{key_id}{SUFFIX}").read_bytes()
        except FileNotFoundError:
            return []
        if len(data) < _HEAD.size:
            return []
        sheet = _sheet(data[: _HEAD.size])
        past = len(data) - (len(data) - _HEAD.size) % _DAY.size
        days = [Day(*values) for values in _DAY.iter_unpack(data[_HEAD.size : past])]
        return [*days, Day(sheet.day, sheet.requests, sheet.prompt, sheet.cached, sheet.completion)]

    def keys(self) -> list[str]:
        """The ids of all keys that were used, revoked ones among them."""
        return sorted(path.stem for path in self._folder.glob(f"*{SUFFIX}"))

    @contextmanager
    def _changing(self, key_id: str, now: float) -> Iterator[_Sheet]:
        """The file's beginning, to be changed by who has the guard; written unless something is raised."""
        file = self._opened(key_id)
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            sheet = _sheet(os.pread(file, _HEAD.size, 0))
            today = int(now // DAY)
            if sheet.day < today:
                _turn_page(file, sheet, today)
            yield sheet
            os.pwrite(file, _HEAD.pack(_MAGIC, *_values(sheet)), 0)
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)

    def _opened(self, key_id: str) -> int:
        file = self._files.get(key_id)
        if file is None:
            with opened_root(self._folder, make=True) as folder:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                file = self._files[key_id] = os.open(f"{key_id}{SUFFIX}", flags, FILE_MODE, dir_fd=folder)
            if len(self._files) > MAX_OPEN:
                os.close(self._files.popitem(last=False)[1])
        self._files.move_to_end(key_id)
        return file


def _sheet(data: bytes) -> _Sheet:
    """A file that is new, or that somebody else has written into, begins anew."""
    if len(data) != _HEAD.size or data[:4] != _MAGIC:
        if data:
            log.warning("a key's usage cannot be read, and is counted from now on")
        return _Sheet()
    return _Sheet(*_HEAD.unpack(data)[1:])


def _values(sheet: _Sheet) -> tuple[float | int, ...]:
    buckets = (sheet.requests_left, sheet.requests_at, sheet.tokens_left, sheet.tokens_at)
    return (*buckets, sheet.day, sheet.requests, sheet.prompt, sheet.cached, sheet.completion)


def _turn_page(file: int, sheet: _Sheet, today: int) -> None:
    """The day at hand goes behind the others."""
    if sheet.day:
        size = os.fstat(file).st_size
        place = size - (size - _HEAD.size) % _DAY.size
        os.pwrite(file, _DAY.pack(sheet.day, sheet.requests, sheet.prompt, sheet.cached, sheet.completion), place)
    sheet.day = today
    sheet.requests = sheet.prompt = sheet.cached = sheet.completion = 0


def _taken(advance: _Advance, sheet: _Sheet, limits: Limits, now: float, *, generates: bool) -> RateLimitedError | None:
    """Takes one request from the bucket, and some in advance; or says why not. ``advance`` knows what is left."""
    _given_back(advance, sheet)
    advance.room = room = _room(sheet, limits, now)
    if room.requests is not None and room.requests.left < 1:
        return _limited("requests", room.requests)
    if generates and room.tokens is not None and room.tokens.left < 1:
        return _limited("tokens", room.tokens)
    sheet.requests += 1
    advance.left, advance.until = _MANY, now + HOLD
    if room.requests is not None:
        advance.left = min(max(1, room.requests.limit // ADVANCE), int(room.requests.left)) - 1
        sheet.requests_left -= 1 + advance.left
        advance.room = Room(Bucket(room.requests.limit, room.requests.left - 1), room.tokens)
    return None


def _given_back(advance: _Advance, sheet: _Sheet) -> None:
    """The file knows what was used of it; what was not is in the bucket again."""
    sheet.requests += advance.used
    if advance.room.requests is not None:
        sheet.requests_left += advance.left
    advance.left = advance.used = 0


def _room(sheet: _Sheet, limits: Limits, now: float) -> Room:
    """What is left now; the buckets are brought up to date."""
    requests = tokens = None
    if limits.requests_per_minute is not None:
        requests = _filled(limits.requests_per_minute, sheet.requests_left, now - sheet.requests_at)
        sheet.requests_left, sheet.requests_at = requests.left, now
    if limits.tokens_per_minute is not None:
        tokens = _filled(limits.tokens_per_minute, sheet.tokens_left, now - sheet.tokens_at)
        sheet.tokens_left, sheet.tokens_at = tokens.left, now
    return Room(requests, tokens)


def _filled(limit: int, left: float, seconds: float) -> Bucket:
    """A clock that was set back fills nothing."""
    return Bucket(limit, min(float(limit), left + max(0.0, seconds) * limit / MINUTE))


def _limited(what: str, bucket: Bucket) -> RateLimitedError:
    wait = bucket.has_one_in()
    return RateLimitedError(
        f"this API key may use {bucket.limit} {what} a minute, and they are used: try again in {wait} s",
        type=what,
        retry_after=wait,
    )
