"""What a message is made of."""

from __future__ import annotations

from dataclasses import dataclass

GAP = "\n\n"  # between what was said, or thought, at several places that a model is shown as one


@dataclass(frozen=True, slots=True)
class TextPart:
    """Words."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A picture, by its URL (``data:`` too)."""

    url: str
    detail: str | None = None  # OpenAI's: low, high, auto


@dataclass(frozen=True, slots=True)
class FilePart:
    """An uploaded file, by its id."""

    file_id: str
    filename: str | None = None


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """What an assistant thought before it answered."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """What an assistant wants to be called; ``arguments`` is JSON as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResultPart:
    """What a tool said; ``call_id`` is None where the client did not tell which call it answers."""

    text: str
    call_id: str | None = None


Part = TextPart | ImagePart | FilePart | ReasoningPart | ToolCallPart | ToolResultPart
