"""Where KV states lie on disk: ``cache/kv/<model>/<name>.kv``, the name made of a conversation's, or of the tokens.

Engines write and read them (``engine/snapshots.py``). Whoever deletes a conversation removes what there is of it, and
leaves a mark in ``cache/kv-gone``: an engine that has the conversation in its memory still keeps nothing of it.
"""

from __future__ import annotations

import hashlib
import time
from array import array
from contextlib import suppress
from pathlib import Path

FOLDER = "kv"  # in the cache folder
MARKS = "kv-gone"  # beside it: whoever looks through the models' folders does not meet every conversation of a month
SUFFIX = ".kv"
MARK = ".gone"
CHAT = "chat-"  # begins the name of a state that belongs to no conversation
ONCE = "once-"  # ... and that nobody has come back to so far
MARK_AGE = 30 * 86400  # seconds after which no engine has the conversation in its memory any more
NAMELESS_AGE = 7 * 86400  # seconds that a state of no conversation is kept unused


def file_name(conversation: str) -> str:
    """Conversations are named by clients: a name never is a path."""
    return hashlib.sha256(conversation.encode()).hexdigest()[:32] + SUFFIX


def nameless(tokens: array[int], owner: str | None, *, went_on: bool) -> str:
    """The file's name of a state that belongs to no conversation; it tells whether somebody has come back to it.

    What two owners asked for alike lies in two files: one of them must not take the other's place.
    """
    digest = hashlib.sha256(tokens)
    if owner is not None:
        digest.update(b"owner " + owner.encode())
    return (CHAT if went_on else ONCE) + digest.hexdigest()[:32] + SUFFIX


def is_nameless(name: str) -> bool:
    """Whether the file belongs to no conversation."""
    return name.startswith((CHAT, ONCE))


def is_gone(root: Path, name: str) -> bool:
    """Whether the conversation whose states have this file name was deleted."""
    return _mark(root, name).exists()


def forget(cache_dir: Path, conversation: str) -> None:
    """Removes the conversation's states, of all models, for good. Raises OSError."""
    root = cache_dir / FOLDER
    if not root.is_dir():  # the first engine that keeps states makes it
        return
    name = file_name(conversation)
    mark = _mark(root, name)
    mark.parent.mkdir(mode=0o700, exist_ok=True)
    mark.touch(0o600)  # before: whoever writes a state looks for it behind that
    for path in root.glob(f"*/{name}"):
        path.unlink(missing_ok=True)


def _mark(root: Path, name: str) -> Path:
    return (root.with_name(MARKS) / name).with_suffix(MARK)


def remove_old(root: Path) -> None:
    """Removes marks that no engine needs, and states of no conversation that nobody has used for long. Raises OSError.

    A conversation's state goes with the conversation; what belongs to none would stay as long as there is room.
    """
    now = time.time()
    nameless_states = (path for path in root.glob(f"*/*{SUFFIX}") if is_nameless(path.name))
    for age, paths in ((MARK_AGE, root.with_name(MARKS).glob(f"*{MARK}")), (NAMELESS_AGE, nameless_states)):
        for path in paths:
            with suppress(FileNotFoundError):  # an engine removes, too
                if path.lstat().st_mtime < now - age:
                    path.unlink()
