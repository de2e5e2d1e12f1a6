"""An answer's text taken apart: thoughts from words, wherever it is cut."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from janflask.inference.deltas import Delta, Done, Event, Finished, ReasoningDelta, TextDelta, ToolCallDelta
from janflask.inference.local.reading import Reading, read
from janflask.ipc.messages.generation import FinishReason
from janflask.parsing.answer import AnswerParser
from janflask.parsing.deltas import TokenLogprob
from janflask.parsing.markers import Found, Markers
from janflask.parsing.rules import PLAIN, AnswerRules, Reasoning
from tests.fakes.scripted import DONE

THINK = AnswerRules(Reasoning("<think>", "</think>", "<think>\n", "\n</think>\n\n"))
COMMAND = AnswerRules(
    Reasoning("<|START_THINKING|>", "<|END_THINKING|>"), ("<|START_TEXT|>",), ("<|END_TEXT|><|END_OF_TURN|>",)
)
HARMONY = AnswerRules(
    Reasoning("<|channel|>analysis<|message|>", "<|end|><|start|>assistant"),
    ("<|channel|>final<|message|>", "<|channel|>commentary<|message|>"),
    ("<|end|><|start|>assistant",),
)


def joined(deltas: Iterable[Delta]) -> tuple[str, str]:
    """What was thought, and what was said."""
    texts: dict[type, list[str]] = {ReasoningDelta: [], TextDelta: []}
    for delta in deltas:
        assert isinstance(delta, ReasoningDelta | TextDelta)
        texts[type(delta)].append(delta.text)
    return "".join(texts[ReasoningDelta]), "".join(texts[TextDelta])


def parsed(rules: AnswerRules, *pieces: str, prompt: str = "", begun: str = "") -> tuple[str, str]:
    parser = AnswerParser(rules)
    parser.begin(prompt, begun)
    return joined([delta for piece in pieces for delta in parser.feed(piece)] + parser.finish())


@pytest.mark.parametrize(
    ("rules", "prompt", "text", "thought", "said"),
    [
        (THINK, "", "<think>\nHm, so.\n</think>\n\nHello!\n", "Hm, so.", "Hello!\n"),
        (THINK, "", "\n <think>Hm</think>Hello", "Hm", "Hello"),
        (THINK, "a:<think>\n", "Hm\n</think>\n\nHello", "Hm", "Hello"),
        (THINK, "a:<think>\n", "<think>\nHm\n</think>\n\nHello", "Hm", "Hello"),  # opened once more
        (THINK, "a:<think>", "Hm", "Hm", ""),  # max_tokens came first
        (THINK, "a:<think>", " ", "", ""),
        (THINK, "", "<think>\n\n</think>\n\nHello", "", "Hello"),
        (THINK, "a:<think>\n\n</think>\n\n", "Hello", "", "Hello"),
        (THINK, "", "<think>a<b </thin </think>c", "a<b </thin", "c"),
        (THINK, "", "<think>a\n\nb</think></think>c", "a\n\nb", "</think>c"),
        (THINK, "", "<think>a</think> <think>b</think> c", "ab", "c"),
        (THINK, "", "  Hello <think>x</think>", "", "  Hello <think>x</think>"),  # it speaks of the tag
        (THINK, "", "<thinking>", "", "<thinking>"),
        (THINK, "", "  <thi", "", "  <thi"),
        (THINK, "", " \n", "", " \n"),
        (THINK, "", "<think>ä€😀</think>😀", "ä€😀", "😀"),
        (COMMAND, "", "<|START_THINKING|>Hm<|END_THINKING|><|START_TEXT|>Hi <|END_TEXT|>", "Hm", "Hi "),
        (COMMAND, "a<|START_THINKING|>", "Hm<|END_THINKING|><|START_TEXT|>Hi<|END_TEXT|><|END_OF_TURN|>", "Hm", "Hi"),
        (COMMAND, "<|START_THINKING|><|END_THINKING|>", "<|START_TEXT|>Hi <|END_T", "", "Hi <|END_T"),
        (COMMAND, "", "Hi <|END_TEXT|> you", "", "Hi <|END_TEXT|> you"),
        (
            HARMONY,
            "<|start|>assistant",
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>b<|end|>"
            "<|start|>assistant<|channel|>analysis<|message|>c<|end|><|start|>assistant<|channel|>final<|message|>d",
            "ac",
            "bd",
        ),
        (PLAIN, "a:<think>", " <think>a</think>b", "", " <think>a</think>b"),
    ],
)
def test_wherever_it_is_cut(rules: AnswerRules, prompt: str, text: str, thought: str, said: str) -> None:
    assert parsed(rules, text, prompt=prompt) == (thought, said)
    assert parsed(rules, *text, prompt=prompt) == (thought, said)
    for cut in range(1, len(text)):
        assert parsed(rules, text[:cut], text[cut:], prompt=prompt) == (thought, said), cut


def test_no_more_is_held_back_than_may_become_a_marker() -> None:
    parser = AnswerParser(THINK)
    assert [joined(parser.feed(piece)) for piece in ("<", "think>", "a", " <", "b", " ", "c</", "think", ">", "d")] == [
        ("", ""), ("", ""), ("a", ""), ("", ""), (" <b", ""), ("", ""), (" c", ""), ("", ""), ("", ""), ("", "d")
    ]  # fmt: skip
    assert parser.is_through


def test_what_has_no_thoughts_is_handed_on_from_its_first_word() -> None:
    parser = AnswerParser(THINK)
    assert joined(parser.feed("\n")) == ("", "")
    assert joined(parser.feed("H")) == ("", "\nH")
    assert parser.is_through


@pytest.mark.parametrize(
    ("prompt", "thought", "said", "written"),
    [
        ("", "Hm", "", "<think>\nHm"),
        ("a<think>\n", "Hm", "", "Hm"),
        ("", "Hm", "Hi", "<think>\nHm\n</think>\n\nHi"),
        ("a<think>\n", "Hm", "Hi", "Hm\n</think>\n\nHi"),
        ("", "", "Hi", "Hi"),
        ("a<think>\n", "", "", ""),
    ],
)
def test_what_broke_off_goes_on_where_it_was(prompt: str, thought: str, said: str, written: str) -> None:
    assert THINK.written(prompt, thought, said) == written
    goes_on = " more</think>Yes" if not said else " there"
    whole = parsed(THINK, written + goes_on, prompt=prompt)
    told = parsed(THINK, goes_on, prompt=prompt, begun=written)
    if written:
        assert (thought + told[0], said + told[1]) == whole


@pytest.mark.parametrize(
    ("rules", "begun", "goes_on", "told"),
    [
        (THINK, "<thi", "s is", ("", "s is")),
        (THINK, "<thi", "nk>Hm", ("Hm", "")),
        (THINK, "<", "", ("", "")),
        (THINK, "<think>Hm</thi", "s", ("s", "")),
        (THINK, "<think>Hm</thi", "nk>Yes", ("", "Yes")),
        (THINK, "<think>a ", " b", (" b", "")),
        (THINK, "<think><thi", "s", ("s", "")),
        (COMMAND, "<|START_TEXT|>Hi <|END", "s", ("", "s")),
    ],
)
def test_half_a_marker_that_was_begun_is_not_told_again(
    rules: AnswerRules, begun: str, goes_on: str, told: tuple[str, str]
) -> None:
    assert parsed(rules, goes_on, begun=begun) == told
    assert parsed(rules, *goes_on, begun=begun) == told


@pytest.mark.parametrize(
    "begun", ["Sure.  ", "a <", "some ``", "Hm <tool_call>", "Hm <tool_ca", "<tool_call>\n{", "", " "]
)
@pytest.mark.parametrize("goes_on", ["b", " b", "` b", "\n\n<b>", "<tool_call> b", "", " "])
def test_what_was_begun_where_calls_may_come_is_not_told_again(begun: str, goes_on: str) -> None:
    def answer(begun: str, goes_on: str) -> str:
        parser = AnswerParser(PLAIN, tools={"go": {}})
        parser.begin("", begun)
        return joined([delta for piece in goes_on for delta in parser.feed(piece)] + parser.finish())[1]

    assert begun + answer(begun, goes_on) == answer("", begun + goes_on)


def test_markers_at_a_place_are_found_whole() -> None:
    markers = Markers(("<a>", "<a><b>", "x"))
    assert markers.find("1<a><b>2") == Found(1, 7, "<a><b>")
    assert markers.find("1<a>2<b>") == Found(1, 4, "<a>")
    assert markers.find("1<a><") == Found(1, 1, None)
    assert markers.find("1<a") == Found(1, 1, None)
    assert markers.find("1<") == Found(1, 1, None)
    assert markers.find("12") == Found(2, 2, None)
    assert markers.find("1<a><x") == Found(1, 4, "<a>")
    assert Markers(()).find("<a>") == Found(3, 3, None)


def token(text: str) -> TokenLogprob:
    return TokenLogprob(text, text.encode(), -0.5, 1)


def stream(rules: AnswerRules, *events: Event) -> list[Event]:
    return [event for batch in read([[event] for event in events], Reading(rules, "")) for event in batch]


def test_log_probabilities_stay_with_their_tokens() -> None:
    tokens = ["<think>", "Hm", " </", "think>", "Hi", "!"]
    deltas = [TextDelta(0, text, (token(text),)) for text in tokens]
    events = stream(THINK, *deltas, Finished(0, "stop"), DONE)
    listed = [known.token for event in events if isinstance(event, TextDelta) for known in event.logprobs]
    assert listed == tokens
    assert joined(event for event in events if isinstance(event, TextDelta | ReasoningDelta)) == ("Hm", "Hi!")
    assert isinstance(events[-1], Done)
    assert events[-1].usage.reasoning_tokens == 4


def test_each_choice_is_read_by_itself() -> None:
    texts = [(0, "<think>a"), (1, "x"), (0, "b</think>"), (1, "<think>y"), (0, "c")]
    events = stream(THINK, *[TextDelta(*text) for text in texts], Finished(0, "stop"), Finished(1, "length"), DONE)
    assert events[:-1] == [
        ReasoningDelta(0, "a"),
        TextDelta(1, "x"),
        ReasoningDelta(0, "b"),
        TextDelta(1, "<think>y"),
        TextDelta(0, "c"),
        Finished(0, "stop"),
        Finished(1, "length"),
    ]


def test_a_choices_last_words_come_before_its_end() -> None:
    assert stream(THINK, TextDelta(0, " <th"), Finished(0, "length"))[-2:] == [
        TextDelta(0, " <th"),
        Finished(0, "length"),
    ]


@pytest.mark.parametrize(
    ("called", "cut", "reason", "said"),
    [
        (True, '{"name": "lo', "length", ""),
        (True, '\n{"', "length", ""),
        (True, '{"name": "lo', "stop", '{"name": "lo'),
        (False, '{"name": "lo', "length", '{"name": "lo'),
    ],
)
def test_a_further_call_that_was_cut_before_its_name_is_no_text(called: bool, cut: str, reason: str, said: str) -> None:
    pieces = ['{"name": "look", "arguments": {}}\n'] * called + [cut]
    batches: list[list[Event]] = [[TextDelta(0, piece)] for piece in pieces]
    answers = read([*batches, [Finished(0, FinishReason(reason))]], Reading(THINK, "", tools={"look": {}}))
    events = [event for batch in answers for event in batch]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == said
    assert len({event.call for event in events if isinstance(event, ToolCallDelta)}) == called


def test_where_nothing_is_to_be_read_the_events_are_the_same_objects() -> None:
    batch: list[Event] = [TextDelta(0, "<think>a")]
    assert next(iter(read([batch], Reading(PLAIN, "")))) is batch
    answers = read([[TextDelta(0, "a")], batch], Reading(THINK, ""))
    next(answers)
    assert next(answers)[0] is batch[0]
