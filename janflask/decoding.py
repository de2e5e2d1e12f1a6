"""msgspec's decoders, each of them made by one thread at a time.

msgspec finds out what a class is made of when it is used for the first time, and is not safe among threads until it
knows (in 0.22 the process dies). So the first use happens here, behind a lock. What is made here all may use at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_lock = threading.RLock()  # what a class names may be imported meanwhile, and make its own
_json: dict[Any, msgspec.json.Decoder[Any]] = {}
_msgpack: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def json_decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    """The decoder of JSON that makes such objects."""
    found: msgspec.json.Decoder[T] = _made(_json, msgspec.json.Decoder, kind)
    return found


def msgpack_decoder(kind: type[T]) -> msgspec.msgpack.Decoder[T]:
    """The decoder of MessagePack that makes such objects."""
    found: msgspec.msgpack.Decoder[T] = _made(_msgpack, msgspec.msgpack.Decoder, kind)
    return found


def _made(made: dict[Any, Any], make: Callable[[Any], Any], kind: Any) -> Any:
    found = made.get(kind)
    if found is None:
        with _lock:
            found = made[kind] = made.get(kind) or make(kind)
    return found


def convert(value: Any, kind: type[T], *, strict: bool = True) -> T:
    """An object made of what JSON has become. Raises msgspec.ValidationError; ``strict`` is msgspec's."""
    json_decoder(kind)
    return msgspec.convert(value, kind, strict=strict)
