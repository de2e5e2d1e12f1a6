"""KV states on disk, so that a conversation that was stopped, evicted or restarted is not computed again.

A file for each of them, in ``cache/kv/<model>/``::

    0       4         8          40            40+h    +4n      +s
    +-------+---------+----------+-------------+-------+--------+-------------+
    | "JFK4"| h (u32) | HMAC     | JSON header | tokens| state  | checkpoints |
    +-------+---------+----------+-------------+-------+--------+-------------+

The HMAC (SHA-256, under the key of ``state_key.py``) covers all else and the file's name: llama.cpp's native code is
handed only bytes that came out of it here. The header has the fingerprint of model, library and settings under which
the state was computed, whose it is, and the lengths. Checkpoints, the newest ones, are there where the model's memory
cannot be cut. Whatever does not fit makes a file useless, never wrong: it is removed, and the tokens are computed.

A prompt finds the state of its own owner that has most of its tokens in an index that is read from the files
when the engine starts. The index only proposes: all of a file is checked when it is used.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import stat
import struct
import time
from array import array
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, BinaryIO

from janflask.engine.checkpoints import reach
from janflask.engine.prefix_cache import common_prefix
from janflask.engine.slot import Checkpoint, Origin
from janflask.engine.state_index import StateIndex
from janflask.engine.state_key import state_key
from janflask.files import by_path
from janflask.files.disk import READ, TEMPORARY
from janflask.files.kv_folder import ONCE, SUFFIX, file_name, is_gone, is_nameless, nameless, remove_old

log = logging.getLogger(__name__)

MAGIC = b"JFK4"
HEAD = struct.Struct("<4sI32s")
MAX_HEADER = 4096  # bytes
NOBODY_CAME_BACK = 86400 * 10**9  # nanoseconds: a state that was used once goes as if it were so much older
TIDYING_PAUSE = 3600.0  # seconds between two looks for what is too old
LEAST_POINTS = 2  # checkpoints that are written; more only as long as all are smaller than the state


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Tokens, the KV state that computing them left, and how many of them were a prompt (the others were generated)."""

    tokens: array[int]
    state: bytes | memoryview
    n_prompt: int
    checkpoints: tuple[Checkpoint, ...] = ()  # ascending
    can_trim: bool = True  # it can be cut to any length, else to that of a checkpoint only
    conversation: str | None = None  # whose it is, where that is known
    file: str | None = None  # the name of the one that it was read from
    owner: str | None = None  # whose prompts may go on from it

    @property
    def lengths(self) -> tuple[int, ...] | None:
        """See ``reach``."""
        return None if self.can_trim else tuple(point.length for point in self.checkpoints)

    @property
    def size(self) -> int:
        """Bytes of all states."""
        return len(self.state) + sum(point.nbytes for point in self.checkpoints)

    def usable(self, prompt: array[int]) -> int:
        """How many tokens of a prompt it can stand for; the last one is always computed."""
        return reach(self.lengths, len(self.tokens), min(common_prefix(self.tokens, prompt), len(prompt) - 1))

    def as_file(self) -> Snapshot:
        """With the checkpoints that a file of it holds."""
        kept: list[Checkpoint] = []
        for point in reversed(self.checkpoints):
            if len(kept) >= LEAST_POINTS and sum(p.nbytes for p in (point, *kept)) > len(self.state):
                break
            kept.insert(0, point)
        return replace(self, checkpoints=tuple(kept))


@dataclass(frozen=True, slots=True)
class _Head:
    """What stands in front of a state."""

    proof: bytes
    header: bytes
    tokens: array[int]
    n_prompt: int
    n_state: int
    points: tuple[tuple[int, int], ...]  # of each checkpoint: tokens, bytes
    owner: str | None

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(length for length, _ in self.points)


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
        can_trim: a state can be cut to any length; else only to that of a checkpoint of it.

    Raises OSError when the folder cannot be used.
    """

    def __init__(self, root: Path, model_id: str, fingerprint: str, budget: int, *, can_trim: bool = True) -> None:
        self._root = root
        self._folder = root / model_id
        self._fingerprint = fingerprint
        self._budget = budget
        self._can_trim = can_trim
        root.mkdir(parents=True, exist_ok=True)
        self._key = state_key(root)
        self.index = StateIndex()
        self._next_tidying = 0.0
        self._tidy()
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
                head = self._head(file)
                self.index.put(path.name, head.tokens, None if self._can_trim else head.lengths, head.owner)
                return
        except OtherSettingsError:
            pass  # the next engine may have these
        except (OSError, SnapshotError):
            path.unlink(missing_ok=True)
        self.index.drop(path.name)

    def turn_to(self, fingerprint: str) -> None:
        """From now on states are those of other settings. The saving thread's."""
        self._fingerprint = fingerprint
        self._read_index()

    # --- saving -------------------------------------------------------------------------------------------------

    def announce(self, snapshot: Snapshot, origin: Origin) -> str:
        """The state will be saved under the name that is returned; who looks for it finds it."""
        name = _name(snapshot.tokens, origin, snapshot.owner)
        self._put(name, snapshot)
        return name

    def _put(self, name: str, snapshot: Snapshot) -> None:
        self.index.put(name, snapshot.tokens, snapshot.lengths, snapshot.owner)

    def is_gone(self, conversation: str) -> bool:
        """Whether it was deleted."""
        return is_gone(self._root, file_name(conversation))

    def is_outdated(self, tokens: array[int], origin: Origin, owner: str | None = None) -> bool:
        """Whether the file of the conversation holds what is no longer said in it."""
        return self.index.is_at_odds(_name(tokens, origin, owner), tokens)

    def save(self, name: str, snapshot: Snapshot) -> bool:
        """Keeps a state in place of an older one; false when its conversation was deleted or the budget has no room.

        Raises OSError when the disk does not take it. Nothing of the older one is lost then.
        """
        path = self._folder / name
        saved = False
        try:
            saved = self._write(path, snapshot)
        finally:
            if saved:
                self._put(name, snapshot)
            else:
                self._look_at(path)
        if saved:
            for other in self._surpassed(snapshot, name):
                self._remove(self._folder / other)
        return saved

    def _write(self, path: Path, snapshot: Snapshot) -> bool:
        about = {
            "fingerprint": self._fingerprint,
            "owner": snapshot.owner,
            "tokens": len(snapshot.tokens),
            "prompt": snapshot.n_prompt,
            "state": len(snapshot.state),
            "checkpoints": [(point.length, point.nbytes) for point in snapshot.checkpoints],
        }
        header, tokens = json.dumps(about).encode(), memoryview(snapshot.tokens).cast("B")
        states = (snapshot.state, *(point.state for point in snapshot.checkpoints))
        size = HEAD.size + len(header) + len(tokens) + snapshot.size
        self._tidy()
        useless = self._surpassed(snapshot, path.name)
        if is_gone(self._root, path.name) or not self._make_room(size, path, useless):
            return False
        proof = self._proof(path.name, header, tokens, *states)
        path.parent.mkdir(parents=True, exist_ok=True)
        with by_path.replacing(path, durable=False, mode=0o600) as file:  # a conversation can be read out of it
            file.write(HEAD.pack(MAGIC, len(header), proof))
            for part in (header, tokens, *states):
                file.write(part)
        if is_gone(self._root, path.name):  # deleted meanwhile
            path.unlink(missing_ok=True)
            return False
        return True

    def _tidy(self) -> None:
        """Each file is looked at for that, and a busy server leaves a mark for each conversation that was deleted."""
        now = time.monotonic()
        if now >= self._next_tidying:
            self._next_tidying = now + TIDYING_PAUSE
            remove_old(self._root)

    def _surpassed(self, snapshot: Snapshot, own: str) -> list[str]:
        names = self.index.surpassed(snapshot.tokens, snapshot.owner)
        return [name for name in names if name != own and is_nameless(name)]

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

    def find(self, prompt: array[int], here: int, owner: str | None = None) -> Snapshot | None:
        """The owner's state that saves most of computing the prompt, of which ``here`` tokens are there; None: none.

        A file that cannot be used is removed, and the next best one is taken.
        """
        while (name := self.index.best(prompt, here, owner)) is not None:
            snapshot = self._used(self._folder / name)
            if snapshot is not None and snapshot.owner == owner:
                return snapshot
            if snapshot is not None:
                self._put(name, snapshot)  # the index was wrong about whose it is
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
        state, *points = [file.read(size) for size in (head.n_state, *(size for _, size in head.points))]
        proof = self._proof(name, head.header, memoryview(head.tokens).cast("B"), state, *points)
        if not hmac.compare_digest(proof, head.proof):
            raise SnapshotError("it is damaged, or nothing that an engine of this data folder wrote")
        checkpoints = tuple(map(Checkpoint, head.lengths, points))
        return Snapshot(head.tokens, state, head.n_prompt, checkpoints, self._can_trim, file=name, owner=head.owner)

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
        about = self._about(header)
        n_tokens, n_prompt, n_state, points = self._lengths(about, size - HEAD.size - length)
        tokens = array("i", file.read(n_tokens * 4))
        return _Head(proof, header, tokens, n_prompt, n_state, points, about["owner"])

    def _proof(self, name: str, header: bytes, tokens: memoryview, *states: bytes | memoryview) -> bytes:
        """The HMAC of all that a file says, and of its name. (The header tells the lengths of what follows it.)"""
        proof = hmac.new(self._key, digestmod="sha256")
        for part in (MAGIC, name.encode(), header):
            proof.update(struct.pack("<Q", len(part)))
            proof.update(part)
        for rest in (tokens, *states):
            proof.update(rest)
        return proof.digest()

    def _about(self, header: bytes) -> dict[str, Any]:
        """What a header says, and whose it is (``owner``). Raises SnapshotError."""
        try:
            about = {"owner": None, **json.loads(header)}  # before there were keys nobody was named
            fingerprint, owner = about["fingerprint"], about["owner"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise SnapshotError("its header cannot be read") from None
        if fingerprint != self._fingerprint:
            raise OtherSettingsError("it is of another model, other settings or another version of llama.cpp")
        if not isinstance(owner, str | None):
            raise SnapshotError("its header cannot be read")
        return about

    def _lengths(self, about: dict[str, Any], size: int) -> tuple[int, int, int, tuple[tuple[int, int], ...]]:
        """How many tokens, tokens of a prompt, bytes of state, and which checkpoints follow. Raises SnapshotError."""
        try:
            lengths = (about["tokens"], about["prompt"], about["state"])
            points = tuple((length, n_bytes) for length, n_bytes in about["checkpoints"])
        except (ValueError, TypeError, KeyError):
            raise SnapshotError("its header cannot be read") from None
        if not all(isinstance(length, int) and length >= 0 for length in (*lengths, *chain(*points))):
            raise SnapshotError("its header cannot be read")
        n_tokens, n_prompt, n_state = lengths
        if n_tokens * 4 + n_state + sum(n_bytes for _, n_bytes in points) != size:
            raise SnapshotError("it is cut short")
        ascending = [0, *(length for length, _ in points), n_tokens + 1]
        if any(before >= after for before, after in pairwise(ascending)):
            raise SnapshotError("its header cannot be read")
        return n_tokens, n_prompt, n_state, points


def _name(tokens: array[int], origin: Origin, owner: str | None) -> str:
    if origin.conversation is not None:
        return file_name(origin.conversation)
    return nameless(tokens, owner, went_on=origin.went_on)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A plain file, to be read. Raises OSError, SnapshotError for a link, a pipe and the like."""
    with os.fdopen(os.open(path, READ), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise SnapshotError("it is no plain file")
        yield stream
