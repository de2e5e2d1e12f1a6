"""Whether all that was said is in the prompt: a chat template drops what it does not understand without a word.

Two looks, each linear in the prompt's length. ``marked`` makes the same conversation with a mark for every message's
words: rendered, it shows which messages a template leaves out, however common their words are. ``left_out`` looks for
the words themselves, since a template may decide by them. The assistant's are not looked for: templates take away on
purpose what an answer was preceded by in thought.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from janflask.inference.requests import ChatMessage

MARK = re.compile(r"Qz(\d+)zQ")
MAX_MOVED = 100  # messages that may stand out of their order: each costs a look through the whole prompt


def marked(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """A tool's result stays as it is: templates read it as JSON."""
    return [
        message.saying(f"Qz{number}zQ") if _is_looked_for(message) else message
        for number, message in enumerate(messages)
    ]


def unmarked(text: str, messages: Sequence[ChatMessage], *, answers: bool = True) -> int | None:
    """The place of the first of ``messages`` whose mark is not in ``text``; without ``answers`` the assistant's may."""
    found = {int(number) for number in MARK.findall(text)}
    for number, message in enumerate(messages):
        if number not in found and _is_looked_for(message) and (answers or message.role != "assistant"):
            return number
    return None


def left_out(text: str, messages: Sequence[ChatMessage]) -> int | None:
    """The place of the first of ``messages`` whose words are not in ``text``, each in its order.

    Templates trim and indent, write JSON, and take out words that command them (``/no_think``): these are no faults.
    """
    moved = 0
    places: dict[str, int] = {}  # of each role's words looked for last: a role's messages come in their order
    for number, message in enumerate(messages):
        if message.role == "assistant":
            continue
        place = _after(text, message.text, places.get(message.role, 0))
        if place < 0:
            moved += 1
            if moved > MAX_MOVED or _after(text, message.text, 0) < 0:
                return number
        else:
            places[message.role] = place
    return None


def _is_looked_for(message: ChatMessage) -> bool:
    return message.role != "tool" and bool(message.text.strip())


def _after(text: str, content: str, start: int) -> int:
    """Where the words of ``content``, as they are or as JSON, end in ``text``; -1 if they are not all there."""
    for form in dict.fromkeys((content, json.dumps(content, ensure_ascii=False)[1:-1], json.dumps(content)[1:-1])):
        place = start
        for word in re.split(r"\s+|\\n|\\t", form) if form is not content else content.split():
            if "/" in word:  # may be taken out here and stand further on, where the words behind it do not
                continue
            found = text.find(word, place)
            if found < 0:
                break
            place = found + len(word)
        else:
            return place
    return -1
