"""One streamed answer as it comes: its words, its calls, and why it is not what was asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

from janflask.cli.client import Event, ServerError, error_of

THINKING = "thinking"
CUT = "the answer was cut before it was finished, and is no whole JSON: allow more tokens, or ask for less"


class Answer:
    """``held`` says that the answer is held to a schema: one that was cut is of no use then."""

    def __init__(self, *, held: bool) -> None:
        self.text = ""
        self._held = held
        self._refusal = ""
        self._calls: dict[int, list[str]] = {}  # name and arguments, by their number
        self._is_cut = False

    def take(self, data: str) -> Event:
        """What to show of a chunk; an error in it is raised as ServerError."""
        chunk = parsed(data, "chunk")
        choice: Mapping[str, Any] = (chunk.get("choices") or [{}])[0]
        delta: Mapping[str, Any] = choice.get("delta") or {}
        self._is_cut = self._is_cut or choice.get("finish_reason") == "length"
        for call in delta.get("tool_calls") or ():
            function = call.get("function") or {}
            name_and_arguments = self._calls.setdefault(call.get("index") or 0, ["", ""])
            for place, field in enumerate(("name", "arguments")):
                name_and_arguments[place] += str(function.get(field) or "")
        if delta.get("reasoning_content"):
            return Event(THINKING, comment=True)
        return self.say(delta.get("content"), delta.get("refusal"))

    def say(self, text: object, refusal: object = None, *, is_cut: bool = False) -> Event:
        """Words, to be shown, and what speaks against them, which is kept for the end."""
        said = str(text or "")
        self.text += said
        self._refusal += str(refusal or "")
        self._is_cut = self._is_cut or is_cut
        return Event(said)

    def end(self) -> Iterator[Event]:
        """The calls, to be shown when nothing more comes. Raises ClickException for an answer that is no good."""
        if self._calls:
            shown = "\n".join(f"{name}({arguments})" for _, (name, arguments) in sorted(self._calls.items()))
            yield Event(f"\n{shown}" if self.text else shown)
        if self._refusal:
            raise click.ClickException(self._refusal)
        if self._held and self._is_cut:
            raise click.ClickException(CUT)


def parsed(data: str, what: str) -> dict[str, Any]:
    """The object in an event; an error in it, or something else, is raised as ServerError."""
    try:
        found = json.loads(data)
    except ValueError:
        raise ServerError(f"the server sent a {what} that is no JSON: {data[:80]!r}") from None
    if not isinstance(found, dict) or "error" in found:
        raise error_of(found, fallback="the answer ended with an error")
    return found
