"""One answer as it grows: the model's own text in, deltas out, the same ones joined wherever the text is cut."""

from __future__ import annotations

import re
from enum import Enum

import msgspec

from janflask.parsing.call_parser import CallParser, Schemas
from janflask.parsing.calls import CallRules
from janflask.parsing.deltas import Delta, ReasoningDelta, TextDelta, ToolCallDelta
from janflask.parsing.markers import TAG, Markers
from janflask.parsing.rules import AnswerRules


class _State(Enum):
    LEAD = 0  # at the beginning, or behind a block: another may begin
    THOUGHT_LEAD = 1  # a block is open, and nothing was thought yet
    THOUGHT = 2
    TEXT = 3
    CALLS = 4


FENCE = "```"  # of code, in which no call is meant
_MARKER = re.compile(r"<\S|\[[A-Z_]{2}")  # what is no word or bracket of a text
BARE = "{"  # begins a call without markers, which only an answer's beginning can be


class AnswerParser:
    """One choice. What it thinks comes without the blanks around it, and so does an answer behind thoughts or calls.

    Calls are looked for where there are ``tools``; without ``parallel`` those behind the first are not told. Where
    calls have markers they are also read without, unless not ``bare``: JSON may be what was asked for.
    """

    def __init__(
        self,
        rules: AnswerRules,
        index: int = 0,
        tools: Schemas | None = None,
        *,
        parallel: bool = True,
        bare: bool = True,
    ) -> None:
        self._index = index
        self._rules = rules
        self._tools = tools or {}
        self._parallel = parallel
        reasoning = rules.reasoning
        self._start = "" if reasoning is None else reasoning.start
        triggers = rules.calls.triggers if tools else ()
        self._bare = rules.calls.bare if triggers and bare else None
        leading = (*triggers, BARE) if self._bare or (tools and not triggers) else triggers
        self._triggers = frozenset(leading)
        self._leading = Markers((self._start, *rules.wraps, *leading))
        end = () if reasoning is None else (reasoning.end,)
        self._first = Markers((*self._leading.all, *end))  # some end thoughts that they never began
        self._further = Markers((*self._leading.all, *rules.ends))
        self._restart = Markers((self._start,))
        self._thought_end = Markers(end)
        self._in_text = Markers((*triggers, FENCE) if triggers else ())
        self._in_wrap = Markers((*rules.ends, *self._in_text.all))
        self._in_fence = Markers((FENCE,))
        self._held = ""  # what may be the beginning of a marker
        self._blank = ""  # what stands before what may be a call
        self._prompted = ""  # what stands in the prompt already and was fed nevertheless: never told
        self._state = _State.TEXT if rules.is_plain and not tools else _State.LEAD
        self._has_lead = False  # a block was closed, or a wrap opened: blanks that follow are the layout's
        self._ends_alone = bool(rules.ends and not rules.wraps)  # what ends words is known, and nothing leads them
        self._is_wrapped = self._is_code = False
        self._call_parser: CallParser | None = None
        self._is_marked = False  # the calls under way began with a marker
        self._n_calls = self._calls_before = 0
        self._ids: set[str] = set()  # of its calls
        self._told_again: list[Delta] = []

    @property
    def has_called(self) -> bool:
        """Whether it has called a tool."""
        return self._n_calls > self._calls_before

    @property
    def is_cut(self) -> bool:
        """Whether its last call was not written to its end."""
        return self._call_parser is not None and self._call_parser.is_under_way

    @property
    def thinks(self) -> bool:
        """Whether a block of thoughts is open."""
        return self._state in (_State.THOUGHT_LEAD, _State.THOUGHT)

    @property
    def pending(self) -> str:
        """What is written and not told as what it is: of calls all from their beginning on."""
        parser = self._call_parser
        return parser.text if parser is not None and self._state is _State.CALLS else self._held

    @property
    def is_calling(self) -> bool:
        """Whether a call is under way for certain: behind a marker that stands for nothing else, or a tool's name."""
        parser = self._call_parser
        return parser is not None and self._state is _State.CALLS and (self._is_marked or parser.is_under_way)

    @property
    def is_through(self) -> bool:
        """Whether all that follows is text, to be handed on as it is."""
        return self._state is _State.TEXT and not self._held and self._looks_for_nothing

    def begin(self, prompt: str, begun: str = "") -> None:
        """Goes on behind a prompt, and behind what of the answer follows it already, which is not told again."""
        if self._rules.opens(prompt):
            self._state = _State.THOUGHT_LEAD
        elif self._rules.opens_words(prompt):
            self._state, self._is_wrapped, self._has_lead = _State.TEXT, True, True
        elif self._state is _State.LEAD:
            self._prompted = self._rules.prompted_by(prompt)
        calls = [delta for delta in self.feed(self._prompted + begun) if isinstance(delta, ToolCallDelta)]
        is_under_way = self._call_parser is not None and self._call_parser.is_under_way
        self._calls_before = len({delta.call for delta in calls}) - is_under_way
        # A call that was broken off is told whole: without its name nobody could use the rest.
        self._told_again = [self._numbered(delta) for delta in calls if is_under_way and delta.call == calls[-1].call]
        if self._state is _State.LEAD:
            self._held = self._held.lstrip()
        blank = self._blank if self._state is _State.CALLS else ""
        self._prompted = "" if is_under_way else blank + self.pending

    def feed(self, text: str) -> list[Delta]:
        """What is certain by now."""
        deltas, self._told_again = self._told_again, []
        self._held += text
        while self._step(deltas):
            pass
        return deltas

    def finish(self) -> list[Delta]:
        """What was held back when nothing more comes: it was no marker."""
        told, self._told_again = self._told_again, []
        if self._state is _State.CALLS:
            return told + self._finish_calls()
        held, self._held = self._held, ""
        if self._state is _State.LEAD:
            held = held.lstrip() if self._has_lead else held
        elif self._state is _State.TEXT and self._is_wrapped and TAG.match(held):
            return []  # the answer's end, of which the model's last token is never told
        elif self.thinks:
            held = held.strip() if self._state is _State.THOUGHT_LEAD else held.rstrip()
        held = self._untold(held)
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
            case _State.CALLS:
                return self._calls(deltas)
        return self._text(deltas)

    def _lead(self, deltas: list[Delta]) -> bool:
        said = self._held.lstrip()
        found = (self._further if self._has_lead else self._first).leading(said)
        if found.start == 0 and found.marker is None:
            return False
        if found.marker is None:
            self._held = said if self._has_lead else self._held
            self._state, self._is_wrapped = _State.TEXT, self._ends_alone
            return True
        if found.marker in self._triggers:
            blank = "" if self._has_lead else self._held[: len(self._held) - len(said)]
            bare = self._bare if found.marker == BARE else None
            return self._begin_calls(blank, said, bare)
        self._held, self._prompted = said[found.end :], ""
        if found.marker == self._start:
            self._state = _State.THOUGHT_LEAD
        elif found.marker in self._rules.wraps:
            self._state, self._is_wrapped = _State.TEXT, True
        else:
            self._has_lead = True
        return True

    def _thought_lead(self) -> bool:
        """Some models open once more what the prompt opened."""
        said = self._held.lstrip()
        found = self._restart.leading(said)
        if found.start == 0 and found.marker is None:
            return False
        self._held = said[found.end :] if found.marker else said
        if found.marker:
            self._prompted = ""
        else:
            self._prompted, self._state = self._prompted.lstrip(), _State.THOUGHT
        return True

    def _thought(self, deltas: list[Delta]) -> bool:
        found = self._thought_end.find(self._held)
        thought = self._held[: found.start].rstrip()
        told = self._untold(thought) if thought else ""
        if told:
            deltas.append(ReasoningDelta(self._index, told))
        if found.marker is None:
            self._held = self._held[len(thought) :]
            return False
        self._prompted = ""
        self._held, self._state, self._has_lead = self._held[found.end :], _State.LEAD, True
        return True

    def _text(self, deltas: list[Delta]) -> bool:
        if self._looks_for_nothing:
            self._say(deltas, self._held)
            self._held = ""
            return False
        markers = self._in_fence if self._is_code else self._in_wrap if self._is_wrapped else self._in_text
        found = markers.find(self._held)
        if found.marker == FENCE:
            self._is_code = not self._is_code
            self._say(deltas, self._held[: found.end])
            self._held = self._held[found.end :]
            return True
        said = self._held[: found.start]
        told = said.rstrip() if self._in_text.all else said  # blanks before a call are the layout's
        self._say(deltas, told)
        if found.marker is None:
            self._held = self._held[len(told) :]
            return False
        if found.marker in self._triggers:
            return self._begin_calls(said[len(told) :], self._held[found.start :])
        self._say(deltas, said[len(told) :])
        self._held, self._prompted = self._held[found.end :], ""
        self._state, self._is_wrapped, self._has_lead = _State.LEAD, False, True
        return True

    @property
    def _looks_for_nothing(self) -> bool:
        """Whether no marker can come in the text under way."""
        return not (self._is_wrapped or self._in_text.all)

    def _say(self, deltas: list[Delta], text: str) -> None:
        text = self._untold(text) if text else ""
        if text:
            deltas.append(TextDelta(self._index, text))

    def _untold(self, text: str) -> str:
        """What of a text does not stand in the prompt already."""
        known = self._prompted
        if known.startswith(text):
            self._prompted = known[len(text) :]
            return ""
        self._prompted = ""
        return text.removeprefix(known)

    # --- calls --------------------------------------------------------------------------------------------------

    def _begin_calls(self, blank: str, text: str, rules: CallRules | None = None) -> bool:
        self._call_parser = CallParser(rules or self._rules.calls, self._tools, self._index, self._n_calls, self._ids)
        self._state, self._blank, self._held = _State.CALLS, blank, text
        self._is_marked = _MARKER.match(text) is not None
        return True

    def _calls(self, deltas: list[Delta], *, closed: bool = False) -> bool:
        parser = self._call_parser
        if parser is None:
            raise RuntimeError("no calls were begun")
        found, rest = parser.feed(self._held, closed=closed)
        self._held = ""
        numbered = [self._numbered(delta) for delta in found]
        deltas += [delta for delta in numbered if self._parallel or delta.call == 0]
        if rest is None:
            return False
        if parser.count > self._n_calls:
            self._n_calls, self._prompted = parser.count, ""
            self._state, self._is_wrapped, self._has_lead, self._held = _State.LEAD, False, True, rest
            return True
        # It was none: its first word is text, and what is behind it is looked at.
        word = next((len(trigger) for trigger in self._triggers if rest.startswith(trigger)), len(rest))
        self._say(deltas, self._blank + rest[:word])
        self._state, self._held = _State.TEXT, rest[word:]
        return True

    def _numbered(self, delta: ToolCallDelta) -> ToolCallDelta:
        return msgspec.structs.replace(delta, call=delta.call - self._calls_before) if self._calls_before else delta

    def _finish_calls(self) -> list[Delta]:
        deltas: list[Delta] = []
        while self._state is _State.CALLS:
            self._calls(deltas, closed=True)
            while self._step(deltas):
                pass
        return deltas + (self.finish() if self._held else [])

    def _delta(self, text: str) -> Delta:
        return ReasoningDelta(self._index, text) if self.thinks else TextDelta(self._index, text)
