"""The key of an upstream, read when it is sent: it is in no object that could be shown, logged or stored."""

from __future__ import annotations

import os
import re
import ssl
import stat
from collections.abc import Iterator, Mapping

from janflask.errors import ConflictError
from janflask.models.upstream import KEY_EXTENSION, Upstream

MAX_KEY = 4096  # characters
MAX_READ = 1 << 16  # characters or bytes of a foreign text that are looked at

_KEY = re.compile("[!-~]+")  # what may stand in a header, without spaces


def upstream_key(upstream: Upstream, env: Mapping[str, str] | None = None) -> str | None:
    """The key to be sent as ``Authorization: Bearer``; None where none is named. ``env``: the process's own by default.

    Raises ConflictError, which names the file or the variable and nothing of what is in it.
    """
    if upstream.api_key_env is not None:
        where = f"the environment variable {upstream.api_key_env}"
        key = (os.environ if env is None else env).get(upstream.api_key_env, "")
        if not key:
            raise _unusable(f"{where}, which has the upstream's key, is not set for this server")
    elif upstream.api_key_file is not None:
        where = f"the file {upstream.api_key_file}"
        key = _read(upstream.api_key_file, where)
    else:
        return None
    if len(key) > MAX_KEY or not _KEY.fullmatch(key):
        raise _unusable(
            f"{where} must hold the upstream's key alone: one line of 1 to {MAX_KEY} visible ASCII characters"
        )
    return key


def hidden(text: str | bytes, key: str | None) -> str:
    """A foreign text without the key. To be cut afterwards only: of a key that was cut before, a part would remain."""
    told = text[:MAX_READ]
    if isinstance(told, bytes):
        told = told.decode("utf-8", "replace")
    if not key:
        return told
    told = told.replace(key, "***")
    return told if len(text) < MAX_READ else told[: max(0, len(told) - len(key) + 1)]  # it may end in a part of the key


def shown(text: str | bytes, key: str | None, most: int) -> str:
    """A foreign text for our messages: without the key, in one line, of at most ``most`` characters."""
    told = hidden(text, key)[: 4 * most]
    told = " ".join("".join(character if character.isprintable() else " " for character in told).split())
    return told if len(told) <= most else f"{told[: most - 1]}…"


def upstream_problems(upstream: Upstream | None) -> Iterator[str]:
    """What is wrong with the files that an upstream names. Its variable is the server's, and not looked for here."""
    if upstream is None:
        return
    if upstream.api_key_file is not None:
        try:
            upstream_key(upstream)
        except ConflictError as error:
            yield error.message
    if upstream.ca_file is not None:
        try:
            ssl.create_default_context(cafile=upstream.ca_file)
        except (OSError, ValueError) as error:
            yield f"the file {upstream.ca_file}, which has the certificates to trust, cannot be used: {error}"


def _read(path: str, where: str) -> str:
    """The file's text without the line break at its end."""
    real = os.path.realpath(path)
    if not real.endswith(KEY_EXTENSION):  # a folder from elsewhere may hold links
        raise _unusable(
            f"{where} is a link to one whose name does not end in {KEY_EXTENSION}: no such file is ever sent"
        )
    try:
        fd = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe is not waited for
        try:
            _check(os.fstat(fd).st_mode, where)
            data = os.read(fd, MAX_KEY + 3)  # a longer one is too long, whatever its end
        finally:
            os.close(fd)
    except OSError as error:
        reason = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise _unusable(f"{where}, which has the upstream's key, {reason}") from None
    return data.decode("latin-1").removesuffix("\n").removesuffix("\r")


def _check(mode: int, where: str) -> None:
    if not stat.S_ISREG(mode):
        raise _unusable(f"{where}, which has the upstream's key, is no plain file")
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise _unusable(f"{where} has a key and is open to others: chmod 600 it")


def _unusable(reason: str) -> ConflictError:
    return ConflictError(reason, param="model", code="upstream_key")
