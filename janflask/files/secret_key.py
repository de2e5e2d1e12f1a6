"""A secret of the data folder: 32 random bytes in a file of its own, readable by its user alone.

It is made by whoever needs it first, and goes nowhere else: it is no part of an export, not served and not logged.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import secrets
from pathlib import Path

from janflask.files import by_path
from janflask.files.disk import opened_root
from janflask.files.private import NotPrivateError, read_private

log = logging.getLogger(__name__)

SIZE = 32  # bytes

# Errors that say something about the file, and will at the next try; the others about the machine at the moment.
_UNFIT = {errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO, errno.ENODEV}


def secret_key(path: Path, *, use: str, loss: str) -> bytes:
    """The secret in the file ``path``, made if there is none. Raises OSError when it cannot be read or made.

    A file that others could have read or written (a link, another user's, one with rights for anybody else), that may
    not be read, or that has another size than a secret gets a new one in its place: what was made under the old one is
    worthless then. The log says so by ``use`` (what the secret is for) and ``loss`` (what becomes of what it was used
    for).
    """
    with opened_root(path.parent, make=True) as folder:
        fcntl.flock(folder, fcntl.LOCK_EX)  # processes that start together agree on one
        try:
            return _read(path)
        except FileNotFoundError:
            return _make(path)
        except (OSError, NotPrivateError) as error:
            if isinstance(error, OSError) and error.errno not in _UNFIT:
                raise
            reason = error.strerror if isinstance(error, OSError) else error
            log.warning("%s cannot serve as %s (%s): a new one takes its place, and %s", path, use, reason, loss)
            return _make(path)


def _read(path: Path) -> bytes:
    key = read_private(path, SIZE)
    if len(key) != SIZE:
        raise NotPrivateError(f"it has not {SIZE} bytes")
    return key


def _make(path: Path) -> bytes:
    """Puts a new key in the place of whatever is there, in one step."""
    key = secrets.token_bytes(SIZE)
    by_path.replace(path, key, durable=True, mode=0o600)
    return key
