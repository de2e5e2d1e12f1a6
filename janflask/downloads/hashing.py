"""sha256 of a stream while it streams, on a core of its own: hashlib leaves the interpreter free while it works."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

BLOCK = 512 * 1024  # bytes of a buffer
BUFFERS = 4


class StreamHash:
    """The hash of the first ``size`` bytes of a file."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.size = 0

    def update(self, data: memoryview) -> None:
        """Hashes at once, in the caller's thread."""
        self._digest.update(data)
        self.size += len(data)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()

    @contextmanager
    def in_background(self) -> Iterator[HashingThread]:
        """A thread to hash with; at the end of the block all that it was given is hashed."""
        thread = HashingThread(self)
        thread.start()
        try:
            yield thread
        finally:
            thread.finish()


class HashingThread(threading.Thread):
    """Lends out buffers and hashes what they are filled with, in order."""

    def __init__(self, hash: StreamHash) -> None:
        super().__init__(name="hash", daemon=True)
        self._hash = hash
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._filled: SimpleQueue[tuple[memoryview, memoryview] | None] = SimpleQueue()
        for _ in range(BUFFERS):
            self._free.put(memoryview(bytearray(BLOCK)))

    def buffer(self) -> memoryview:
        """A free buffer; waits while all are being hashed. Until the next call, reading the one before is safe."""
        return self._free.get()

    def hash(self, buffer: memoryview, size: int) -> None:
        """The first ``size`` bytes of a buffer are the next ones of the stream."""
        self._filled.put((buffer, buffer[:size]))

    def finish(self) -> None:
        self._filled.put(None)
        self.join()

    def run(self) -> None:
        while (filled := self._filled.get()) is not None:
            buffer, data = filled
            self._hash.update(data)
            self._free.put(buffer)
