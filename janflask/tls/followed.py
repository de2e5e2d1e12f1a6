"""The pair that a running server shows, read again when its files change."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from janflask.tls.pair import Facts, Pair, day, read_pair

PAUSE = 1.0  # seconds between two looks at the files, and until they are taken for finished

_Stamp = tuple[tuple[int, int, int] | None, ...]


class Certificate:
    """One pair and the files that it comes from. Used by one thread; a fork takes it along.

    Args:
        certificate, key, minimum, adjust: as of ``read_pair``.
        log: gunicorn's.
    """

    def __init__(
        self,
        certificate: Path,
        key: Path | None,
        log: Any,
        minimum: str = "1.2",
        adjust: Callable[[ssl.SSLContext], None] | None = None,
    ) -> None:
        """Raises BadPairError."""
        self._certificate = certificate
        self._key = key
        self._minimum = minimum
        self._adjust = adjust
        self._log = log
        self._owner = os.getpid()
        self._looked = time.monotonic()
        self._stamp = self._look()
        self._valid_from: datetime | None = None  # of what is in the files, if that is still to come
        self._pair = self._read()
        if (problem := self._pair.facts.problem()) is not None:
            log.warning("The certificate in %s %s: clients will refuse it", certificate, problem)

    @property
    def facts(self) -> Facts:
        return self._pair.facts

    def context(self) -> ssl.SSLContext:
        """For a new connection; by the files as they are now, or were when they were right."""
        if time.monotonic() - self._looked >= PAUSE:
            self.follow()
        return self._pair.context

    def follow(self, *, at_once: bool = False) -> None:
        """Takes a changed pair, or keeps the old one and says so.

        A certificate and its key are two files. While somebody writes them they do not belong together, so they are
        left alone until they have stayed as they are for a moment, unless ``at_once``. One that is not valid yet is
        taken when it is.
        """
        self._looked = time.monotonic()
        stamp = self._look()
        is_due = self._valid_from is not None and datetime.now(UTC) >= self._valid_from
        if stamp == self._stamp and not is_due:
            return
        if not (at_once or _is_at_rest(stamp)):
            return
        try:
            pair = self._read()
        except Exception as error:  # whatever is wrong with it, connections go on
            self._keep(stamp, error)
            return
        problem = pair.facts.problem()
        if problem is not None and self._pair.facts.problem() is None:
            self._keep(stamp, f"the one in {self._certificate} {problem}", pair.facts.not_before)
        elif stamp == self._look():
            self._stamp, self._pair, self._valid_from = stamp, pair, None
            tell = self._log.info if os.getpid() == self._owner else self._log.debug  # the workers need not repeat it
            tell("New certificate from %s, good until %s", self._certificate, day(pair.facts.not_after))

    def _keep(self, stamp: _Stamp, reason: object, valid_from: datetime | None = None) -> None:
        """Tells it once: the next change is looked at."""
        if stamp != self._look():
            return  # it was read while it changed
        self._stamp = stamp
        self._valid_from = valid_from if valid_from and valid_from > datetime.now(UTC) else None
        self._log.warning("The old certificate stays, until %s: %s", day(self.facts.not_after), reason)

    def _read(self) -> Pair:
        return read_pair(self._certificate, self._key, self._minimum, self._adjust)

    def _look(self) -> _Stamp:
        return tuple(_stamp(path) for path in (self._certificate, self._key) if path is not None)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes with the file, or with the file that a link leads to; None where there is none."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ctime_ns, about.st_ino, about.st_size


def _is_at_rest(stamp: _Stamp) -> bool:
    """Nothing of it has changed in the last moment; a clock that was put back does not matter."""
    now = time.time()
    return not any(0 <= now - each[0] / 1e9 < PAUSE for each in stamp if each is not None)
