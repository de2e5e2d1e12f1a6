"""A vocabulary of bytes and some longer pieces, and constraints that are lists of texts: masks are sets of tokens."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

END = 256  # ends an answer


class FakeMasks:
    """Masks as the fake context reads them."""

    def only(self, token: int) -> frozenset[int]:
        return frozenset({token})

    def also(self, mask: frozenset[int], token: int) -> frozenset[int]:
        return mask | {token}

    def allows(self, mask: frozenset[int], token: int) -> bool:
        return token in mask


class FakeWords:
    """Tokens: the 256 bytes, an end, ``control`` tokens and ``pieces``. A text is cut into the longest first."""

    def __init__(self, control: Sequence[str] = (), pieces: Sequence[str] = ()) -> None:
        self.pieces = [bytes([byte]) for byte in range(256)] + [b""] + [text.encode() for text in (*control, *pieces)]
        self.control = range(257, 257 + len(control))
        self.n_vocab = len(self.pieces)

    def piece(self, token: int) -> bytes:
        return self.pieces[token]

    def token(self, piece: str) -> int:
        return self.pieces.index(piece.encode())

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> array[int]:
        data, tokens = text.encode(), array("i")
        known = [token for token in range(self.n_vocab) if self.pieces[token]]
        known = [token for token in known if parse_special or token not in self.control]
        while data:
            best = max((token for token in known if data.startswith(self.pieces[token])), key=self._size)
            tokens.append(best)
            data = data[self._size(best) :]
        return tokens

    def _size(self, token: int) -> int:
        return len(self.pieces[token])


class FakeStream:
    """Text of tokens; half a character is held back."""

    def __init__(self, words: FakeWords) -> None:
        self._words = words
        self.held = b""
        self.stopped = False

    def push(self, token: int) -> str:
        self.held += self._words.piece(token)
        try:
            text = self.held.decode()
        except UnicodeDecodeError:
            return ""
        self.held = b""
        return text

    def finish(self) -> str:
        return ""


class OneOf:
    """A constraint that was compiled: the answer is one of ``texts``; control tokens stand for themselves in them."""

    def __init__(self, words: FakeWords, *texts: str, stops: bool = True, forces: bool = True) -> None:
        self.words = words
        self.texts = [text.encode() for text in texts]
        self.stops = stops
        self.forces = forces

    def matcher(self) -> OneOfMatcher:
        return OneOfMatcher(self)


class OneOfMatcher:
    """Ends by itself where nothing can come any more, or may be ended if not ``stops``."""

    def __init__(self, source: OneOf) -> None:
        self.source = source
        self.said = b""
        self.error: str | None = None
        self.is_complete = False
        self.mask: frozenset[int] | None = self._allowed()

    def _allowed(self) -> frozenset[int]:
        texts, pieces = self.source.texts, self.source.words.pieces
        going = {t for t, piece in enumerate(pieces) if piece and any(x.startswith(self.said + piece) for x in texts)}
        return frozenset(going | ({END} if self.said in texts else set()))

    def accept(self, token: int) -> None:
        if not self.follow([token]):
            self.error = f"{self.said!r} does not go on with {self.source.words.piece(token)!r}"

    def follow(self, tokens: Sequence[int]) -> bool:
        self.mask = None  # out of date: whoever draws by it makes the fake fail
        for token in tokens:
            if token not in self._allowed():
                return False
            self.said += self.source.words.piece(token)
        self.is_complete = self.source.stops and self._allowed() == {END}
        return True

    def force(self, most: int) -> list[int]:
        forced: list[int] = []
        while self.source.forces and len(forced) < most and not self.is_complete:
            behind = {
                text[len(self.said)] for text in self.source.texts if text.startswith(self.said) and text != self.said
            }
            if len(behind) != 1:
                break
            forced += behind
            self.follow(list(behind))
        return forced

    def look(self) -> None:
        self.mask = self._allowed()

    look_ahead = look
