"""Markers of a grammar as a vocabulary has them: control tokens, text, or some of both."""

from __future__ import annotations

import pytest

from janflask.ipc.messages.constraint import Constraint, ConstraintKind
from tests.fakes.walks import END, Vocabulary

CONTROLS = Vocabulary(["<call>", "</call>", "</call", "<end>"], ["<end>"])
LETTERS = Vocabulary()


def constraint(first: str, last: str, text: str = 'start: marker_0 "x" marker_1\n') -> Constraint:
    return Constraint(kind=ConstraintKind.GRAMMAR, text=text, markers=(first, last))


def ids(vocabulary: Vocabulary, *pieces: str | int) -> list[int]:
    return [token for piece in pieces for token in ([piece] if isinstance(piece, int) else piece.encode())]


def takes(vocabulary: Vocabulary, of: Constraint, tokens: list[int]) -> bool:
    matcher = vocabulary.matcher(of)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def test_a_marker_is_the_control_token_of_that_name_and_not_its_letters() -> None:
    call, done = CONTROLS.controls["<call>"], CONTROLS.controls["</call>"]
    of = constraint("<call>", "</call>")
    assert takes(CONTROLS, of, ids(CONTROLS, call, "x", done))
    assert not takes(CONTROLS, of, ids(CONTROLS, "<call>x</call>"))
    assert takes(LETTERS, of, ids(LETTERS, "<call>x</call>"))


def test_a_marker_may_be_tokens_with_text_between() -> None:
    call, done = CONTROLS.controls["<call>"], CONTROLS.controls["</call>"]
    of = constraint("<call>functions.<call>", "\n</call>")
    assert takes(CONTROLS, of, ids(CONTROLS, call, "functions.", call, "x\n", done))
    assert takes(LETTERS, of, ids(LETTERS, "<call>functions.<call>x\n</call>"))


@pytest.mark.parametrize("last", ["<end>", "</call><end>", "</call><end>\n"])
def test_what_ends_an_answer_is_left_to_come_by_itself(last: str) -> None:
    call, done = CONTROLS.controls["<call>"], CONTROLS.controls["</call>"]
    written = [done] if "call" in last else []
    assert takes(CONTROLS, constraint("<call>", last), [*ids(CONTROLS, call, "x"), *written])


@pytest.mark.parametrize("inner", ["", "a", "</cal", "a < b", "a\n\n"])
def test_a_text_goes_up_to_its_marker(inner: str) -> None:
    text = "start: marker_0 body\nbody until marker_1: /(?s:.*)/ & ~/(?s:.*)<\\/call>(?s:.*)/\n"
    of = constraint("<call>", "</call>", text)
    assert takes(LETTERS, of, ids(LETTERS, f"<call>{inner}</call>"))
    assert not takes(LETTERS, of, ids(LETTERS, f"<call>{inner}"))
    assert not takes(LETTERS, of, ids(LETTERS, f"<call>{inner}</call></call>"))
    call, done = CONTROLS.controls["<call>"], CONTROLS.controls["</call>"]
    assert takes(CONTROLS, of, ids(CONTROLS, call, inner, done))
    assert not takes(CONTROLS, of, ids(CONTROLS, call, inner, "</call>"))


def test_a_grammar_without_markers_is_left_as_it_is() -> None:
    own = Constraint(kind=ConstraintKind.GRAMMAR, text="start: marker_0\nmarker_0: /a/\nx until marker_7: y\n")
    assert LETTERS.markers.filled(own) == own.text


def test_the_vocabulary_of_these_tests_ends_with_its_own_token() -> None:
    assert CONTROLS.table.decode_str([256]) == END
