"""Pieces of bytes as files to read, files as pieces, and ids replaced wherever an object refers to a file."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

PIECE = 1 << 16  # bytes


class _Pieces(io.RawIOBase):
    """Reads what an iterator yields; the iterator is made at the first read."""

    def __init__(self, make: Callable[[], Iterable[bytes]]) -> None:
        self._make = make
        self._pieces: Iterator[bytes] | None = None
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if self._pieces is None:
            self._pieces = iter(self._make())
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def as_file(make: Callable[[], Iterable[bytes]]) -> BinaryIO:
    """The pieces that ``make()`` gives, as one file; nothing is opened before the first read."""
    return io.BufferedReader(_Pieces(make), PIECE)


def pieces_of(file: BinaryIO, size: int = PIECE) -> Iterator[bytes]:
    """What is left of ``file`` in pieces of exactly ``size`` bytes (the last may be shorter); closes it."""
    with file:
        while piece := file.read(size):
            # A raw file may give less than was asked for before its end.
            while len(piece) < size and (more := file.read(size - len(piece))):
                piece += more
            yield piece


def joined(pieces: Iterable[bytes], size: int = PIECE) -> Iterator[bytes]:
    """The same bytes in pieces of at least ``size`` (but the last): many small ones are slow to send."""
    held: list[bytes] = []
    length = 0
    for piece in pieces:
        held.append(piece)
        length += len(piece)
        if length >= size:
            yield b"".join(held)
            held, length = [], 0
    if held:
        yield b"".join(held)


def with_file_ids(value: Any, new: Mapping[str, str]) -> Any:
    """``value`` (JSON) with each ``file_id`` and each of ``file_ids`` replaced as ``new`` says."""
    if isinstance(value, Mapping):
        return {key: _replaced(key, item, new) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(with_file_ids(item, new) for item in value)
    return value


def _replaced(key: str, item: Any, new: Mapping[str, str]) -> Any:
    if key == "file_id" and isinstance(item, str):
        return new.get(item, item)
    if key == "file_ids" and isinstance(item, list | tuple):
        return type(item)(new.get(entry, entry) if isinstance(entry, str) else entry for entry in item)
    return with_file_ids(item, new)
