"""Texts as the tokens that make exactly their bytes: what an engine writes in a model's place."""

from __future__ import annotations

from array import array
from functools import cached_property
from typing import Protocol


class Tokenizer(Protocol):
    """What of a model knows its vocabulary."""

    @property
    def n_vocab(self) -> int: ...
    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> array[int]: ...
    def piece(self, token: int) -> bytes: ...


class Speller:
    """Of one vocabulary."""

    def __init__(self, model: Tokenizer) -> None:
        self.model = model

    def get_ready(self) -> None:
        """Makes the table of all pieces (a tenth of a second) where most texts will need it."""
        self.spell_bytes(b"x")

    def spell(self, text: str) -> list[int]:
        """The tokens of a text, markers in it being control tokens where there are such."""
        tokens = self.model.tokenize(text, add_special=False, parse_special=True)
        return tokens.tolist() if self._bytes(tokens) == text.encode() else self._greedy(text.encode())

    def spell_bytes(self, data: bytes) -> list[int]:
        """The same for bytes, which may end in the middle of a character; no marker is looked for."""
        try:
            tokens = self.model.tokenize(data.decode(), add_special=False, parse_special=False)
        except UnicodeDecodeError:
            return self._greedy(data)
        return tokens.tolist() if self._bytes(tokens) == data else self._greedy(data)

    def _bytes(self, tokens: array[int]) -> bytes:
        return b"".join(map(self.model.piece, tokens))

    def _greedy(self, data: bytes) -> list[int]:
        """The longest piece first: for half characters, and where the tokenizer puts a blank in front of a text.

        What no piece makes is left out.
        """
        tokens: list[int] = []
        at = 0
        while at < len(data):
            longest = min(self._longest, len(data) - at)
            size = next((size for size in range(longest, 0, -1) if data[at : at + size] in self._tokens), 0)
            if size:
                tokens.append(self._tokens[data[at : at + size]])
            at += size or 1
        return tokens

    @cached_property
    def _tokens(self) -> dict[bytes, int]:
        pieces = ((self.model.piece(token), token) for token in reversed(range(self.model.n_vocab)))
        return {piece: token for piece, token in pieces if piece}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._tokens), default=0)
