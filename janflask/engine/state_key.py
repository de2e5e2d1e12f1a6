"""The key by which an engine knows a KV state as one that this data folder's engines wrote.

It is the secret in ``cache/kv/key``, made by the first engine that keeps states. A data folder that is copied keeps its
states if the key is copied with them; without it they are computed again.
"""

from __future__ import annotations

from pathlib import Path

from janflask.files.secret_key import secret_key

NAME = "key"


def state_key(root: Path) -> bytes:
    """The key of the states below ``root``, made if there is none; see ``secret_key``. Raises OSError."""
    return secret_key(
        root / NAME, use="the key of conversations' KV states", loss="states kept so far are computed again"
    )
