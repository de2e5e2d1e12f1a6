"""A prompt that comes before its answer: its text token by token, and its log-probabilities as they are computed."""

from __future__ import annotations

import codecs
from array import array
from collections.abc import Callable

LOOK_AHEAD = 16  # bytes of a prompt that its tokenizer may have left out in front of a token


class PromptEcho:
    """What of a prompt was told. Its tokens are taken in order.

    The text of a prompt that is text is that text, of which a token stands for the next place where its bytes occur: a
    token that the tokenizer has added (BOS, a first space) stands for nothing. The text of token ids is their bytes.
    """

    def __init__(self, prompt: str | tuple[int, ...], tokens: array[int], piece: Callable[[int], bytes]) -> None:
        self.tokens = tokens
        self.piece = piece
        self.done = 0  # tokens that were told
        self._given = prompt.encode("utf-8") if isinstance(prompt, str) else None
        self._place = 0  # bytes of the given text that were told
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def is_done(self) -> bool:
        return self.done == len(self.tokens)

    def text(self, token: int) -> str:
        """The text of the next token, empty while a character is not whole; with the last one, all that is left."""
        self.done += 1
        raw = self.piece(token) if self._given is None else self._given_bytes(self._given, token)
        return self._decoder.decode(raw, final=self.is_done)

    def whole_text(self) -> str:
        """The text of all tokens."""
        return "".join(map(self.text, self.tokens))

    def _given_bytes(self, given: bytes, token: int) -> bytes:
        start = self._place
        self._place = len(given) if self.is_done else self._end(given, self.piece(token))
        return given[start : self._place]

    def _end(self, given: bytes, raw: bytes) -> int:
        """Where the text ends that a token stands for; a space in front of it may be the tokenizer's own."""
        for part in (raw, raw.removeprefix(b" ")):
            found = given.find(part, self._place, self._place + len(part) + LOOK_AHEAD) if part else -1
            if found >= 0:
                return found + len(part)
        return self._place
