"""An answer that is read along while it grows: constraints that hold from some place in it on, thoughts that are ended.

Whoever asked reads the answer with the same parser, so both see thoughts and calls in the same places. Until something
is seen nothing is masked; from then on the answer is held by a matcher, which was fed what stands there already.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from janflask.engine.guide import forced, taken
from janflask.engine.matcher import Matcher
from janflask.engine.newest import Newest
from janflask.engine.sequence import TextStream
from janflask.engine.spelling import Speller
from janflask.ipc.messages.generation import Watch
from janflask.parsing.answer import BARE, FENCE, AnswerParser


class Source(Protocol):
    """A constraint that was compiled."""

    def matcher(self) -> Matcher: ...


class Masks(Protocol):
    """See ``matcher.Masks``."""

    def only(self, token: int) -> Any: ...
    def also(self, mask: Any, token: int) -> Any: ...
    def allows(self, mask: Any, token: int) -> bool: ...


class AnswerWatch:
    """One choice's; see ``Guide`` and ``Watch``.

    Args:
        watch: what has to be seen.
        speller: of the model's vocabulary.
        text: makes the text that whoever asked reads, without stop strings.
        masks: of the same vocabulary.
        calls, answer: the constraints of ``watch``, compiled.
    """

    def __init__(
        self,
        watch: Watch,
        speller: Speller,
        text: TextStream,
        masks: Masks,
        calls: Source | None = None,
        answer: Source | None = None,
    ) -> None:
        self._reasoning = watch.rules.reasoning
        self._budget = watch.thought_tokens
        self._speller = speller
        self._text = text
        self._masks = masks
        self._calls = calls
        self._answer = answer
        self._parser = AnswerParser(watch.rules, tools={name: {} for name in watch.tools} if calls else None)
        self._parser.begin(watch.prompt_end)
        firsts = (*watch.rules.markers, *watch.rules.calls.triggers, FENCE, BARE)
        self._firsts = frozenset(marker[0] for marker in firsts if marker)
        self._reads = True  # there may be more to see
        self._words: deque[int] = deque()  # tokens that have to come now, before all that the matcher wants
        self._opening: list[int] = []  # of thoughts: may come in place of what the matcher wants
        self._newest = Newest(speller)  # the tokens of the text that the parser holds back
        self._thought = 0  # tokens
        self._closings = 0
        self._is_refused = False  # the constraint did not allow the call that is under way
        self.matcher: Matcher | None = None
        self._begin(watch)

    @property
    def mask(self) -> Any:
        """See ``Guide``."""
        if self._words:
            return self._masks.only(self._words[0])
        if self.matcher is None:
            return None
        return self._masks.also(self.matcher.mask, self._opening[0]) if self._opening else self.matcher.mask

    @property
    def error(self) -> str | None:
        """See ``Guide``."""
        return None if self.matcher is None else self.matcher.error

    @property
    def is_complete(self) -> bool:
        """See ``Guide``."""
        return self.matcher is not None and not self._words and not self._opening and self.matcher.is_complete

    @property
    def is_over(self) -> bool:
        """See ``Guide``."""
        return self.matcher is None and not self._words and not self._reads

    def take(self, token: int, room: int, *, ends: bool) -> list[int]:
        """See ``Guide``. Where the answer is still to come, an end among the thoughts ends these."""
        if ends and not (self._answer is not None and self._reads and self._parser.thinks):
            return [token]
        if ends and not self._words:
            self._close()
        if self._words:
            tokens = [self._word()]
        elif self._opening and self.matcher is not None:
            tokens = self._choose(token, self.matcher)
        elif self.matcher is not None:
            return taken(self.matcher, token, room)
        else:
            tokens = self._read(token)
        self._mind_budget()
        while self._words and len(tokens) <= room:
            tokens.append(self._word())
        if self.matcher is not None and not self._words and not self._opening:
            tokens += forced(self.matcher, room + 1 - len(tokens))
        return tokens

    # --- the beginning ------------------------------------------------------------------------------------------

    def _begin(self, watch: Watch) -> None:
        """Goes on behind what was said already."""
        reasoning = self._reasoning
        prompted = watch.rules.prompted_by(watch.prompt_end)  # the parser was fed it, and a constraint's marker has it
        begins = reasoning is not None and watch.begun.lstrip().startswith(reasoning.start)
        if self._answer is not None and not self._parser.thinks and not begins:
            self._hold(self._followed(self._answer, self._speller.spell(prompted)))
            if reasoning is not None and watch.may_think and not watch.begun:
                self._opening = self._speller.spell(reasoning.opening or reasoning.start)
                self._reads = True
        else:
            for token in self._speller.spell(prompted):
                self._newest.add(token)
        for place, token in enumerate(begun := self._speller.spell(watch.begun)):
            if self.matcher is not None:
                self._catch_up(self.matcher, begun[place:])
                break
            self._read(token, is_fixed=True)
        if self.matcher is not None and (prompted or watch.begun):  # a new one has its first mask
            self.matcher.look_ahead()
        self._mind_budget()

    def _catch_up(self, matcher: Matcher, tokens: list[int]) -> None:
        """With what was said already of what is held. An answer's form may begin behind it, too."""
        self._words.clear()
        if self._answer is None:
            self.matcher = matcher if matcher.follow(tokens) else None
            return
        piece = self._speller.model.piece
        while tokens and not piece(tokens[0]).strip():
            tokens = tokens[1:]
        if tokens and (first := piece(tokens[0])) != first.lstrip():
            tokens = [*self._speller.spell_bytes(first.lstrip()), *tokens[1:]]
        if not matcher.follow(tokens):
            self.matcher = self._answer.matcher()

    @staticmethod
    def _followed(source: Source, tokens: list[int]) -> Matcher:
        """A matcher behind what was written; at its beginning where it does not allow that."""
        matcher = source.matcher()
        return matcher if not tokens or matcher.follow(tokens) else source.matcher()

    def _choose(self, token: int, matcher: Matcher) -> list[int]:
        """One of the answer's first tokens, which may also be those of an opening of thoughts."""
        if token != self._opening[0]:
            self._opening, self._reads = [], False
            return taken(matcher, token, 0)
        is_allowed = self._masks.allows(matcher.mask, token)
        self._read(token, is_fixed=True)
        self._opening.pop(0)
        if is_allowed and self._opening:
            return taken(matcher, token, 0)  # it may be either
        self.matcher = None
        self._words.extend(self._opening)
        self._opening = []
        return [token]

    # --- reading ------------------------------------------------------------------------------------------------

    def _word(self) -> int:
        """The next of the tokens that have to come."""
        token = self._words.popleft()
        if self._reads:
            self._read(token, is_fixed=True)
            self._mind_budget()
        return token

    def _read(self, token: int, *, is_fixed: bool = False) -> list[int]:
        """Takes a token of free text; gives what stands for it. ``is_fixed``: nothing else can."""
        parser = self._parser
        text = self._text.push(token)
        self._newest.add(token, shows=bool(text or self._text.held))
        self._thought += parser.thinks
        # A text in which no marker can begin or end need not be looked at letter by letter.
        pieces = text if parser.pending or not self._firsts.isdisjoint(text) else (text,)
        for place, piece in enumerate(pieces, 1):
            thought = parser.thinks
            parser.feed(piece)
            instead = None
            if thought and not parser.thinks and self._answer is not None:
                instead = self._hold_answer(self._answer, token, text[place:], is_fixed)
            elif parser.is_calling and self._calls is not None and not self._is_refused:
                instead = self._hold_calls(self._calls, token, text[place:], is_fixed)
                self._is_refused = instead is None
            if instead is not None:
                return instead
        self._is_refused = self._is_refused and parser.is_calling
        self._reads = self._answer is not None or not parser.is_through
        self._newest.keep(len(parser.pending.encode()) + len(self._text.held))
        return [token]

    # --- holding ------------------------------------------------------------------------------------------------

    def _hold(self, matcher: Matcher) -> None:
        self.matcher, self._reads = matcher, False

    def _hold_answer(self, answer: Source, token: int, rest: str, is_fixed: bool) -> list[int]:
        """Behind the thoughts, whose end ``token`` has brought, and ``rest`` behind it."""
        said = rest.lstrip().encode() + self._text.held
        matcher = answer.matcher()
        if not said or matcher.follow(self._speller.spell_bytes(said)):
            self._hold(matcher)
            if not rest and not said and not self._words:
                self._words.extend(self._speller.spell_bytes(self._blank.encode()))
            return [token]
        end = b"" if self._reasoning is None else self._reasoning.end.encode()
        instead = [token] if is_fixed else self._newest.cut(self._newest.written.rfind(end) + len(end))
        self._hold(answer.matcher())
        self._words.extend(instead[1:])
        self._words.extend(self._speller.spell_bytes(self._blank.encode()))
        return instead[:1]

    def _hold_calls(self, calls: Source, token: int, rest: str, is_fixed: bool) -> list[int] | None:
        """From a call's beginning on; ``rest`` is what ``token`` brought behind what shows it. None: it is refused."""
        call, behind = self._parser.pending.encode(), rest.encode() + self._text.held
        newest, written = self._newest, self._newest.written
        start = len(written) - len(call) - len(behind)
        if written[max(start, 0) :] != call + behind:
            start = written.rfind(call)  # there were broken characters
        if start < 0:
            return None
        matcher = calls.matcher()
        if matcher.follow(newest.tokens(start, len(written))):
            self._hold(matcher)
            return [token]
        end = start + len(call)
        matcher = calls.matcher()
        if is_fixed or end == len(written) or not matcher.follow(newest.tokens(start, end)):
            return None
        self._hold(matcher)
        first, *more = newest.cut(end)
        self._words.extend(more)
        return [first]

    # --- thoughts -----------------------------------------------------------------------------------------------

    def _mind_budget(self) -> None:
        """Ends the thoughts where they have taken what they may; not within a character."""
        if self._budget is None or self._thought < self._budget or self._words or self._text.held:
            return
        if self._reads and not self._opening and self._parser.thinks:
            self._close()

    def _close(self) -> None:
        """Has the thoughts ended with the model's own words."""
        if self._reasoning is None:
            return
        end = self._reasoning.end
        before, _, after = (self._reasoning.closing or end).partition(end)
        # What leads the answer's text is left to the constraint, or to the model, which may want to call a tool.
        is_free = (self._calls is None and self._answer is None) or self._closings > 0
        pending = self._parser.pending
        held = pending.lstrip()
        begun = held if end.startswith(held) else ""
        text = end[len(begun) :] if begun else end if pending != held or not before else before + end
        self._words.extend(self._speller.spell(text + (after if is_free else self._blank)))
        self._closings += 1

    @property
    def _blank(self) -> str:
        """What the model's layout has between thoughts and what follows."""
        if self._reasoning is None:
            return ""
        after = self._reasoning.closing.partition(self._reasoning.end)[2]
        return after[: len(after) - len(after.lstrip())]
