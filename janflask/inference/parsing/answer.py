"""One answer as it grows: the model's own text in, deltas out, the same ones joined wherever the text is cut."""

from __future__ import annotations

import re
from enum import Enum

from janflask.inference.deltas import Delta, ReasoningDelta, TextDelta
from janflask.inference.parsing.markers import Markers
from janflask.inference.parsing.rules import AnswerRules

_TAG = re.compile(r"<[^<>]*>|\[[^\[\]]*\]")


class _State(Enum):
    LEAD = 0  # at the beginning, or behind a block: another may begin
    THOUGHT_LEAD = 1  # a block is open, and nothing was thought yet
    THOUGHT = 2
    TEXT = 3


class AnswerParser:
    """One choice. What it thinks comes without the blanks around it, and so does an answer behind thoughts."""

    def __init__(self, rules: AnswerRules, index: int = 0) -> None:
        self._index = index
        self._rules = rules
        reasoning = rules.reasoning
        self._start = "" if reasoning is None else reasoning.start
        self._leading = Markers((self._start, *rules.wraps))
        self._restart = Markers((self._start,))
        self._thought_end = Markers(() if reasoning is None else (reasoning.end,))
        self._text_ends = Markers(rules.ends)
        self._held = ""  # what may be the beginning of a marker
        self._state = _State.TEXT if rules.is_plain else _State.LEAD
        self._has_thought = False  # a block was closed, or a wrap opened: blanks that follow are the layout's
        self._is_wrapped = False

    @property
    def thinks(self) -> bool:
        """Whether a block of thoughts is open."""
        return self._state in (_State.THOUGHT_LEAD, _State.THOUGHT)

    @property
    def is_through(self) -> bool:
        """Whether all that follows is text, to be handed on as it is."""
        return self._state is _State.TEXT and not self._is_wrapped and not self._held

    def begin(self, prompt: str, begun: str = "") -> None:
        """Goes on behind a prompt, and behind what of the answer follows it already, which is not told again."""
        if self._rules.opens(prompt):
            self._state = _State.THOUGHT_LEAD
        self.feed(begun)
        if self._state is _State.LEAD:
            self._held = self._held.lstrip()

    def feed(self, text: str) -> list[Delta]:
        """What is certain by now."""
        deltas: list[Delta] = []
        self._held += text
        while self._step(deltas):
            pass
        return deltas

    def finish(self) -> list[Delta]:
        """What was held back when nothing more comes: it was no marker."""
        held, self._held = self._held, ""
        if self._state is _State.LEAD:
            held = held.lstrip() if self._has_thought else held
        elif self._state is _State.TEXT and self._is_wrapped and _TAG.match(held):
            return []  # the answer's end, of which the model's last token is never told
        elif self.thinks:
            held = held.strip() if self._state is _State.THOUGHT_LEAD else held.rstrip()
        return [self._delta(held)] if held else []

    def _step(self, deltas: list[Delta]) -> bool:
        """Whether there is more to be done with what is held."""
        if not self._held:
            return False
        match self._state:
            case _State.LEAD:
                return self._lead(deltas)
            case _State.THOUGHT_LEAD:
                return self._thought_lead()
            case _State.THOUGHT:
                return self._thought(deltas)
        return self._text(deltas)

    def _lead(self, deltas: list[Delta]) -> bool:
        said = self._held.lstrip()
        found = self._leading.leading(said)
        if found.start == 0 and found.marker is None:
            return False
        if found.marker is None:
            self._held = said if self._has_thought else self._held
            self._state = _State.TEXT
            return True
        self._held = said[found.end :]
        if found.marker == self._start:
            self._state = _State.THOUGHT_LEAD
        else:
            self._state, self._is_wrapped = _State.TEXT, True
        return True

    def _thought_lead(self) -> bool:
        """Some models open once more what the prompt opened."""
        said = self._held.lstrip()
        found = self._restart.leading(said)
        if found.start == 0 and found.marker is None:
            return False
        self._held = said[found.end :] if found.marker else said
        if not found.marker:
            self._state = _State.THOUGHT
        return True

    def _thought(self, deltas: list[Delta]) -> bool:
        found = self._thought_end.find(self._held)
        thought = self._held[: found.start].rstrip()
        if thought:
            deltas.append(ReasoningDelta(self._index, thought))
        if found.marker is None:
            self._held = self._held[len(thought) :]
            return False
        self._held, self._state, self._has_thought = self._held[found.end :], _State.LEAD, True
        return True

    def _text(self, deltas: list[Delta]) -> bool:
        if not self._is_wrapped:
            deltas.append(TextDelta(self._index, self._held))
            self._held = ""
            return False
        found = self._text_ends.find(self._held)
        if found.start:
            deltas.append(TextDelta(self._index, self._held[: found.start]))
        self._held = self._held[found.end if found.marker else found.start :]
        if found.marker:
            self._state, self._is_wrapped, self._has_thought = _State.LEAD, False, True
        return found.marker is not None

    def _delta(self, text: str) -> Delta:
        return ReasoningDelta(self._index, text) if self.thinks else TextDelta(self._index, text)
