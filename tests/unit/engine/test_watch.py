"""Answers that are read along, token by token: where constraints begin to hold, what stands for a token that is cut."""

from __future__ import annotations

from typing import Any

import pytest

from janflask.engine.spelling import Speller
from janflask.engine.watch import AnswerWatch
from janflask.ipc.messages.generation import Watch
from janflask.parsing.calls import CallRules, Kind
from janflask.parsing.rules import PLAIN, AnswerRules, Reasoning
from tests.fakes.fake_grammar import END, FakeMasks, FakeStream, FakeWords, OneOf

WORDS = FakeWords(
    control=("<think>", "</think>"),
    pieces=("<tool_call>", ">{", ">\n\n", ">oops", "\n\n", "<tool_call>oops", "é", "</think>\n\n", ">x", '"}}'),
)
CALL = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
BARE = '{"name": "f", "arguments": {}}'
THINKS = AnswerRules(Reasoning("<think>", "</think>", "<think>\n", "\n</think>\n\n"))


class Answer:
    """One choice that is watched; ``say`` draws tokens, each of which the mask has to allow."""

    def __init__(
        self,
        rules: AnswerRules = PLAIN,
        *,
        words: FakeWords = WORDS,
        calls: OneOf | None = None,
        answer: OneOf | None = None,
        room: int = 0,
        **watch: Any,
    ) -> None:
        self.words = words
        self.room = room
        tools = ("f",) if calls else ()
        asked = Watch(rules=rules, tools=tools, **watch)
        self.watch = AnswerWatch(asked, Speller(words), FakeStream(words), FakeMasks(), calls, answer)
        self.tokens: list[int] = []

    def draw(self, token: int) -> list[int]:
        mask = self.watch.mask
        assert mask is None or token in mask, f"{self.words.piece(token)!r} is not allowed behind {self.text!r}"
        taken = self.watch.take(token, self.room, ends=token == END)
        assert 1 <= len(taken) <= 1 + self.room
        self.tokens += taken
        if self.watch.matcher is not None:
            self.watch.matcher.look_ahead()
        return taken

    def say(self, *texts: str) -> None:
        for text in texts:
            self.draw(self.words.token(text))

    def spell(self, text: str) -> None:
        for byte in text.encode():
            self.draw(byte)

    def follow(self, most: int = 200) -> None:
        """The lowest token that is allowed, as long as there is a constraint."""
        while self.watch.mask is not None and not self.watch.is_complete and most:
            self.draw(min(self.watch.mask))
            most -= 1

    @property
    def text(self) -> str:
        return b"".join(map(self.words.piece, self.tokens)).decode()

    @property
    def may_come(self) -> set[str]:
        return {self.words.piece(token).decode() for token in self.watch.mask}


# --- calls ------------------------------------------------------------------------------------------------------------


def test_free_text_is_not_masked_and_a_call_is_held_from_its_marker_on() -> None:
    answer = Answer(calls=OneOf(WORDS, CALL))
    answer.spell("I shall call <tool")
    assert answer.watch.matcher is None
    answer.spell("_call>")
    assert answer.may_come == {"{"}
    answer.follow()
    assert (answer.text, answer.watch.is_complete) == (f"I shall call {CALL}", True)


def test_what_is_forced_behind_a_marker_comes_with_it() -> None:
    answer = Answer(calls=OneOf(WORDS, CALL), room=99)
    answer.spell("<tool_call")
    assert answer.draw(ord(">")) == [*CALL.removeprefix("<tool_call").encode()]
    assert answer.watch.is_complete


@pytest.mark.parametrize(
    ("before", "last", "left"),
    [
        ("<tool_call", ">{", ">{"),  # it goes on as the constraint wants
        ("<tool_call", ">\n\n", ">"),
        ("<tool_call", ">oops", ">"),
        ("Well: ", "<tool_call>oops", "<tool_call>"),
    ],
)
def test_what_a_marker_brought_is_cut_where_it_is_refused(before: str, last: str, left: str) -> None:
    answer = Answer(calls=OneOf(WORDS, CALL))
    answer.spell(before)
    answer.say(last)
    assert answer.text == before + left
    answer.follow()
    assert answer.text.endswith(CALL)


def test_a_token_is_replaced_by_several_where_it_has_to_be() -> None:
    """One at a time where each needs log-probabilities, at once where there is room."""
    words = FakeWords(pieces=("all>oops",))
    for room in (0, 99):
        answer = Answer(words=words, calls=OneOf(words, CALL, forces=False), room=room)
        answer.spell("<tool_c")
        answer.say("all>oops")
        assert answer.text == ("<tool_call>" if room else "<tool_ca")
        answer.follow()
        assert answer.text == CALL


def test_a_marker_in_code_or_in_thoughts_is_text() -> None:
    answer = Answer(THINKS, calls=OneOf(WORDS, CALL), prompt_end="<think>")
    answer.spell(f"I could {CALL}, or\n")
    assert answer.watch.matcher is None
    answer.say("</think>")
    answer.spell(f"Like this:\n```\n{CALL}\n```\n")
    assert answer.watch.matcher is None
    answer.spell("<tool_call>")
    assert answer.watch.matcher is not None


def test_a_call_without_markers_is_held_once_a_tool_is_named() -> None:
    answer = Answer(calls=OneOf(WORDS, CALL, BARE))
    answer.spell('{"name": "f", "arguments": ')
    assert answer.watch.matcher is None
    answer.spell("{")
    assert answer.may_come == {"}"}
    answer.follow()
    assert answer.text == BARE


@pytest.mark.parametrize(
    "text", ['{"name": "g", "arguments": {"a": 1}}', '{"city": "f"}', '{"name" : "f", "arguments": {"a": 2}}']
)
def test_json_is_never_made_a_call(text: str) -> None:
    """It names no tool, or is written as the constraint does not have it: whoever reads it says what it is."""
    answer = Answer(calls=OneOf(WORDS, BARE))
    answer.spell(text)
    assert (answer.text, answer.watch.matcher) == (text, None)
    answer.draw(END)
    assert answer.tokens[-1] == END


def test_a_word_that_may_begin_a_call_holds_nothing_back() -> None:
    """``Action:`` stands in many a text."""
    rules = AnswerRules(calls=CallRules(Kind.JSON, start="Action:"))
    held = 'Action:{"name": "f", "arguments": {}}'
    answer = Answer(rules, calls=OneOf(WORDS, held))
    answer.spell("Action: buy now. Action:")
    assert answer.watch.matcher is None
    answer.spell('{"name": "f", "arguments": {')
    answer.follow()
    assert answer.text == "Action: buy now. " + held


def test_a_marker_of_control_tokens_is_fed_as_these() -> None:
    words = FakeWords(control=("<|call|>",))
    rules = AnswerRules(calls=CallRules(Kind.JSON, start="<|call|>"))
    answer = Answer(rules, words=words, calls=OneOf(words, '<|call|>{"name": "f"}'))
    answer.say("<|call|>")
    answer.follow()
    assert answer.text == '<|call|>{"name": "f"}'
    assert answer.tokens[0] == words.token("<|call|>")


@pytest.mark.parametrize("begun", ["Hm. <tool_c", "<tool_call>", "<tool_call>{", CALL[:-3], "Hm. <tool_call>"])
def test_a_call_that_was_begun_is_gone_on_with(begun: str) -> None:
    answer = Answer(calls=OneOf(WORDS, CALL), begun=begun)
    answer.spell(("Hm. " * begun.startswith("Hm") + CALL)[len(begun) :])
    assert answer.watch.is_complete


def test_begun_text_that_the_constraint_does_not_allow_is_left_alone() -> None:
    answer = Answer(calls=OneOf(WORDS, CALL), begun='<tool_call>{"name": 1')
    assert answer.watch.mask is None


# --- thoughts and the answer's form -----------------------------------------------------------------------------------


def test_a_form_holds_behind_thoughts_that_the_prompt_opened() -> None:
    answer = Answer(THINKS, answer=OneOf(WORDS, "yes", "no"), prompt_end="user\n<think>\n")
    answer.spell("Is it? ")
    assert answer.watch.mask is None
    answer.say("</think>")
    assert answer.may_come == {"\n\n"}, "what the model's layout has there"
    answer.say("\n\n")
    assert answer.may_come == {"y", "n"}
    answer.spell("no")
    assert answer.watch.is_complete


@pytest.mark.parametrize(
    ("last", "text"), [(">\n\n", "</think>\n\n"), (">x", "</think>\n\n"), (">oops", "</think>\n\n")]
)
def test_what_comes_with_the_end_of_thoughts_is_cut_where_it_is_refused(last: str, text: str) -> None:
    words = FakeWords(pieces=(">\n\n", ">x", ">oops", "\n\n"))
    answer = Answer(THINKS, words=words, answer=OneOf(words, "yes"), prompt_end="<think>", room=9)
    answer.spell("</think")
    answer.say(last)
    assert answer.text == text + "yes"


def test_what_comes_with_the_end_of_thoughts_may_be_the_answers_beginning() -> None:
    answer = Answer(THINKS, answer=OneOf(WORDS, "xy", "no"), prompt_end="<think>")
    answer.spell("</think")
    answer.say(">x")
    assert (answer.text, answer.may_come) == ("</think>x", {"y"})


def test_an_answer_may_think_first_or_begin() -> None:
    for first in ("<think>", "y"):
        answer = Answer(THINKS, answer=OneOf(WORDS, "yes", "no"), room=9)
        assert answer.may_come == {"<think>", "y", "n"}
        answer.say(first)
        if first == "<think>":
            assert (answer.text, answer.watch.mask) == ("<think>\n", None)
            answer.spell("Hm.")
            answer.say("</think>", "n")
            assert answer.text == "<think>\nHm.</think>\n\nno"
        else:
            assert (answer.text, answer.watch.is_complete) == ("yes", True)


def test_an_answer_that_may_not_think_does_not() -> None:
    assert Answer(THINKS, answer=OneOf(WORDS, "yes"), may_think=False).may_come == {"y"}
    assert Answer(answer=OneOf(WORDS, "yes")).may_come == {"y"}


def test_thoughts_and_answer_may_begin_alike() -> None:
    rules = AnswerRules(Reasoning("<|channel|>analysis", "<|end|>"))
    for text in ("<|channel|>final", "<|channel|>analysisHm.<|end|>"):
        answer = Answer(rules, words=FakeWords(), answer=OneOf(FakeWords(), "<|channel|>final"))
        answer.spell(text)
        answer.follow()
        assert answer.text == text + "<|channel|>final" * ("analysis" in text)
        assert answer.watch.is_complete


def test_an_end_among_the_thoughts_is_that_of_the_thoughts() -> None:
    answer = Answer(THINKS, answer=OneOf(WORDS, "yes"), prompt_end="<think>", room=99)
    answer.spell("Hm.")
    answer.draw(END)
    assert answer.text == "Hm.\n</think>\n\nyes"


def test_what_was_begun_of_an_answer_counts() -> None:
    form = OneOf(WORDS, "yes", "yellow")
    assert Answer(THINKS, answer=form, prompt_end="<think>", begun="Hm.</think>\n\nye").may_come == {"s", "l"}
    assert Answer(THINKS, answer=form, begun="<think>Hm.</think>\n\ny").may_come == {"e"}
    assert Answer(THINKS, answer=form, begun="<think>Hm.").watch.mask is None
    assert Answer(THINKS, answer=form, begun="yel").may_come == {"l"}
    assert Answer(THINKS, answer=form, begun="Here it is: ").may_come == {"y"}, "words that are none of the form"


# --- how long it may think --------------------------------------------------------------------------------------------


def test_thoughts_are_ended_after_so_many_tokens() -> None:
    answer = Answer(THINKS, prompt_end="<think>", thought_tokens=5)
    answer.spell("Hm. B")
    answer.follow()
    assert answer.text == "Hm. B\n</think>\n\n"
    answer.spell("Yes")
    assert answer.watch.is_over


@pytest.mark.parametrize(("prompt_end", "begun"), [("<think>", "Hm, "), ("", "<think>Hm, ")])
def test_what_was_thought_before_an_answer_broke_off_counts(prompt_end: str, begun: str) -> None:
    answer = Answer(THINKS, prompt_end=prompt_end, begun=begun, thought_tokens=6)
    answer.say("S")
    assert answer.watch.mask is None
    answer.say("o")
    answer.follow()
    assert answer.text == "So\n</think>\n\n"
    for spent in (4, 3):
        answer = Answer(THINKS, prompt_end=prompt_end, begun=begun, thought_tokens=spent)
        answer.follow()
        assert answer.text.strip() == "</think>", "nothing is left"


def test_thoughts_of_no_tokens() -> None:
    answer = Answer(THINKS, prompt_end="<think>", thought_tokens=0)
    answer.follow()
    assert answer.text == "\n</think>\n\n"
    answer = Answer(THINKS, thought_tokens=0, answer=OneOf(WORDS, "yes"), room=99)
    answer.say("<think>")
    assert answer.text == "<think>\n</think>\n\nyes"


def test_thoughts_are_not_ended_within_a_character_or_a_marker() -> None:
    answer = Answer(THINKS, prompt_end="<think>", thought_tokens=1)
    answer.draw(0xC3)
    assert answer.watch.mask is None
    answer.draw(0xA9)
    answer.follow()
    assert answer.text == "é\n</think>\n\n"
    answer = Answer(THINKS, words=FakeWords(), prompt_end="<think>", thought_tokens=6)
    answer.spell("Hm.\n</")
    answer.follow()
    assert answer.text == "Hm.\n</think>\n\n"


def test_an_answer_with_nothing_to_see_is_left_alone() -> None:
    answer = Answer(THINKS, thought_tokens=3)
    assert not answer.watch.is_over
    answer.spell("Yes")
    assert answer.watch.is_over


def test_calls_behind_thoughts_that_were_ended() -> None:
    answer = Answer(THINKS, prompt_end="<think>", thought_tokens=2, calls=OneOf(WORDS, CALL), room=99)
    answer.spell("Hm")
    assert answer.text == "Hm\n</think>\n\n"
    answer.spell("<tool_call>")
    assert answer.text.endswith(CALL)


def test_a_prompt_may_have_a_markers_beginning() -> None:
    rules = AnswerRules(wraps=(">>>all\n",), prompted=">>>", calls=CallRules(Kind.NAMED, start=">>>", name_end=r"\n"))
    words = FakeWords()
    assert Answer(rules, words=words, answer=OneOf(words, ">>>all\nyes"), prompt_end="\n>>>").may_come == {"a"}
    answer = Answer(rules, words=words, calls=OneOf(words, '>>>f\n{"a": 1}'), prompt_end="\n>>>")
    answer.spell("f\n{")
    answer.follow()
    assert answer.text == 'f\n{"a": 1}'
