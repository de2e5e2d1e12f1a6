"""Ids for model folders whose names are none: Jan takes any name, with spaces, brackets or letters of any language.

The id is made of the name alone, so that it stays the same whatever else is in the models' folder. It tells the name as
well as it can, and ends in the name's hash: two names never share one.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Container

MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

_HALF = re.compile("[\ud800-\udfff]")  # how Python has bytes that are no text, too
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9._-]+")
_HASH = 64  # characters of a whole hash
_STEM = 127 - _HASH  # characters of the name, at most
_STEP = 8  # characters of the hash; more where a folder has that very id for its name


def is_model_id(text: str) -> bool:
    """Whether ``text`` may be a model's id, and a part of file names."""
    return MODEL_ID.fullmatch(text) is not None


def derived_id(folder: str, taken: Container[str]) -> str | None:
    """The id of the model in ``folder`` (a name or, with ``/``, a path); None if all that it can have are ``taken``."""
    plain = unicodedata.normalize("NFKD", shown(folder)).encode("ascii", "ignore").decode()
    stem = _NOT_IN_IDS.sub("-", plain).strip("._-")[:_STEM].rstrip("._-") or "model"
    digest = hashlib.sha256(folder.encode("utf-8", "surrogateescape")).hexdigest()
    ids = (f"{stem}-{digest[:length]}" for length in range(_STEP, _HASH + 1, _STEP))
    return next((model_id for model_id in ids if model_id not in taken), None)


def shown(name: str) -> str:
    """A file's name as text: bytes in it that are no UTF-8, and halves of characters, become U+FFFD."""
    return _HALF.sub("\ufffd", name)


def same_name(one: str, other: str) -> bool:
    """Whether two names are the same text; macOS takes letters with accents apart, keyboards don't."""
    return unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
