"""The answers of one request as they come from an engine: each choice's text read, its thoughts counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import msgspec

from janflask.inference.deltas import Delta, Done, Event, Finished, ReasoningDelta, TextDelta
from janflask.ipc.messages.generation import FinishReason
from janflask.parsing.answer import AnswerParser
from janflask.parsing.call_parser import Schemas
from janflask.parsing.rules import AnswerRules


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read a request's answers: they go on behind ``prompt`` and, of each answer itself, behind ``begun``."""

    rules: AnswerRules
    prompt: str
    begun: str = ""
    tools: Schemas | None = None
    parallel: bool = True
    bare: bool = True  # see ``AnswerParser``


def begun_words(reading: Reading) -> str:
    """What was said already of an answer that was begun, without what was thought."""
    parser = AnswerParser(reading.rules, tools=reading.tools, bare=reading.bare)
    parser.begin(reading.prompt)
    deltas = parser.feed(reading.begun) + parser.finish()
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


def read(batches: Iterable[list[Event]], reading: Reading) -> Iterator[list[Event]]:
    """The same events with every choice's text taken apart. What needs no reading is handed on as it is."""
    if reading.rules.is_plain and not reading.tools:
        yield from batches
        return
    answers = _Answers(reading)
    for batch in batches:
        yield answers.read(batch)


class _Answers:
    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._parsers: dict[int, AnswerParser] = {}
        self._thought_tokens = 0
        self._undecided: dict[int, int] = {}  # tokens of which it is not known yet what they begin

    def read(self, batch: list[Event]) -> list[Event]:
        """What to say of one batch."""
        events: list[Event] = []
        for event in batch:
            if isinstance(event, TextDelta):
                parser = self._parser(event.index)
                if parser.is_through:
                    events.append(event)
                else:
                    events += self._parsed(parser, event)
            elif isinstance(event, Finished):
                parser = self._parser(event.index)
                events += _last(parser, event.reason)
                # A call that was broken off (by a stop string, say) is for nobody to carry out.
                is_call = parser.has_called and not parser.is_cut and event.reason == FinishReason.STOP
                events.append(Finished(event.index, FinishReason.TOOL_CALLS) if is_call else event)
            elif isinstance(event, Done):
                events.append(Done(replace(event.usage, reasoning_tokens=self._thought_tokens), event.timings))
            else:
                events.append(event)
        return events

    def _parser(self, index: int) -> AnswerParser:
        """The one of a choice, begun with its first event."""
        if index in self._parsers:
            return self._parsers[index]
        parser = self._parsers[index] = AnswerParser(
            self._reading.rules,
            index,
            self._reading.tools,
            parallel=self._reading.parallel,
            bare=self._reading.bare,
        )
        parser.begin(self._reading.prompt, self._reading.begun)
        return parser

    def _parsed(self, parser: AnswerParser, event: TextDelta) -> list[Delta]:
        """A token's log-probabilities stay with it, be it thought or held back: ``logprobs`` list every token."""
        thought = parser.thinks
        deltas = parser.feed(event.text)
        tokens = self._undecided.pop(event.index, 0) + (len(event.logprobs) or 1)
        if thought or parser.thinks or any(isinstance(delta, ReasoningDelta) for delta in deltas):
            self._thought_tokens += tokens
        elif not deltas:
            self._undecided[event.index] = tokens
        if not event.logprobs:
            return deltas
        for place, delta in enumerate(deltas):
            if isinstance(delta, TextDelta):
                deltas[place] = msgspec.structs.replace(delta, logprobs=event.logprobs)
                return deltas
        return [*deltas, TextDelta(event.index, "", event.logprobs)]


def _last(parser: AnswerParser, reason: str) -> list[Delta]:
    """What was held back until the end. Behind calls only a further one may come, and one that was cut is no text."""
    deltas = parser.finish()
    if parser.has_called and reason == FinishReason.LENGTH:
        return [delta for delta in deltas if not isinstance(delta, TextDelta)]
    return deltas
