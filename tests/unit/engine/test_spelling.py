"""Texts as tokens of exactly their bytes, whatever the tokenizer makes of them."""

from __future__ import annotations

from array import array

import pytest

from janflask.engine.newest import Newest
from janflask.engine.spelling import Speller
from tests.fakes.fake_grammar import FakeWords


class Blanks(FakeWords):
    """Puts a blank in front of every text, as SentencePiece does."""

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> array[int]:
        return super().tokenize(" " + text, add_special=add_special, parse_special=parse_special)


@pytest.mark.parametrize("words", [FakeWords(("<think>",), ("ab", "é")), Blanks(("<think>",), ("ab", "é"))])
def test_a_text_is_its_bytes(words: FakeWords) -> None:
    speller = Speller(words)
    speller.get_ready()
    for text in ("ab", "<think>\nab", " é", ""):
        assert b"".join(map(words.piece, speller.spell(text))) == text.encode()
    assert speller.spell("<think>") == [words.token("<think>")]
    for data in (b"ab\xc3", b"\xa9", "é".encode(), b"<think>"):
        tokens = speller.spell_bytes(data)
        assert b"".join(map(words.piece, tokens)) == data


def test_the_newest_tokens_from_place_to_place() -> None:
    words = FakeWords(("<|call|>",), ("abc", "de"))
    newest = Newest(Speller(words))
    for piece in ("abc", "<|call|>", "de"):
        newest.add(words.token(piece))
    newest.add(words.token("<|call|>"), shows=False)
    assert newest.written == b"abc<|call|>de"
    assert newest.tokens(0, 13) == [words.token(piece) for piece in ("abc", "<|call|>", "de")]
    assert newest.tokens(2, 12) == [ord("c"), words.token("<|call|>"), ord("d")]
    newest.keep(3)
    assert newest.written == b"<|call|>de", "the token that it begins in stays whole"
    assert Newest(Speller(words)).tokens(0, 9) == []
