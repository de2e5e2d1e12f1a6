"""Conversations' KV state on disk, so that one that was stopped, evicted or restarted is not computed again.

A file for each conversation, in ``cache/kv/<model>/``::

    0       4         8          40            40+h    +4n      +s
    +-------+---------+----------+-------------+-------+--------+
    | "JFK2"| h (u32) | HMAC     | JSON header | tokens| state  |
    +-------+---------+----------+-------------+-------+--------+

The HMAC (SHA-256, under the key of ``state_key.py``) covers all else and the conversation's name: llama.cpp's native
code is handed only bytes that came out of it here, and those of the conversation that asks. The header has the
fingerprint of model, library and settings under which the state was computed, and the lengths. Whatever does not fit
makes a file useless, never wrong: it is removed, and the tokens are computed.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import stat
import struct
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from janflask.engine.prefix_cache import common_prefix
from janflask.engine.state_key import state_key
from janflask.files import by_path
from janflask.files.disk import READ, TEMPORARY
from janflask.files.kv_folder import SUFFIX, file_name, is_gone, remove_old_marks

log = logging.getLogger(__name__)

MAGIC = b"JFK2"
HEAD = struct.Struct("<4sI32s")
MAX_HEADER = 4096  # bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A conversation's tokens and the KV state that computing them left."""

    tokens: array[int]
    state: bytes


class SnapshotError(ValueError):
    """A file that cannot be used; the message says why."""


class Snapshots:
    """The snapshots of one model. One thread saves; reading is for any thread.

    Args:
        root: the folder of all models' snapshots.
        model_id: names the model's own folder in it.
        fingerprint: of all that the state depends on.
        budget: bytes that all files below ``root`` may take; those used the longest ago go first.

    Raises OSError when the folder cannot be used.
    """

    def __init__(self, root: Path, model_id: str, fingerprint: str, budget: int) -> None:
        self._root = root
        self._folder = root / model_id
        self._fingerprint = fingerprint
        self._budget = budget
        root.mkdir(parents=True, exist_ok=True)
        self._key = state_key(root)
        remove_old_marks(root)
        self._clean()

    def _clean(self) -> None:
        """Removes what no engine will read: files of older formats, and what one that was killed left unfinished."""
        for left in self._folder.glob(f"*{TEMPORARY}"):  # a model has one engine at a time
            left.unlink(missing_ok=True)
        for path in self._folder.glob(f"*{SUFFIX}"):
            with suppress(OSError, SnapshotError), _opened(path) as file:
                if file.read(len(MAGIC)) == MAGIC:
                    continue
            path.unlink(missing_ok=True)

    def save(self, key: str, tokens: array[int], state: memoryview) -> bool:
        """Keeps a conversation's state in place of an older one; false when it was deleted or the budget has no room.

        Raises OSError when the disk does not take it. Nothing of the older one is lost then.
        """
        header = json.dumps({"fingerprint": self._fingerprint, "tokens": len(tokens), "state": state.nbytes}).encode()
        parts = (header, memoryview(tokens).cast("B"), state)
        size = HEAD.size + len(header) + len(tokens) * tokens.itemsize + state.nbytes
        path = self._path(key)
        if is_gone(self._root, key) or not self._make_room(size, path):
            return False
        proof = self._proof(key, *parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        with by_path.replacing(path, durable=False, mode=0o600) as file:  # a conversation can be read out of it
            file.write(HEAD.pack(MAGIC, len(header), proof))
            for part in parts:
                file.write(part)
        if is_gone(self._root, key):  # deleted meanwhile
            path.unlink(missing_ok=True)
            return False
        return True

    def find(self, key: str, prompt: array[int], at_least: int) -> Snapshot | None:
        """The conversation's state, if it holds ``at_least`` of the prompt's first tokens; None if there is none.

        A file that cannot be used is removed.
        """
        path = self._path(key)
        try:
            with _opened(path) as file:
                snapshot = self._read(file, key, prompt, at_least)
            if snapshot is not None:
                os.utime(path)
            return snapshot
        except FileNotFoundError:
            return None
        except (OSError, SnapshotError) as error:
            log.warning("a conversation's KV state cannot be used, it is computed again: %s", error)
            path.unlink(missing_ok=True)
            return None

    def forget(self, key: str) -> None:
        """The conversation is gone, or goes on elsewhere."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / file_name(key)

    def _read(self, file: BinaryIO, key: str, prompt: array[int], at_least: int) -> Snapshot | None:
        head = file.read(HEAD.size)
        if len(head) < HEAD.size:
            raise SnapshotError("it is cut short")
        magic, length, proof = HEAD.unpack(head)
        size = os.fstat(file.fileno()).st_size
        if magic != MAGIC or length > MAX_HEADER or size > self._budget:
            raise SnapshotError("it is no snapshot")
        header = file.read(length)
        n_tokens, n_state = self._lengths(header, size - HEAD.size - length)
        tokens = array("i", file.read(n_tokens * 4))
        if common_prefix(tokens, prompt) < at_least:
            return None
        state = file.read(n_state)
        if not hmac.compare_digest(self._proof(key, header, memoryview(tokens).cast("B"), state), proof):
            raise SnapshotError("it is damaged, or nothing that an engine of this data folder wrote")
        return Snapshot(tokens, state)

    def _proof(self, key: str, header: bytes, tokens: memoryview, state: bytes | memoryview) -> bytes:
        """The HMAC of all that a file says, and of whose it is. (The header tells the lengths of what follows it.)"""
        proof = hmac.new(self._key, digestmod="sha256")
        for part in (MAGIC, key.encode(), header):
            proof.update(struct.pack("<Q", len(part)))
            proof.update(part)
        proof.update(tokens)
        proof.update(state)
        return proof.digest()

    def _lengths(self, header: bytes, size: int) -> tuple[int, int]:
        """How many tokens, and bytes of state, follow the header. Raises SnapshotError."""
        try:
            about = json.loads(header)
            fingerprint, n_tokens, n_state = about["fingerprint"], about["tokens"], about["state"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise SnapshotError("its header cannot be read") from None
        if fingerprint != self._fingerprint:
            raise SnapshotError("it is of another model, other settings or another version of llama.cpp")
        if not (isinstance(n_tokens, int) and isinstance(n_state, int) and n_tokens >= 0 and n_state >= 0):
            raise SnapshotError("its header cannot be read")
        if n_tokens * 4 + n_state != size:
            raise SnapshotError("it is cut short")
        return n_tokens, n_state

    def _make_room(self, size: int, own: Path) -> bool:
        """Removes the files used the longest ago until ``size`` bytes fit into the budget, ``own`` being replaced."""
        if size > self._budget:
            return False
        files = []
        for path in self._root.glob(f"*/*{SUFFIX}"):
            with suppress(FileNotFoundError):  # another engine made room, too
                if path != own:
                    files.append((path.stat().st_mtime_ns, path.stat().st_size, path))
        taken = sum(length for _, length, _ in files)
        for _, length, path in sorted(files):
            if taken + size <= self._budget:
                break
            path.unlink(missing_ok=True)
            taken -= length
        return True


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A plain file, to be read. Raises OSError, SnapshotError for a link, a pipe and the like."""
    with os.fdopen(os.open(path, READ), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise SnapshotError("it is no plain file")
        yield stream
