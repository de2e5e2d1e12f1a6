"""Embeddings as upstreams give them, made vectors of length 1."""

from __future__ import annotations

import base64
import binascii
import math
import sys
from array import array

from janflask.inference.upstream.answers import Vector, Vectors

NEAR = 1e-3  # a length so near to 1 is left as it is


def vectors_of(answer: Vectors, count: int) -> list[bytes]:
    """One for each of ``count`` inputs, little-endian 32-bit floats. Raises ValueError for what is none."""
    if len(answer.data) != count:
        raise ValueError(f"{len(answer.data)} vectors for {count} inputs")
    ordered: list[array[float] | None] = [None] * count
    for number, item in enumerate(answer.data):
        index = number if item.index is None else item.index
        if not 0 <= index < count or ordered[index] is not None:
            raise ValueError(f"a vector for input {index}")
        ordered[index] = _numbers(item)
    found = [vector for vector in ordered if vector is not None]
    if len({len(vector) for vector in found}) > 1:
        raise ValueError("vectors of different lengths")
    return [_bytes(_unit(vector)) for vector in found]


def _numbers(item: Vector) -> array[float]:
    numbers = array("f")
    if isinstance(item.embedding, str):
        try:
            raw = base64.b64decode(item.embedding, validate=True)
        except binascii.Error as error:
            raise ValueError(f"no base64: {error}") from None
        if len(raw) % 4:
            raise ValueError("a part of a number")
        numbers.frombytes(raw)
        if sys.byteorder == "big":
            numbers.byteswap()
    else:
        numbers.extend(item.embedding)
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError("an empty vector, or one with no numbers in it")
    return numbers


def _unit(vector: array[float]) -> array[float]:
    length = math.sqrt(math.fsum(number * number for number in vector))
    if abs(length - 1) < NEAR or length == 0:
        return vector
    return array("f", (number / length for number in vector))


def _bytes(vector: array[float]) -> bytes:
    if sys.byteorder == "big":
        vector.byteswap()
    return vector.tobytes()
