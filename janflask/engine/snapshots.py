"""KV states on disk, so that a conversation that was stopped, evicted or restarted is not computed again.

A file for each of them, in ``cache/kv/<model>/``::

    0       4         8          40            40+h    +4n      +s
    +-------+---------+----------+-------------+-------+--------+
    | "JFK3"| h (u32) | HMAC     | JSON header | tokens| state  |
    +-------+---------+----------+-------------+-------+--------+

The HMAC (SHA-256, under the key of ``state_key.py``) covers all else and the file's name: llama.cpp's native code is
handed only bytes that came out of it here. The header has the fingerprint of model, library and settings under which
the state was computed, and the lengths. Whatever does not fit makes a file useless, never wrong: it is removed, and the
tokens are computed.

A prompt finds the state that has most of its tokens, whoever left it there, in an index that is read from the files
when the engine starts. The index only proposes: all of a file is checked when it is used.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import stat
import struct
from array import array
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from janflask.engine.prefix_cache import Origin
from janflask.engine.state_index import StateIndex
from janflask.engine.state_key import state_key
from janflask.files import by_path
from janflask.files.disk import READ, TEMPORARY
from janflask.files.kv_folder import ONCE, SUFFIX, file_name, is_gone, is_nameless, nameless, remove_old

log = logging.getLogger(__name__)

MAGIC = b"JFK3"
HEAD = struct.Struct("<4sI32s")
MAX_HEADER = 4096  # bytes
NOBODY_CAME_BACK = 86400 * 10**9  # nanoseconds: a state that was used once goes as if it were so much older


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Tokens, the KV state that computing them left, and how many of them were a prompt (the others were generated)."""

    tokens: array[int]
    state: bytes
    n_prompt: int


@dataclass(frozen=True, slots=True)
class _Head:
    """What stands in front of a state."""

    proof: bytes
    header: bytes
    tokens: array[int]
    n_prompt: int
    n_state: int


class SnapshotError(ValueError):
    """A file that cannot be used; the message says why."""


class OtherSettingsError(SnapshotError):
    """It was computed under other settings than this engine's; another engine may use it."""


class Snapshots:
    """The snapshots of one model. One thread saves; the rest is for any thread.

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
        self.index = StateIndex()
        remove_old(root)
        self._read_index()

    def _read_index(self) -> None:
        """Removes what no engine will read: files of older formats, and what one that was killed left unfinished."""
        for left in self._folder.glob(f"*{TEMPORARY}"):  # a model has one engine at a time
            left.unlink(missing_ok=True)
        for path in self._folder.glob(f"*{SUFFIX}"):
            self._look_at(path)

    def _look_at(self, path: Path) -> None:
        """Puts what a file says of itself into the index."""
        try:
            with _opened(path) as file:
                self.index.put(path.name, self._head(file).tokens)
                return
        except OtherSettingsError:
            pass  # the next engine may have these
        except (OSError, SnapshotError):
            path.unlink(missing_ok=True)
        self.index.drop(path.name)

    # --- saving -------------------------------------------------------------------------------------------------

    def announce(self, tokens: array[int], origin: Origin) -> str:
        """The state of these tokens will be saved under the name that is returned; who looks for it finds it."""
        name = _name(tokens, origin)
        self.index.put(name, tokens)
        return name

    def is_outdated(self, tokens: array[int], origin: Origin) -> bool:
        """Whether the file of the conversation holds what is no longer said in it."""
        return self.index.is_at_odds(_name(tokens, origin), tokens)

    def save(self, name: str, tokens: array[int], n_prompt: int, state: memoryview) -> bool:
        """Keeps a state in place of an older one; false when its conversation was deleted or the budget has no room.

        Raises OSError when the disk does not take it. Nothing of the older one is lost then.
        """
        path = self._folder / name
        saved = False
        try:
            saved = self._write(path, tokens, n_prompt, state)
        finally:
            if saved:
                self.index.put(name, tokens)
            else:
                self._look_at(path)
        if saved:
            for other in self._surpassed(tokens, name):
                self._remove(self._folder / other)
        return saved

    def _write(self, path: Path, tokens: array[int], n_prompt: int, state: memoryview) -> bool:
        about = {"fingerprint": self._fingerprint, "tokens": len(tokens), "prompt": n_prompt, "state": state.nbytes}
        header = json.dumps(about).encode()
        parts = (header, memoryview(tokens).cast("B"), state)
        size = HEAD.size + sum(memoryview(part).nbytes for part in parts)
        remove_old(self._root)
        if is_gone(self._root, path.name) or not self._make_room(size, path, self._surpassed(tokens, path.name)):
            return False
        proof = self._proof(path.name, *parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        with by_path.replacing(path, durable=False, mode=0o600) as file:  # a conversation can be read out of it
            file.write(HEAD.pack(MAGIC, len(header), proof))
            for part in parts:
                file.write(part)
        if is_gone(self._root, path.name):  # deleted meanwhile
            path.unlink(missing_ok=True)
            return False
        return True

    def _surpassed(self, tokens: array[int], own: str) -> list[str]:
        return [name for name in self.index.surpassed(tokens) if name != own and is_nameless(name)]

    def _remove(self, path: Path) -> None:
        if path.parent == self._folder:
            self.index.drop(path.name)
        path.unlink(missing_ok=True)

    def _make_room(self, size: int, own: Path, useless: Collection[str]) -> bool:
        """Removes files until ``size`` bytes fit into the budget, ``own`` being replaced.

        First those that are ``useless`` beside it, then those used the longest ago.
        """
        if size > self._budget:
            return False
        files = []
        for path in self._root.glob(f"*/*{SUFFIX}"):
            with suppress(FileNotFoundError):  # another engine made room, too
                if path != own:
                    about = path.stat()
                    is_needed = path.parent != self._folder or path.name not in useless
                    used = about.st_mtime_ns - (NOBODY_CAME_BACK if path.name.startswith(ONCE) else 0)
                    files.append((is_needed, used, about.st_size, path))
        taken = sum(length for _, _, length, _ in files)
        for _, _, length, path in sorted(files):
            if taken + size <= self._budget:
                break
            self._remove(path)
            taken -= length
        return True

    # --- finding ------------------------------------------------------------------------------------------------

    def find(self, prompt: array[int], here: int) -> Snapshot | None:
        """The state that saves most of computing the prompt, of which ``here`` tokens are there already; None: none.

        A file that cannot be used is removed, and the next best one is taken.
        """
        while (name := self.index.best(prompt, here)) is not None:
            snapshot = self._used(self._folder / name)
            if snapshot is not None:
                return snapshot
        return None

    def _used(self, path: Path) -> Snapshot | None:
        """What a file holds. None: it is of no use, and gone."""
        snapshot = None
        try:
            with _opened(path) as file:
                snapshot = self._read(file, path.name)
            os.utime(path)
            if is_gone(self._root, path.name):
                snapshot = None
        except FileNotFoundError:  # deleted, or another engine made room
            snapshot = None
        except (OSError, SnapshotError) as error:
            log.warning("a KV state cannot be used, its tokens are computed again: %s", error)
        finally:
            if snapshot is None:
                self._remove(path)
        return snapshot

    def _read(self, file: BinaryIO, name: str) -> Snapshot:
        head = self._head(file)
        state = file.read(head.n_state)
        if not hmac.compare_digest(
            self._proof(name, head.header, memoryview(head.tokens).cast("B"), state), head.proof
        ):
            raise SnapshotError("it is damaged, or nothing that an engine of this data folder wrote")
        return Snapshot(head.tokens, state, head.n_prompt)

    def _head(self, file: BinaryIO) -> _Head:
        """Raises SnapshotError. Whether it is true only the HMAC says."""
        head = file.read(HEAD.size)
        if len(head) < HEAD.size:
            raise SnapshotError("it is cut short")
        magic, length, proof = HEAD.unpack(head)
        size = os.fstat(file.fileno()).st_size
        if magic != MAGIC or length > MAX_HEADER or size > self._budget:
            raise SnapshotError("it is no snapshot")
        header = file.read(length)
        n_tokens, n_prompt, n_state = self._lengths(header, size - HEAD.size - length)
        return _Head(proof, header, array("i", file.read(n_tokens * 4)), n_prompt, n_state)

    def _proof(self, name: str, header: bytes, tokens: memoryview, state: bytes | memoryview) -> bytes:
        """The HMAC of all that a file says, and of its name. (The header tells the lengths of what follows it.)"""
        proof = hmac.new(self._key, digestmod="sha256")
        for part in (MAGIC, name.encode(), header):
            proof.update(struct.pack("<Q", len(part)))
            proof.update(part)
        proof.update(tokens)
        proof.update(state)
        return proof.digest()

    def _lengths(self, header: bytes, size: int) -> tuple[int, int, int]:
        """How many tokens, tokens of a prompt, and bytes of state follow the header. Raises SnapshotError."""
        try:
            about = json.loads(header)
            fingerprint, lengths = about["fingerprint"], (about["tokens"], about["prompt"], about["state"])
        except (ValueError, TypeError, KeyError, RecursionError):
            raise SnapshotError("its header cannot be read") from None
        if fingerprint != self._fingerprint:
            raise OtherSettingsError("it is of another model, other settings or another version of llama.cpp")
        if not all(isinstance(length, int) and length >= 0 for length in lengths):
            raise SnapshotError("its header cannot be read")
        n_tokens, n_prompt, n_state = lengths
        if n_tokens * 4 + n_state != size:
            raise SnapshotError("it is cut short")
        return n_tokens, n_prompt, n_state


def _name(tokens: array[int], origin: Origin) -> str:
    if origin.conversation is not None:
        return file_name(origin.conversation)
    return nameless(tokens, went_on=origin.went_on)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A plain file, to be read. Raises OSError, SnapshotError for a link, a pipe and the like."""
    with os.fdopen(os.open(path, READ), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise SnapshotError("it is no plain file")
        yield stream
