"""The layouts that are written down here: Jan's ``prompt_template``, ChatML, and plain text.

Jan's template describes one exchange. Its text is cut at the two places: ``before {system_message} between {prompt}
after``. A conversation is ``before``, the system message, then for each turn ``between``, the user's words, ``after``,
the assistant's answer; the last turn ends with ``after``. Without ``{system_message}`` in it, the system message goes
in front of the first user's words.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from janflask.errors import ConflictError
from janflask.inference.parts import ToolCallPart
from janflask.inference.requests import ChatMessage, Tool

CHATML_STOPS = ("<|im_end|>",)
PLAIN_STOPS = ("\n\nUser:", "\nUser:")


def render_chatml(messages: Sequence[ChatMessage], *, ask: bool = True) -> str:
    """ChatML, for a model that knows its words and says nothing of a layout."""
    turns = "".join(f"<|im_start|>{message.role}\n{message.text}<|im_end|>\n" for message in messages)
    return turns + "<|im_start|>assistant\n" * ask


def render_plain(messages: Sequence[ChatMessage], *, ask: bool = True) -> str:
    """A transcript in words that every vocabulary has. The answer begins on a line of its own, without a blank."""
    turns = "".join(f"{message.role.capitalize()}:\n{message.text}\n\n" for message in messages)
    return turns + "Assistant:\n" * ask


def render_jan(template: str, messages: Sequence[ChatMessage], *, ask: bool = True) -> str:
    """Jan's ``prompt_template`` over a whole conversation. Raises ConflictError when it has no ``{prompt}``."""
    head, placeholder, after = template.partition("{prompt}")
    if not placeholder:
        raise ConflictError("the model's settings.prompt_template holds no {prompt}: add it, or remove the template")
    before, has_system, between = head.partition("{system_message}")
    if not has_system:
        before, between = "", head
    system = "\n\n".join(message.text for message in messages if message.role == "system")
    turns: list[list[list[str]]] = [[[], []]]  # for each turn what the user's side said, and the assistant's
    for message in messages:
        if message.role == "assistant":
            turns[-1][1].append(message.text)
        elif message.role != "system":
            if turns[-1][1]:
                turns.append([[], []])
            turns[-1][0].append(message.text)
    if ask and turns[-1][1]:  # the assistant spoke last: the next words are asked of it without new ones from the user
        turns.append([[], []])
    if system and not has_system:
        turns[0][0].insert(0, system)
    text = "".join(between + "\n\n".join(asked) + after + "\n\n".join(said) for asked, said in turns)
    return before + (system if has_system else "") + text


# --- tools, for models whose layout has no place for them -------------------------------------------------------------


def told_tools(tools: Sequence[Tool]) -> str:
    """What a system message says of tools, in the words that many models were trained with (Hermes, Qwen)."""
    listed = "\n".join(json.dumps(tool.as_told(), ensure_ascii=False) for tool in tools)
    return (
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        f"You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n{listed}\n</tools>\n\n"
        "For each function call, return a json object with function name and arguments within <tool_call></tool_call> "
        'XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
    )


def said_with_calls(text: str, calls: Sequence[ToolCallPart]) -> str:
    """An assistant's words and its calls."""
    written = [
        f'<tool_call>\n{{"name": {json.dumps(call.name, ensure_ascii=False)}, "arguments": {call.arguments or "{}"}}}'
        "\n</tool_call>"
        for call in calls
    ]
    return "\n".join(filter(None, (text, *written)))


def told_result(text: str) -> str:
    """A tool's result, as the user says it."""
    return f"<tool_response>\n{text}\n</tool_response>"
