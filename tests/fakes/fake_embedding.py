"""An embedding model without a model: a token is a character's code, a vector counts a text's letters."""

from __future__ import annotations

import struct
import threading
from array import array
from collections.abc import Sequence

import numpy as np

from janflask.errors import InvalidRequestError

WIDTH = 8
N_VOCAB = 1000
LIMIT = 20.0  # seconds a decode waits for a gate that a test forgot


def vector_of(tokens: Sequence[int]) -> bytes:
    """What the fake makes of an input, of length 1."""
    counts = np.bincount([token % WIDTH for token in tokens], minlength=WIDTH).astype(np.float64)
    return (counts / np.linalg.norm(counts)).astype("<f4").tobytes()


def numbers(vector: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(vector) // 4}f", vector)


class FakeEmbedding:
    """Keeps what every decode was given. Each waits for ``gate``; a token 666 gives no vector."""

    def __init__(self, capacity: int = 64) -> None:
        self.capacity = capacity
        self.batches: list[list[str]] = []
        self.tokenized: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.failure: Exception | None = None

    def tokenize(self, text: str) -> array[int]:
        self.tokenized.append(text)
        if "\udc00" in text:
            raise InvalidRequestError("the prompt holds a lone surrogate at character 0")
        return array("i", [ord(letter) for letter in text])

    def embed(self, inputs: Sequence[array[int]]) -> list[bytes | None]:
        self.entered.set()
        self.gate.wait(LIMIT)
        self.batches.append(["".join(map(chr, tokens)) for tokens in inputs])
        if self.failure is not None:
            raise self.failure
        return [None if 666 in tokens else vector_of(tokens) for tokens in inputs]
