"""Where each message of a thread lies in its file, so that a page in the middle needs no walk through all of it.

Made by one pass, then grown by what was appended. Nothing else than a rewrite changes what is there already, and that
is another file.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left
from contextlib import suppress

from janflask.files import ids
from janflask.storage.base import Page
from janflask.storage.message_lines import is_object, parts
from janflask.storage.message_log import Line, Log, Signature
from janflask.storage.paging import time_of_gone


class MessageIndex:
    """The ids of a log's messages in order, and where their lines start. Thread-safe; it only ever grows.

    Another thread, with a later log, may let it grow at any time: what is asked for takes the log that it is asked of.
    """

    def __init__(self, log: Log) -> None:
        self._growing = threading.Lock()
        self.ids: list[str] = []
        self._starts = array("q")
        self._end = 0  # where the next line starts
        self._last: Line | None = None
        self.signature: Signature = (0, 0, 0, 0)
        self._grow(log)

    def __len__(self) -> int:
        return len(self.ids)

    def grown(self, log: Log) -> MessageIndex | None:
        """This index if it holds for ``log``, brought up to its end; None if the file is another or was edited."""
        with self._growing:
            inode, _, size, device = self.signature
            if log.signature == self.signature:
                return self
            if (log.signature[0], log.signature[3]) != (inode, device) or log.size <= size or self._end != size:
                return None
            # Ours are only ever appended to. An editor may have written to the same file: the last line has moved then.
            if self._last is not None and log.line(self._last.start, self._end) != self._last.data:
                return None
            self._grow(log)
            return self

    def line(self, log: Log, row: int) -> Line:
        """The line of the message at ``row``."""
        start = self._starts[row]
        end = self._starts[row + 1] if row + 1 < len(self._starts) else log.size
        line = Line(start, log.line(start, end).split(b"\n", 1)[0])
        return line if is_object(line.data) else parts(line)[0]

    def row(self, log: Log, message_id: str) -> int | None:
        """Where a message stands in ``log``, counted from 0."""
        rows = self._rows_of(log)
        guess = bisect_left(self.ids, message_id, 0, rows)  # ids of ours ascend; others may stand anywhere
        if guess < rows and self.ids[guess] == message_id:
            return guess
        try:
            return self.ids.index(message_id, 0, rows)
        except ValueError:
            return None

    def rows(self, log: Log, page: Page) -> range:
        """``log``'s rows between the page's cursors. Raises InvalidRequestError for a cursor that has no place."""
        low, high = ("after", page.after), ("before", page.before)
        if page.order == "desc":
            low, high = high, low
        end = self._rows_of(log)
        start = 0 if low[1] is None else self._place(low[1], low[0])[1]
        stop = end if high[1] is None else min(self._place(high[1], high[0])[0], end)
        return range(start, stop)

    def _rows_of(self, log: Log) -> int:
        return bisect_left(self._starts, log.size)

    def _place(self, cursor: str, param: str) -> tuple[int, int]:
        with suppress(ValueError):
            row = self.ids.index(cursor)
            # Files of other programs may have an id again: behind it is behind all of these, or a walk would not end.
            newest_first = self.ids[::-1]
            return row, len(newest_first) - newest_first.index(cursor)
        # One of ours that was deleted: it stood before the first that was made after it.
        gone = (time_of_gone(cursor, param), cursor)
        later = (row for row, name in enumerate(self.ids) if ((ids.time_of(name) or -1), name) > gone)
        row = next(later, len(self))
        return row, row

    def _grow(self, log: Log) -> None:
        for line in log.forward(self._end):
            name = log.id(line)
            if name is not None:
                self.ids.append(name)
                self._starts.append(line.start)
                self._last = line
            self._end = line.start + len(line.data) + 1
        self.signature = log.signature
