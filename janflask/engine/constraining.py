"""What the sequences of a loop may say: masks for those that are led, and the tokens that come of what they draw."""

from __future__ import annotations

import logging
from collections.abc import Callable

from janflask.engine.matcher import Masker, Matcher
from janflask.engine.sequence import Sequence

log = logging.getLogger(__name__)

MOST_FORCED = 32  # tokens: others wait while they are computed


class Constraining:
    """Used by the loop's thread alone. A sequence without a guide costs nothing.

    Args:
        masker: computes masks beside the loop; without one nothing can be constrained.
        most_forced: tokens of a sequence that one step may bring beside the one that is drawn.
        capacity: tokens of one sequence.
        is_eog: whether a token ends an answer.
        clock: seconds.
    """

    def __init__(
        self,
        masker: Masker | None,
        most_forced: int,
        capacity: int,
        is_eog: Callable[[int], bool],
        clock: Callable[[], float],
    ) -> None:
        self.masker = masker
        self.seconds = 0.0  # waited for masks, and for what is forced, since the start
        self._most_forced = min(MOST_FORCED, most_forced)
        self._capacity = capacity
        self._is_eog = is_eog
        self.clock = clock

    def wait(self, sequences: list[Sequence]) -> None:
        """For the masks of these. They were begun when the last tokens were drawn, a decode ago."""
        if self.masker is not None and any(_is_held(sequence) for sequence in sequences):
            started = self.clock()
            self.masker.wait()
            self.seconds += self.clock() - started

    def take(self, sequences: list[Sequence], drawn: list[int]) -> list[list[int]]:
        """What each goes on with: the token that it drew, or what stands for it, and what is forced behind it.

        The masks of what comes then are computed while all else goes on. A sequence that drew none (-1) gets that;
        one that cannot be gone on with gets nothing.
        """
        out = [[token] for token in drawn]
        led = [number for number, sequence in enumerate(sequences) if sequence.guide is not None and drawn[number] >= 0]
        if not led:
            return out
        are_held = any(_is_held(sequences[number]) for number in led)
        started = self.clock() if are_held else 0.0
        matchers: list[Matcher] = []
        for number in led:
            try:
                out[number] = self._take(sequences[number], drawn[number], matchers)
            except Exception:
                log.exception("an answer could not be led: %s", sequences[number].as_extra())
                out[number] = []
        if self.masker is not None:
            self.masker.begin(matchers)
        self.seconds += self.clock() - started if are_held else 0.0
        return out

    def _take(self, sequence: Sequence, token: int, matchers: list[Matcher]) -> list[int]:
        """What one goes on with; the matcher whose mask is needed for what comes next is put to ``matchers``."""
        guide = sequence.guide
        if guide is None:
            return [token]
        tokens = guide.take(token, self._room(sequence), ends=self._is_eog(token))
        matcher = guide.matcher
        if guide.is_over:
            sequence.guide = None
        elif matcher is not None and matcher.error is None and not (matcher.is_complete or self._is_eog(tokens[0])):
            matchers.append(matcher)
        return tokens

    def _room(self, sequence: Sequence) -> int:
        """Tokens that may come behind the one just drawn. None where they would need log-probabilities of their own."""
        if sequence.wants_logprobs:
            return 0
        room = min(self._most_forced, self._capacity - len(sequence.tokens) - 1)
        return room if sequence.max_tokens is None else min(room, sequence.max_tokens - sequence.n_generated - 1)


def _is_held(sequence: Sequence) -> bool:
    return sequence.guide is not None and sequence.guide.matcher is not None
