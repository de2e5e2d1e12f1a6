"""The key that an upstream wants, read where it lies each time, so that a new one holds at once."""

from __future__ import annotations

import os
from pathlib import Path

from janflask.errors import ConflictError
from janflask.models.upstream import Upstream

MAX_KEY = 4096  # characters


def read_key(upstream: Upstream) -> str:
    """The key, empty for none. Raises ConflictError, without it, when it is not to be had."""
    if upstream.api_key_file is not None:
        place = f"api_key_file of the model's upstream, {upstream.api_key_file},"
        try:
            with Path(upstream.api_key_file).open(encoding="ascii") as file:
                key = file.read(MAX_KEY + 2).strip()
        except OSError as error:
            raise ConflictError(f"{place} cannot be read: {error.strerror}", param="model") from None
        except UnicodeDecodeError:
            raise ConflictError(f"{place} is not plain ASCII", param="model") from None
    elif upstream.api_key_env is not None:
        place = f"the variable {upstream.api_key_env}, api_key_env of the model's upstream,"
        key = os.environ.get(upstream.api_key_env, "").strip()
    else:
        return ""
    if not key:
        raise ConflictError(f"{place} holds no key", param="model")
    if len(key) > MAX_KEY or not all("!" <= character <= "~" for character in key):
        raise ConflictError(f"{place} holds no key: it must be one word of at most {MAX_KEY} letters", param="model")
    return key
