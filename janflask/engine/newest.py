"""The newest tokens of a text that is read along, as long as it is not decided what they are."""

from __future__ import annotations

from collections import deque

from janflask.engine.spelling import Speller


class Newest:
    """Tokens with the bytes that they make; places are counted in these."""

    def __init__(self, speller: Speller) -> None:
        self._speller = speller
        self._said: deque[tuple[int, bytes]] = deque()

    def add(self, token: int, *, shows: bool = True) -> None:
        """One more; ``shows``: it makes text."""
        self._said.append((token, self._speller.model.piece(token) if shows else b""))

    def keep(self, size: int) -> None:
        """Forgets all tokens but those of the last ``size`` bytes."""
        if not size:
            self._said.clear()
            return
        more = sum(len(data) for _, data in self._said) - size
        while self._said and (more := more - len(self._said[0][1])) >= 0:
            self._said.popleft()

    @property
    def written(self) -> bytes:
        """What they make."""
        return b"".join(data for _, data in self._said)

    def tokens(self, start: int, end: int) -> list[int]:
        """Of what stands from a place to another: those that were said; of one that is cut, the tokens of its part."""
        tokens: list[int] = []
        at = 0
        for token, data in self._said:
            first, last = max(start - at, 0), min(end - at, len(data))
            if first < last:
                tokens += [token] if last - first == len(data) else self._speller.spell_bytes(data[first:last])
            at += len(data)
        return tokens

    def cut(self, end: int) -> list[int]:
        """The tokens of the newest one's text, as far as it goes to a place."""
        _, data = self._said[-1]
        return self._speller.spell_bytes(data[: end - len(self.written) + len(data)])
