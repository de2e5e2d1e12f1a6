"""What one sequence is guessed to say next, and how well its guesses have gone.

The guess is what stood behind the same words before: in its prompt, in its answer, or in what the client predicts. The
more words are the same, the better is the guess; and guesses that came true lately promise more of them.
"""

from __future__ import annotations

from array import array

import numpy as np

LEAST, MOST = 3, 16  # tokens that have to agree, and those beyond which it makes no difference
NEWEST = 4096  # places of the last token that are looked at
FIRST = 4  # tokens of a first guess
MEMORY = 0.9  # what an earlier guess counts against the one behind it
TRUST = 2.0  # tokens that the length of the agreement counts for, against those that were guessed
BEST = 0.98  # nothing is certain
LONGEST_PAUSE = 256  # tokens


def longest_suffix(source: array[int], tokens: array[int]) -> tuple[int, int]:
    """The place in ``source`` behind the longest end of ``tokens`` that stands there, and how many tokens that has.

    From ``LEAST`` to ``MOST`` tokens are looked for; of two places the later one is taken, and there is a token at it.
    (0, 0): there is none. ``source`` may be ``tokens`` itself.
    """
    if len(source) <= LEAST or len(tokens) < LEAST:
        return 0, 0
    where = np.frombuffer(source, np.int32)
    end = np.frombuffer(tokens, np.int32)[-MOST:]
    places = np.flatnonzero(where[LEAST - 1 : -1] == end[-1])[-NEWEST:] + LEAST
    length = 1
    while length < len(end):
        fits = places[where[places - 1 - length] == end[-1 - length]]
        fits = fits[fits > length]
        if not len(fits):
            break
        places, length = fits, length + 1
    return (int(places[-1]), length) if len(places) and length >= LEAST else (0, 0)


class Draft:
    """One sequence's; used by the loop's thread alone.

    Args:
        prompt: the sequence's; only its end is looked at.
        prediction: tokens that the client expects the answer to hold.
        is_exact: guesses must not change a bit of what is computed of the sequence.
    """

    def __init__(
        self, prompt: array[int] | None = None, prediction: array[int] | None = None, *, is_exact: bool = True
    ) -> None:
        self.is_exact = is_exact
        # With the prompt's end before it the answer's beginning is guessed like all the rest.
        self._prediction = (prompt or array("i"))[-LEAST:] + prediction if prediction else None
        self.tokens = array("i")  # those of the step under way
        self.said = 0  # of these, as is the next
        self.booked = 0  # of those, in the KV memory's books
        self.drafted = 0  # of the whole answer, as is the next
        self.accepted = 0
        self.longest = FIRST
        self.agreed = 0  # tokens before the guess that are the same
        self._is_open = False
        self._hits = 0.0
        self._misses = 0.0
        self._failures = 0  # one after the other
        self._paused = 0  # tokens

    def guess(self, tokens: array[int], most: int) -> array[int]:
        """What may come behind ``tokens``, at most so many."""
        most = min(most, self.longest)
        if most < 1 or self._paused > 0:
            return array("i")
        place, self.agreed = longest_suffix(tokens, tokens)
        source = tokens
        if self._prediction is not None:
            other, agreed = longest_suffix(self._prediction, tokens)
            if agreed >= self.agreed and agreed > 0:
                place, self.agreed, source = other, agreed, self._prediction
        return source[place : place + most] if self.agreed else array("i")

    @property
    def chance(self) -> float:
        """That a guessed token comes true if those before it did."""
        by_length = TRUST * (1 - 1 / self.agreed) if self.agreed else 0.0
        return min(BEST, (self._hits + by_length) / (self._hits + self._misses + TRUST))

    def begin(self, tokens: array[int]) -> None:
        """These are computed in the step under way."""
        self.tokens, self.said, self.booked, self._is_open = tokens, 0, 0, True
        self.drafted += len(tokens)

    def follow(self, token: int) -> None:
        """The answer went on with this token."""
        self._paused = max(0, self._paused - 1)
        self._is_open = self._is_open and self.said < len(self.tokens) and self.tokens[self.said] == token
        if self._is_open:
            self.said += 1
            self.accepted += 1

    def settle(self) -> None:
        """The step is over: what came true of the guess says how long the next one may be."""
        said, count = self.said, len(self.tokens)
        self._clear()
        self._hits = MEMORY * self._hits + said
        self._misses = MEMORY * self._misses + (said < count)
        if said == count:
            self.longest = 2 * count if count >= self.longest // 2 else self.longest
        else:
            self.longest = max(2, said + 1)
        self._failures = 0 if said else self._failures + 1
        if not said:
            self._paused = min(1 << self._failures, LONGEST_PAUSE)

    def withdraw(self) -> None:
        """Nothing was computed in the step."""
        self.drafted -= len(self.tokens)
        self._clear()

    def _clear(self) -> None:
        self.tokens, self.said, self.booked, self._is_open = array("i"), 0, 0, False
