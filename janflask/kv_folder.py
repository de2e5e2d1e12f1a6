"""Where conversations' KV states lie on disk: ``cache/kv/<model>/<name of the conversation>.kv``.

Engines write and read them (``engine/snapshots.py``); whoever deletes a conversation removes what there is of it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = "kv"  # in the cache folder
SUFFIX = ".kv"


def file_name(conversation: str) -> str:
    """Conversations are named by clients: a name never is a path."""
    return hashlib.sha256(conversation.encode()).hexdigest()[:32] + SUFFIX


def forget(cache_dir: Path, conversation: str) -> None:
    """Removes the conversation's states, of all models. Raises OSError."""
    for path in (cache_dir / FOLDER).glob(f"*/{file_name(conversation)}"):
        path.unlink(missing_ok=True)
