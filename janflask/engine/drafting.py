"""Which sequences bring guessed tokens to a step, how many, and what becomes of them.

A guessed token (of a draft) is computed in the same decode as the token before it; if the sequence then says it, a
decode is saved. It pays as long as the step gives more tokens a millisecond with it than without, which depends on what
a row costs at this load (``StepCosts``) and on how likely it comes true (``Draft.chance``).

Nothing that is said depends on drafts: a sequence draws from the row behind each token that it has said, as if it
had been computed alone, and draws no further where its draft is wrong. What was computed of the rest is cut off. A step
has no more rows than are computed to the bits of one (``exact``), unless all of its sequences can do without that.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable
from collections.abc import Sequence as ListLike

from janflask.engine.scheduler import Scheduler
from janflask.engine.sequence import Sequence
from janflask.engine.slices import Slice
from janflask.engine.step_costs import StepCosts

log = logging.getLogger(__name__)

MOST = 16  # tokens of one draft, unless the settings say something else
UNKNOWN = 4  # tokens of all drafts together while nobody knows what they cost
GAIN = 1.03  # how much more a step must bring with drafts
RETRY = 256  # steps in which drafts did not pay, after which it is tried whether they do by now
HOLD = 64  # steps without drafts after one that found no cells for them


class Drafting:
    """Used by the loop's thread alone.

    Args:
        scheduler: of the sequences.
        costs: of the loop's steps.
        most: tokens of one draft; 0: there are none.
        capacity: tokens of one sequence.
    """

    def __init__(self, scheduler: Scheduler, costs: StepCosts, most: int, capacity: int) -> None:
        self.drafted = 0  # tokens since the start, as is the next
        self.accepted = 0
        self.exact: Callable[[], int] | None = None  # rows of a step that have the bits of one; None: all have
        self._scheduler = scheduler
        self._costs = costs
        self._most = most if scheduler.cache.can_trim else 0
        self._capacity = capacity
        self._under_way: list[tuple[int, Sequence]] = []  # with their slots
        self._declined = 0
        self._held = 0

    def propose(self, slices: ListLike[Slice]) -> int:
        """Gives drafts to the sequences of a step where they pay; returns how many tokens in all.

        A step that computes prompts is long enough: it has none.
        """
        if self._held > 0:
            self._held -= 1
            return 0
        budget = self._budget(slices)
        if budget <= 0 or any(part.sequence.is_prefilling for part in slices):
            return 0
        guesses = [(part.sequence, self._guess(part.sequence)) for part in slices]
        chances = [
            (sequence.draft.chance ** (place + 1), number)
            for number, (sequence, guess) in enumerate(guesses)
            for place in range(len(guess))
        ]
        if not chances:
            return 0
        chances.sort(key=lambda chance: -chance[0])
        count = self._worthwhile([chance for chance, _ in chances[:budget]], slices)
        for number, (sequence, guess) in enumerate(guesses):
            length = sum(owner == number for _, owner in chances[:count])
            if length and sequence.slot is not None:
                sequence.draft.begin(guess[:length])
                self._under_way.append((sequence.slot, sequence))
        return count

    def _budget(self, slices: ListLike[Slice]) -> int:
        """Tokens that the step still has room for, and free cells: nobody gives way to a guess."""
        if not self._most:
            return 0
        limits = self._scheduler.limits
        room = min(limits.chunk_size - sum(part.count - 1 for part in slices), limits.scored_rows)
        if self.exact is not None and any(part.sequence.draft.is_exact for part in slices):
            room = min(room, self.exact() - sum(part.count for part in slices))
        if limits.shared_cells:
            held = self._scheduler.cache.tokens_held + sum(part.count for part in slices)
            room = min(room, limits.kv_cells - held)
        return room

    def _guess(self, sequence: Sequence) -> array[int]:
        """What it may say next; the token behind that is drawn in any case."""
        most = min(self._most, self._capacity - len(sequence.tokens) - 1)
        if sequence.max_tokens is not None:
            most = min(most, sequence.max_tokens - sequence.n_generated - 1)
        return sequence.draft.guess(sequence.tokens, most)

    def _worthwhile(self, chances: ListLike[float], slices: ListLike[Slice]) -> int:
        """How many of the guessed tokens, the likeliest first, make the step bring the most a millisecond."""
        rows, best, tokens = sum(part.count for part in slices), 0, float(len(slices))
        alone = self._costs.of(rows)
        if not alone:
            return min(UNKNOWN, len(chances))
        most = GAIN * tokens / alone
        for count, chance in enumerate(chances, 1):
            tokens += chance
            rate = tokens / max(self._costs.of(rows + count) or alone, alone)
            if rate > most:
                best, most = count, rate
        self._declined = 0 if best else self._declined + 1
        if self._declined >= RETRY:
            self._declined = 0
            best = min(UNKNOWN, len(chances))
            self._costs.doubt(rows + best)
        return best

    def take_up(self, sequence: Sequence) -> bool:
        """Books what a sequence has said of its draft. True: the next token can be drawn at once."""
        draft = sequence.draft
        if sequence.slot is None or not draft.tokens:
            return False
        new = draft.said - draft.booked
        self._scheduler.advance(sequence, new)
        draft.booked += new
        sequence.row += new
        return sequence.n_left == 0

    def settle(self) -> None:
        """The step is over: cuts off what was computed and not said."""
        for slot, sequence in self._under_way:
            draft = sequence.draft
            self.drafted += len(draft.tokens)
            self.accepted += draft.said
            draft.settle()
            self._cut(slot, sequence)
        self._under_way = []

    @property
    def is_drafting(self) -> bool:
        """The step under way has drafts."""
        return bool(self._under_way)

    def drop(self) -> bool:
        """Forgets the drafts of a step that could not be computed, and makes none for a while. False: it had none."""
        had_some = self.is_drafting
        for _, sequence in self._under_way:
            sequence.draft.withdraw()
        self._under_way = []
        self._held = HOLD if had_some else self._held
        return had_some

    def _cut(self, slot: int, sequence: Sequence) -> None:
        """Makes a slot hold what the books say."""
        held = len(self._scheduler.cache.slots[slot].tokens)
        if self._scheduler.memory.trim(slot, held):
            return
        log.error("a draft could not be cut off, so there will be no more: %s", sequence.as_extra())
        self._most = 0
        self._scheduler.compute_again(slot, sequence)
