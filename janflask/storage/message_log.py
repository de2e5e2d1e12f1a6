"""``messages.jsonl``: one message a line, appended under the thread's lock, read without it.

Other programs' lines may hold more or less than one message; ``message_lines`` takes them apart.

A reader takes the file as long as it was when it was opened, and only whole lines, so it never sees half a write. What
an end of the server left behind an unfinished append is set aside by the next append, and told in the log. Every other
change writes the file anew and puts it in the old one's place.
"""

from __future__ import annotations

import logging
import os
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import msgspec

from janflask.decoding import json_decoder
from janflask.errors import StoreDamagedError
from janflask.files import ids
from janflask.files.disk import FILE_MODE, Disk, open_plain, size_of_plain, write_all
from janflask.storage.jan import MESSAGES_FILE, decode_object, message_from_json
from janflask.storage.message_lines import Line as Line
from janflask.storage.message_lines import finished, is_object, parts
from janflask.storage.records import Message

log = logging.getLogger(__name__)

BLOCK = 1 << 16  # bytes read at once from the end, where a few lines are wanted
LARGE_BLOCK = 1 << 18  # where all are
RACY = 50_000_000  # ns; two changes closer than the file system's clock is fine look like one
SET_ASIDE = f"{MESSAGES_FILE}.torn-"

_APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class _Id(msgspec.Struct):
    id: str


_decode_id = json_decoder(_Id).decode


class Log:
    """An open ``messages.jsonl`` as it was when it was opened. ``name`` is the thread's, for the log."""

    def __init__(self, file: int, name: str) -> None:
        self._file = file
        self._name = name
        about = os.fstat(file)
        self.size = about.st_size
        self.signature = signature(about)
        self.settled = is_settled(about)

    def line(self, start: int, end: int) -> bytes:
        """The bytes of one line."""
        return os.pread(self._file, end - start, start).rstrip(b"\n")

    def forward(self, start: int = 0) -> Iterator[Line]:
        """Every message's line from ``start`` on, which must be a line's beginning; what is no message is there, too.

        What may be the beginning of one that is being written is not.
        """
        for line in self._forward(start):
            if is_object(line.data):
                yield line
            else:
                yield from parts(line) if self._has_end(line) else finished(line)

    def backward(self) -> Iterator[Line]:
        """The same from the end; reads no more than it has to."""
        for line in self.lines_backward():
            if is_object(line.data):
                yield line
            else:
                yield from reversed(parts(line) if self._has_end(line) else finished(line))

    def _has_end(self, line: Line) -> bool:
        return line.start + len(line.data) < self.size

    def _forward(self, start: int) -> Iterator[Line]:
        position, rest = start, b""
        while position < self.size:
            block = os.pread(self._file, min(LARGE_BLOCK, self.size - position), position)
            if not block:
                return  # it was cut meanwhile
            position += len(block)
            begin = position - len(block) - len(rest)
            *lines, rest = (rest + block).split(b"\n") if rest else block.split(b"\n")
            for data in lines:
                if data:
                    yield Line(begin, data)
                begin += len(data) + 1
        if rest:
            yield Line(self.size - len(rest), rest)

    def lines_backward(self) -> Iterator[Line]:
        """The lines as they are in the file, from its end; the last one may be unfinished."""
        position, pieces = self.size, list[bytes]()
        while position > 0:
            size = min(BLOCK, position)
            position -= size
            block = os.pread(self._file, size, position)
            if len(block) < size:
                return  # it was cut meanwhile
            end = len(block)
            while (newline := block.rfind(b"\n", 0, end)) >= 0:
                data = b"".join([block[newline + 1 : end], *reversed(pieces)])
                if data:
                    yield Line(position + newline + 1, data)
                pieces.clear()
                end = newline
            pieces.append(block[:end])
        if data := b"".join(reversed(pieces)):
            yield Line(0, data)

    def message(self, line: Line) -> Message | None:
        """What a line says. None, and a word in the log, for one that says nothing."""
        try:
            return message_from_json(decode_object(line.data, "the line"), self._name, line_id(line))
        except StoreDamagedError as error:
            self._complain(line, error.message)
            return None

    def id(self, line: Line) -> str | None:
        """Only the message's id, which is quicker."""
        stored = stored_id(line)
        if stored:
            return stored
        message = self.message(line)
        return None if message is None else message.id

    def _complain(self, line: Line, reason: str) -> None:
        # Between reading it and now a failed append may have been taken back and another put there: no damage then.
        if os.pread(self._file, len(line.data), line.start) == line.data:
            log.warning("thread %s: line at byte %d of %s left out: %s", self._name, line.start, MESSAGES_FILE, reason)


def stored_id(line: Line) -> str:
    """The id that a line tells; empty where it has none."""
    try:
        return _decode_id(line.data).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def line_id(line: Line) -> str:
    """The id of a message whose line has none, until the file is written anew: then it is stored.

    Where another program moves the line, the message gets another id: no other message may answer to the old one.
    """
    return f"line-{line.start}-{zlib.crc32(line.data):08x}"


def lasting(log: Log) -> Iterator[tuple[int, bytes]]:
    """Every line for a new file, and where it starts in this one; a message without an id has the one it was shown by.

    Lines move in a file that is written anew, and an id must not go over to another message.
    """
    taken: set[str] = set()
    for line in log.forward():
        data = line.data
        if not stored_id(line) and (message := log.message(line)) is not None:
            taken = taken or {stored_id(other) for other in log.forward()}
            name = ids.free_name(message.id, taken)
            taken.add(name)
            data = msgspec.json.encode({**decode_object(data, "the line"), "id": name})
        yield line.start, data


Signature = tuple[int, int, int, int]


def signature(about: os.stat_result) -> Signature:
    """What differs when a file is another or was changed: inode, time of the change in ns, size in bytes, device."""
    return about.st_ino, about.st_ctime_ns, about.st_size, about.st_dev


def signature_at(path: str) -> Signature | None:
    """That of the file at ``path``, which may be a link; None where there is none."""
    try:
        return signature(os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_settled(about: os.stat_result) -> bool:
    """Whether the signature will tell the file's next change; it may not if the last one was just now."""
    return time.time_ns() - about.st_ctime_ns > RACY


@contextmanager
def opened(fd: int, name: str) -> Iterator[Log | None]:
    """The messages of the thread in the folder ``fd``; None where there is no file. Raises OSError."""
    try:
        file = open_plain(fd, MESSAGES_FILE)
    except FileNotFoundError:
        yield None
        return
    try:
        yield Log(file, name)
    finally:
        os.close(file)


# --- writing, under the thread's lock ---------------------------------------------------------------------------------


def append(disk: Disk, fd: int, data: bytes, name: str) -> None:
    """Adds whole lines: all of them or, when this raises, none. Raises OSError."""
    file = os.open(MESSAGES_FILE, _APPEND, FILE_MODE, dir_fd=fd)
    try:
        size = size_of_plain(file)
        torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
        if not torn:
            _append(disk, file, data, size)
            if not size:  # it may be new
                disk.sync(fd)
    finally:
        os.close(file)
    if torn:
        mend(disk, fd, name)
        append(disk, fd, data, name)


def _append(disk: Disk, file: int, data: bytes, size: int) -> None:
    try:
        write_all(file, data)
        disk.sync_data(file)
    except BaseException:
        with suppress(OSError):
            os.ftruncate(file, size)
        raise


def mend(disk: Disk, fd: int, name: str) -> None:
    """Lets the last line end as a line: ends a whole one, and sets what is torn aside, in a file of its own."""
    with opened(fd, name) as found:
        if found is None or not found.size or found.line(found.size - 1, found.size + 1) == b"":
            return
        last = next(found.backward(), None)
        start = 0 if last is None else last.start + len(last.data)
        torn = found.line(start, found.size).lstrip(b"\n")
        if torn:
            kept = f"{SET_ASIDE}{ids.now_ms()}"
            disk.create(fd, kept, torn)
            log.warning("thread %s: the unfinished last line of %s was set aside in %s", name, MESSAGES_FILE, kept)
        rewrite(disk, fd, (data for _, data in lasting(found)))


def rewrite(disk: Disk, fd: int, lines: Iterable[bytes]) -> None:
    """Puts a new file with these lines in the old one's place. Raises OSError."""
    with disk.replacing(fd, MESSAGES_FILE) as file, os.fdopen(file, "wb", LARGE_BLOCK, closefd=False) as out:
        for line in lines:
            out.write(line if line.endswith(b"\n") else line + b"\n")
