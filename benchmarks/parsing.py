"""What a worker pays to take an answer apart: processor time a token, in what models write."""

from __future__ import annotations

import time
from statistics import median

from benchmarks.report import Row
from janflask.parsing.answer import AnswerParser
from janflask.parsing.calls import GENERIC, CallRules, Kind
from janflask.parsing.rules import AnswerRules, Reasoning

ROUNDS = 7
TOKEN = 4  # characters, as most vocabularies have them in English
TARGET = 20.0  # microseconds
TOOLS = {
    f"tool_{i}": {"type": "object", "properties": {"text": {"type": "string"}, "n": {"type": "integer"}}}
    for i in range(58)
}
THINKING = Reasoning("<think>", "</think>")
TAGS = CallRules(
    Kind.TAGGED,
    start="<tool_call>\n<function=",
    name_end=">",
    key="<parameter=",
    key_end=">",
    value_end="</parameter>",
    end="</function>\n</tool_call>",
)
WORDS = "So it goes, and <b>this</b> is `code`, a list [1, 2] and an object {a: 1}. " * 60
ARGUMENTS = '{"text": "' + 'a line of \\"code\\" and [some] {more}\\n' * 60 + '", "n": 12}'
ANSWERS: dict[str, tuple[AnswerRules, bool, str]] = {
    "words, no tools": (AnswerRules(THINKING), False, WORDS),
    "words, 58 tools": (AnswerRules(THINKING), True, WORDS),
    "thoughts and words, 58 tools": (AnswerRules(THINKING), True, f"<think>{WORDS}</think>\n\n{WORDS}"),
    "a call as JSON": (
        AnswerRules(calls=GENERIC),
        True,
        f'<tool_call>\n{{"name": "tool_7", "arguments": {ARGUMENTS}}}\n</tool_call>',
    ),
    "a call between tags": (
        AnswerRules(calls=TAGS),
        True,
        f"<tool_call>\n<function=tool_7>\n<parameter=text>\n{WORDS}\n</parameter>\n</function>\n</tool_call>",
    ),
}


def run() -> list[Row]:
    """Each kind of answer by itself."""
    return [
        Row(f"microseconds a token: {name}", _cost(*answer), TARGET, "us", at_least=False)
        for name, answer in ANSWERS.items()
    ]


def _cost(rules: AnswerRules, has_tools: bool, text: str) -> float:
    pieces = [text[i : i + TOKEN] for i in range(0, len(text), TOKEN)]
    costs = []
    for _ in range(ROUNDS):
        parser = AnswerParser(rules, 0, TOOLS if has_tools else None)
        parser.begin("")
        started = time.process_time_ns()
        for piece in pieces:
            parser.feed(piece)
        parser.finish()
        costs.append((time.process_time_ns() - started) / 1000 / len(pieces))
    return median(costs)
