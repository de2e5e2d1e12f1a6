"""The token-to-text stream against plain Python: every cut, every kind of broken UTF-8, overlapping stop strings."""

from __future__ import annotations

import array
import contextlib
import functools
import itertools
import random
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from janflask_ext.stream import ATTR_CONTROL, ATTR_UNKNOWN, TextStream, Vocab

NORMAL, USER_DEFINED = 1 << 2, 1 << 4
BYTES = Vocab([bytes([value]) for value in range(256)], [NORMAL] * 256)

MIXED = "aé€𝄞 ñ漢字🎉\u0000\u007f\u0080\u07ff\u0800\uffff\U0010ffff\ufffdz".encode()
BROKEN = {
    "lone continuation": b"a\x80b\xbf\xbf",
    "impossible bytes": b"\xc0\xc1\xf5\xfe\xffx",
    "overlong": b"\xc0\xaf\xe0\x80\xaf\xe0\x9f\xbf\xf0\x80\x80\xaf\xf0\x8f\xbf\xbfx",
    "surrogates": b"\xed\xa0\x80\xed\xbf\xbf\xed\x9f\xbfx",
    "above U+10FFFF": b"\xf4\x90\x80\x80\xf4\x8f\xbf\xbf\xf5\x80\x80\x80",
    "cut characters": b"\xc3(\xe2\x82(\xe2(\xf0\x9f\x8e(\xf0\x9f(\xf0(",
    "cut by a character": b"\xe2\x82\xc3\xa9\xf0\x9f\x8e\xf0\x9f\x8e\x89\xe2\x82\xe2\x82\xac",
    "ends in a half character": b"ok\xf0\x9f\x8e",
}


def find_stop(text: str, stops: Sequence[str]) -> tuple[int, int] | None:
    """(where it starts, which) of the stop string that ends first, the longest of those; by trying all."""
    hits = [
        (start + len(stop), start, index)
        for index, stop in enumerate(stops)
        for start in range(len(text))
        if text.startswith(stop, start)
    ]
    return min(hits)[1:] if hits else None


def whole_characters(data: bytes) -> str:
    """What Python makes of it, without a beginning of a character at the end."""
    for size in (3, 2, 1):
        if size <= len(data) and begins_a_character(data[-size:]):
            return data[:-size].decode("utf-8", "replace")
    return data.decode("utf-8", "replace")


@functools.cache
def begins_a_character(data: bytes) -> bool:
    """Tried out. (Python's incremental decoder also waits for more of a surrogate, which never becomes one.)"""
    for count in (1, 2, 3):
        for rest in itertools.product((0x80, 0x90, 0xA0, 0xBF), repeat=count):
            with contextlib.suppress(UnicodeDecodeError):
                if len((data + bytes(rest)).decode()) == 1:
                    return True
    return False


def run(pieces: Sequence[bytes], stops: Sequence[str] = ()) -> tuple[str, str | None]:
    """All the text that a stream gives for these pieces, and the stop string it met."""
    stream = TextStream(BYTES, stops)
    text = ""
    for piece in pieces:
        text += stream.push_bytes(piece)
        if stream.stopped:
            break
    return text + stream.finish(), stream.stop


def all_cuts(data: bytes) -> Iterator[list[bytes]]:
    """The data whole, in two at every place, in three at every two places, and byte by byte."""
    yield [data]
    for i in range(1, len(data)):
        yield [data[:i], data[i:]]
    for i, j in itertools.combinations(range(1, len(data)), 2):
        yield [data[:i], data[i:j], data[j:]]
    yield [bytes([value]) for value in data]


@pytest.mark.parametrize("data", [MIXED, *BROKEN.values()], ids=["valid", *BROKEN])
def test_any_cut_gives_the_text_of_the_whole(data: bytes) -> None:
    expected = whole_characters(data)
    for pieces in all_cuts(data):
        assert run(pieces) == (expected, None)


def test_every_sequence_of_interesting_bytes_decodes_as_python_does() -> None:
    edges = [0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC1, 0xC2, 0xDF]
    edges += [0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF]
    for values in itertools.product(edges, repeat=3):
        data = bytes(values)
        assert run([data]) == (whole_characters(data), None)
    for lead, values in itertools.product([0xEF, 0xF0, 0xF1, 0xF4], itertools.product(edges[:13], repeat=3)):
        data = bytes([lead, *values])
        assert run([data[:2], data[2:]]) == (whole_characters(data), None)


@pytest.mark.parametrize("stops", [[], ["never"], ["𝄞 ñ"], ["ñ\ufffd"]])
def test_a_text_cut_anywhere_makes_no_character_up(stops: list[str]) -> None:
    for end in range(len(MIXED) + 1):
        whole = whole_characters(MIXED[:end])
        assert MIXED.decode().startswith(whole)
        for pieces in ([MIXED[:end]], [bytes([value]) for value in MIXED[:end]]):
            text, stop = run(pieces, stops)
            assert text == (whole if stop is None else whole[: whole.index(stop)])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a\xff", "a\ufffd"),  # no beginning of anything
        (b"a\xc0", "a\ufffd"),
        (b"a\x80", "a\ufffd"),
        (b"a\xed\xa0", "a\ufffd\ufffd"),  # of a surrogate: no character whatever comes
        (b"a\xf4\x90", "a\ufffd\ufffd"),
        (b"a\xe2(", "a\ufffd("),
        (b"a\xf0\x9f\xf0\x9f", "a\ufffd"),  # the first one is broken by the second, which is unfinished
        (b"a\xf0\x9f\x8e", "a"),
    ],
)
def test_at_the_end_what_is_broken_is_told_from_what_is_unfinished(data: bytes, text: str) -> None:
    for pieces in all_cuts(data):
        assert run(pieces) == (text, None)


def test_a_character_appears_with_its_last_byte() -> None:
    stream = TextStream(BYTES)
    assert [stream.push(byte) for byte in "é€🎉".encode()] == ["", "é", "", "", "€", "", "", "", "🎉"]


def test_a_broken_character_appears_with_the_byte_that_breaks_it() -> None:
    stream = TextStream(BYTES)
    assert [stream.push(byte) for byte in b"\xf0\x9f(\xff"] == ["", "", "\ufffd(", "\ufffd"]


@pytest.mark.parametrize("data", [MIXED, *BROKEN.values()], ids=["valid", *BROKEN])
def test_without_stop_strings_only_an_incomplete_character_is_held(data: bytes) -> None:
    stream, given = TextStream(BYTES), ""
    for count, byte in enumerate(data, 1):
        given += stream.push(byte)
        futures = [data[:count] + bytes([value]) * repeat for value in (0x80, 0x90, 0xBF) for repeat in range(4)]
        decoded = [future.decode("utf-8", "replace") for future in futures]
        certain = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*decoded, strict=False))
        assert given == "".join(letters[0] for letters in certain)
        assert stream.held.decode("utf-8", "ignore") == ""


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("one<end>two", ["<end>"], ("one", "<end>")),
        ("one", ["<end>"], ("one", None)),
        ("one<en", ["<end>"], ("one<en", None)),
        ("<<end>", ["<end>"], ("<", "<end>")),
        ("aaab", ["aab"], ("a", "aab")),
        ("ababac", ["abac"], ("ab", "abac")),
        ("xaby", ["ab", "xab"], ("", "xab")),  # end together: the longest
        ("xaby", ["xaby", "ab"], ("x", "ab")),  # one ends first
        ("abcd", ["bc", "abcd"], ("a", "bc")),  # found inside another that has begun
        ("abce", ["abcd", "c"], ("ab", "c")),  # by a dictionary suffix link
        ("abcbx", ["abcd", "bcbx"], ("a", "bcbx")),  # by a failure link
        ("stop", ["stop"], ("", "stop")),
        ("a🎉b", ["🎉"], ("a", "🎉")),
        ("a🎈🎉b", ["🎈🎉b"], ("a", "🎈🎉b")),  # the two share three bytes
        ("line\n\nUser:", ["\n\nUser:", "\n\n"], ("line", "\n\n")),
    ],
)
def test_stop_strings_are_found_over_any_cut(text: str, stops: list[str], expected: tuple[str, str | None]) -> None:
    for pieces in all_cuts(text.encode()):
        assert run(pieces, stops) == expected


def test_a_stop_string_is_searched_in_the_text_that_a_client_sees() -> None:
    assert run([b"a\xff", b"b"], ["\ufffd"]) == ("a", "\ufffd")
    assert run([b"a\xe2\x82b"], ["\ufffd"]) == ("a", "\ufffd")
    assert run([b"a\xe2\x82", b"b"], ["\ufffdb"]) == ("a", "\ufffdb")
    assert run([b"a\xe2\x82"], ["a\ufffd"]) == ("a", None)  # unfinished at the end of the output, not broken
    assert run([b"\xf0\x9f\xf0\x9f"], ["\ufffd\ufffd"]) == ("\ufffd", None)
    assert run([b"\xf0\x9f\xf0\x9f("], ["\ufffd\ufffd"]) == ("", "\ufffd\ufffd")


@pytest.mark.parametrize("seed", range(8))
def test_random_overlapping_stop_strings_agree_with_trying_all(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(500):
        alphabet = rng.choice(["ab", "abc", "éè", "a\ufffd"])
        stops = ["".join(rng.choices(alphabet, k=rng.randint(1, 5))) for _ in range(rng.randint(1, 5))]
        text = "".join(rng.choices(alphabet, k=rng.randint(0, 24)))
        check_stream(text, stops, rng)


def check_stream(text: str, stops: list[str], rng: random.Random) -> None:
    """Pushes a text in random pieces: the outcome, and at each step that all is given that can be given."""
    stream = TextStream(BYTES, stops)
    given, taken, data = "", b"", text.encode()
    while len(taken) < len(data) and not stream.stopped:
        piece = data[len(taken) :][: rng.randint(1, 4)]
        given += stream.push_bytes(piece)
        taken += piece
        check_least_holding(stream, given, taken, stops)
    given += stream.finish()
    hit = find_stop(text, stops)
    if hit is None:
        assert (given, stream.stopped) == (text, False)
    else:
        assert (given, stream.stop) == (text[: hit[0]], stops[hit[1]])


def check_least_holding(stream: TextStream, given: str, taken: bytes, stops: list[str]) -> None:
    """What is held can be the beginning of a stop string that wins there, and it is the first place where one can."""
    if stream.stopped:
        assert stream.held == b""
        return
    text = taken.decode("utf-8", "ignore")
    held = text[len(given) :]
    assert given == text[: len(given)]
    assert stream.held == taken[len(given.encode()) :]
    places = [start for start in range(len(text)) if any(can_win(text, start, stop, stops) for stop in stops)]
    assert len(given) == min(places, default=len(text))
    assert held == "" or any(stop.startswith(held) and stop != held for stop in stops)


def can_win(text: str, start: int, stop: str, stops: list[str]) -> bool:
    """Whether the text can go on so that this stop string, begun at ``start``, is the one that is found."""
    if not stop.startswith(text[start:]):
        return False
    hit = find_stop(text[:start] + stop, stops)
    return hit is not None and (hit[0], stops[hit[1]]) == (start, stop)


def test_a_stop_string_that_never_wins_holds_nothing_back() -> None:
    stream = TextStream(BYTES, ["xab!", "ab"])
    assert stream.push_bytes(b"x") == "x"
    assert stream.push_bytes(b"a") == ""
    assert stream.push_bytes(b"b") == ""
    assert stream.stop == "ab"


def test_a_partial_stop_string_is_given_by_finish() -> None:
    stream = TextStream(BYTES, ["<|im_end|>"])
    assert stream.push_bytes(b"hi<|im_") == "hi"
    assert stream.held == b"<|im_"
    assert stream.finish() == "<|im_"
    assert stream.finish() == ""
    assert not stream.stopped


def test_finish_gives_a_partial_stop_string_and_drops_a_half_character_behind_it() -> None:
    stream = TextStream(BYTES, ["ab🎉"])
    assert stream.push_bytes(b"xab\xf0\x9f") == "x"
    assert stream.held == b"ab\xf0\x9f"
    assert stream.finish() == "ab"
    assert stream.held == b""


def test_of_a_repeated_stop_string_the_first_counts() -> None:
    stream = TextStream(BYTES, ["no", "ab", "ab"])
    stream.push_bytes(b"ab")
    assert (stream.stopped, stream.stop_index, stream.stop) == (True, 1, "ab")


def test_before_a_stop_nothing_is_reported() -> None:
    stream = TextStream(BYTES, ["ab"])
    stream.push_bytes(b"a")
    assert (stream.stopped, stream.stop_index, stream.stop) == (False, None, None)


def test_a_stopped_or_finished_stream_takes_no_more() -> None:
    stopped = TextStream(BYTES, ["a"])
    assert stopped.push(ord("a")) == ""
    with pytest.raises(RuntimeError, match="stop string"):
        stopped.push(ord("b"))
    assert stopped.finish() == ""
    finished = TextStream(BYTES)
    finished.finish()
    with pytest.raises(RuntimeError, match="finished"):
        finished.push_bytes(b"b")


@pytest.mark.parametrize("stops", [[""], ["a", ""], ["\ud800"]])
def test_unusable_stop_strings_are_refused(stops: list[str]) -> None:
    with pytest.raises(ValueError, match=r"empty|surrogates"):
        TextStream(BYTES, stops)


def test_one_string_is_not_a_sequence_of_stop_strings() -> None:
    with pytest.raises(TypeError, match="sequence"):
        TextStream(BYTES, "stop")


def test_long_and_many_stop_strings() -> None:
    long = "ab" * 5000
    assert run([b"xx" + long.encode()[:-1] + b"c" + long.encode() + b"y"], [long]) == ("xx" + long[:-1] + "c", long)
    many = [f"{number:04d}" for number in range(2000)]
    assert run([b"....199", b"9...."], many) == ("....", "1999")


def test_pieces_longer_than_any_token() -> None:
    assert run([b"x" * 100_000 + b"\xff" * 100_000]) == ("x" * 100_000 + "\ufffd" * 100_000, None)


# --- the vocabulary ---------------------------------------------------------------------------------------------

PIECES = [b"<unk>", b"Hello", b" w\xc3", b"\xb6rld", b"<|im_end|>", b"<tool_call>", b""]
ATTRS = [ATTR_UNKNOWN, NORMAL, NORMAL, NORMAL, ATTR_CONTROL, USER_DEFINED, NORMAL]


@pytest.mark.parametrize("attrs", [ATTRS, array.array("i", ATTRS), memoryview(np.array(ATTRS, np.int32))])
def test_special_tokens_go_by_their_attributes(attrs: Sequence[int]) -> None:
    vocab = Vocab(PIECES, attrs)
    tokens = [0, 1, 2, 3, 6, 5, 4]
    plain, rendered = TextStream(vocab), TextStream(vocab, render_special=True)
    assert [plain.push(token) for token in tokens] == ["", "Hello", " w", "örld", "", "<tool_call>", ""]
    assert "".join(rendered.push(token) for token in tokens) == "<unk>Hello wörld<tool_call><|im_end|>"


def test_a_hidden_token_does_not_disturb_a_half_character_or_a_stop_string() -> None:
    vocab = Vocab(PIECES, ATTRS)
    stream = TextStream(vocab, ["Hello wö"])
    assert [stream.push(token) for token in (1, 4, 2, 4, 3)] == [""] * 5
    assert stream.stop == "Hello wö"


def test_a_vocabulary_tells_its_pieces() -> None:
    vocab = Vocab(PIECES, ATTRS)
    assert len(vocab) == len(PIECES)
    assert [vocab.piece(token) for token in range(len(vocab))] == PIECES
    assert vocab.text(2) == " w\ufffd"
    assert vocab.longest == len(b"<tool_call>")


@pytest.mark.parametrize("token", [-1, len(PIECES)])
def test_a_token_outside_the_vocabulary_is_an_index_error(token: int) -> None:
    vocab = Vocab(PIECES, ATTRS)
    for call in (vocab.piece, vocab.text, TextStream(vocab).push):
        with pytest.raises(IndexError, match="vocabulary of 7"):
            call(token)


def test_pieces_and_attributes_must_match() -> None:
    with pytest.raises(ValueError, match="7 pieces"):
        Vocab(PIECES, ATTRS[:-1])


def test_an_empty_vocabulary_is_allowed() -> None:
    assert len(Vocab([], [])) == 0
