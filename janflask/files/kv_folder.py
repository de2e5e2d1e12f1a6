"""Where conversations' KV states lie on disk: ``cache/kv/<model>/<name of the conversation>.kv``.

Engines write and read them (``engine/snapshots.py``). Whoever deletes a conversation removes what there is of it, and
leaves a mark beside the models' folders: an engine that has the conversation in its memory still keeps nothing of it.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

FOLDER = "kv"  # in the cache folder
SUFFIX = ".kv"
MARK = ".gone"
MARK_AGE = 30 * 86400  # seconds after which no engine has the conversation in its memory any more


def file_name(conversation: str) -> str:
    """Conversations are named by clients: a name never is a path."""
    return hashlib.sha256(conversation.encode()).hexdigest()[:32] + SUFFIX


def is_gone(root: Path, conversation: str) -> bool:
    """Whether the conversation was deleted."""
    return _mark(root, conversation).exists()


def forget(cache_dir: Path, conversation: str) -> None:
    """Removes the conversation's states, of all models, for good. Raises OSError."""
    root = cache_dir / FOLDER
    if not root.is_dir():  # the first engine that keeps states makes it
        return
    _mark(root, conversation).touch(0o600)  # before: whoever writes a state looks for it behind that
    for path in root.glob(f"*/{file_name(conversation)}"):
        path.unlink(missing_ok=True)


def remove_old_marks(root: Path) -> None:
    """Raises OSError."""
    for mark in root.glob(f"*{MARK}"):
        if mark.stat().st_mtime < time.time() - MARK_AGE:
            mark.unlink(missing_ok=True)


def _mark(root: Path, conversation: str) -> Path:
    return (root / file_name(conversation)).with_suffix(MARK)
