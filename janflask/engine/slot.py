"""What one sequence id of the KV memory holds: its tokens, whose they are, and the checkpoints taken of them."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The partial state of a sequence's first ``length`` tokens."""

    length: int
    state: bytes | memoryview

    @property
    def nbytes(self) -> int:
        return len(self.state)


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose a slot's tokens are, once their sequence has ended."""

    n_prompt: int  # tokens of its prompt; what follows was generated
    conversation: str | None = None  # as the request named it
    is_lasting: bool = False  # the state outlives the slot
    went_on: bool = False  # it went on with what had been generated before: somebody has come back to it


@dataclass(slots=True)
class Slot:
    """One sequence id of the KV memory. ``tokens[:]`` are the ones computed there, in order."""

    id: int
    owner: str | None = None  # whose requests may go on from what it holds; None: of those that no key was asked for
    tokens: array[int] = field(default_factory=lambda: array("i"))
    busy: bool = False
    last_used: int = 0  # a counter, not a clock: the order of releases is all that matters
    origin: Origin | None = None  # None while it is busy, or nobody's
    kept: bool = False  # what it holds is on the disk, too
    checkpoints: list[Checkpoint] = field(default_factory=list)  # ascending; of beginnings of its tokens

    def checkpoint(self, length: int) -> Checkpoint | None:
        """The one that was taken there."""
        return next((point for point in self.checkpoints if point.length == length), None)

    def empty(self) -> None:
        """It holds nothing any more."""
        self.tokens = array("i")
        self.checkpoints = []
