"""What may stand behind the last call: a line break, which many models write in one token with the last bracket.

Whoever may not end there goes on, and the only way on is another call.
"""

from __future__ import annotations

import pytest

from janflask.inference.calls.grammar import of_calls
from janflask.inference.requests import Tool
from janflask.parsing.calls import GENERIC, CallRules, Kind
from tests.fakes.walks import Vocabulary

TOOLS = (Tool("do_it", None, {"type": "object", "properties": {}}),)
BYTES = Vocabulary()
TAGGED = CallRules(
    Kind.TAGGED,
    start="<tool_call>\n<function=",
    end="</function>\n</tool_call>",
    name_end=">",
    key="<parameter=",
    key_end=r"\s*>",
    value_end="</parameter>",
)
CASES = {
    "with markers": (GENERIC, '<tool_call>\n{"name": "do_it", "arguments": {}}\n</tool_call>'),
    "without": (GENERIC.bare, '{"name": "do_it", "arguments": {}}'),
    "Llama 3": (CallRules(Kind.JSON, arguments_key="parameters"), '{"name": "do_it", "parameters": {}}'),
    "a name, then JSON": (CallRules(Kind.NAMED, start="<function=", name_end=">"), "<function=do_it>{}"),
    "tags": (TAGGED, "<tool_call>\n<function=do_it>\n</function>\n</tool_call>"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_line_break_may_stand_behind_the_last_call(case: str) -> None:
    rules, text = CASES[case]
    assert rules is not None
    several = of_calls(rules, TOOLS, parallel=True)
    assert BYTES.takes(several, text) is None
    assert BYTES.takes(several, f"{text}\n") is None
    assert BYTES.takes(several, f"{text}\n{text}\n") is None
    assert BYTES.takes(several, f"{text}\nx") is not None
    one = of_calls(rules, TOOLS, parallel=False)
    assert BYTES.takes(one, text) is None
    assert BYTES.takes(one, f"{text}\n") is not None, "nothing is left to be drawn behind the only call"
