"""How a model writes what is no plain text: what it thinks, and where its answer begins."""

from __future__ import annotations

from dataclasses import dataclass, replace

from janflask.parsing.calls import GENERIC, CallRules


@dataclass(frozen=True, slots=True)
class Reasoning:
    """The markers around what a model thinks.

    ``opening`` and ``closing`` are what stands before its first thought and behind its last one, blanks too, as the
    template writes them; empty: the markers alone.
    """

    start: str
    end: str
    opening: str = ""
    closing: str = ""


@dataclass(frozen=True, slots=True)
class AnswerRules:
    """How the answers of one chat template are to be read.

    ``wraps`` lead an answer's text, ``ends`` close it, or calls; ``calls`` are looked for only where there are tools.
    ``prompted`` is the beginning of a marker that a prompt ends with: the answer has its rest.
    """

    reasoning: Reasoning | None = None
    wraps: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    calls: CallRules = GENERIC
    prompted: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to be looked for but calls."""
        return self.reasoning is None and not self.wraps and not self.ends

    @property
    def markers(self) -> tuple[str, ...]:
        """Everything that is looked for but calls."""
        thoughts = () if self.reasoning is None else (self.reasoning.start, self.reasoning.end)
        return tuple(dict.fromkeys((*thoughts, *self.wraps, *self.ends)))

    def opens(self, prompt: str) -> bool:
        """Whether a prompt ends with a block of thoughts that was opened."""
        return self.reasoning is not None and prompt.rstrip().endswith(self.reasoning.start)

    def opens_words(self, prompt: str) -> bool:
        """Whether a prompt ends with what leads an answer's text."""
        return bool(self.wraps) and prompt.rstrip().endswith(tuple(wrap.rstrip() for wrap in self.wraps))

    def prompted_by(self, prompt: str) -> str:
        """What of the answer's first marker stands in the prompt."""
        return self.prompted if self.prompted and prompt.endswith(self.prompted) else ""

    @property
    def for_calls(self) -> AnswerRules:
        """The same with no eye for anything but calls: all the rest is text as the model wrote it."""
        return replace(self, reasoning=None, wraps=(), ends=())

    def written(self, prompt: str, thought: str, said: str) -> str:
        """What a model has written behind ``prompt`` when it had thought and said so much."""
        if self.reasoning is None or not thought:
            if not self.wraps or not said or self.opens_words(prompt):
                return said
            return self.wraps[0].removeprefix(self.prompted_by(prompt)) + said
        opening = self.reasoning.opening or self.reasoning.start
        if self.opens(prompt):  # the blank behind it may be the model's to write
            opening = opening[len(opening.rstrip()) :] if prompt == prompt.rstrip() else ""
        closing = self.reasoning.closing or self.reasoning.end
        return opening + thought + (closing + said if said else "")


PLAIN = AnswerRules()
