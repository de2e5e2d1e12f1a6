"""What tests of responses share: models that think and call, and events as the SDK's own types have them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pydantic
from openai.types.responses import Response, ResponseStreamEvent

from tests.unit.api.conftest import World

THINKING = (
    "{% for m in messages %}<{{ m.role }}>{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n"
    "{% endif %}{{ m.content }}<end>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
WORDS = [
    "output_item.added",
    "content_part.added",
    "output_text.delta",
    "output_text.done",
    "content_part.done",
    "output_item.done",
]  # the kinds of a message's events
THOUGHT = ("<thi", "nk>\nHm", ", so", "\n</think>", "\n\nHello", "!")
FUNCTION: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather at a place.",
    "parameters": {
        "type": "object",
        "properties": {"place": {"type": "string"}},
        "required": ["place"],
        "additionalProperties": False,
    },
    "strict": True,
}
LINE = '<tool_call>\n{"name": "%s", "arguments": {"%s": "%s"}}\n</tool_call>'
CALLED = LINE % ("get_weather", "place", "Paris")

_EVENT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseStreamEvent)


def layout(world: World, template: str) -> None:
    """The model's chat template."""
    world.runs_as(chat_template=template, ctx_len=4096)


def strict(answer: Response) -> Response:
    """The SDK builds objects without checking; this checks."""
    Response.model_validate(answer.to_dict(warnings=False), strict=True)
    return answer


def checked(events: Iterable[Any]) -> list[Any]:
    """All events, each checked by its own type; numbered from 0, and of one response.

    Without those that fill a silence: they say again that it is in progress, with the number of the newest event.
    """
    found: list[Any] = []
    for event in events:
        if not (event.type == "response.in_progress" and found and found[-1].sequence_number == event.sequence_number):
            found.append(event)
    for event in found:
        if not hasattr(event, "snapshot") and not hasattr(event, "parsed"):  # the helper's own kinds
            _EVENT.validate_python(event.to_dict(warnings=False), strict=True)
    numbers = [event.sequence_number for event in found]
    assert numbers == list(range(len(found))), (numbers, [event.type for event in found])
    assert len({event.response.id for event in found if hasattr(event, "response")}) == 1
    return found


def told(events: Iterable[Any]) -> list[dict[str, Any]]:
    """Events or answers as JSON, to compare and to look into."""
    return [event.to_dict(warnings=False) for event in events]


def kinds(events: Iterable[Any]) -> list[str]:
    """Their names, without what all have in front; deltas that follow each other once."""
    names: list[str] = []
    for event in events:
        name = event.type.removeprefix("response.")
        if not (name.endswith(".delta") and names[-1:] == [name]):
            names.append(name)
    return names


def files(world: World) -> set[Path]:
    """All that is on the disk beside models."""
    return {path for path in world.settings.data_dir.rglob("*") if "models" not in path.parts}
