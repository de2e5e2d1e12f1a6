"""What follows an answer that is under a constraint: which tokens may come next, computed while llama.cpp computes.

A matcher takes each token as it is drawn; that is a matter of microseconds, and done at once. The mask of the next
token (tens of microseconds, milliseconds at worst) depends on nothing else, so it is computed by a thread of its own
beside the decode, and is there when the logits are.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from llguidance import LLExecutor, LLMatcher

Mask = NDArray[np.uint32]  # a bit for each token that may come; of shape (mask_words(n_vocab),)


class Matcher(Protocol):
    """Where one answer is in its constraint; ``GrammarMatcher``, or a fake in tests."""

    @property
    def mask(self) -> Any: ...
    @property
    def error(self) -> str | None: ...
    @property
    def is_complete(self) -> bool: ...
    def accept(self, token: int) -> None: ...
    def force(self, most: int) -> list[int]: ...
    def follow(self, tokens: Sequence[int]) -> bool: ...
    def look_ahead(self) -> None: ...


class Masker(Protocol):
    """Computes the masks of matchers beside the loop; ``MaskThread``, or a fake in tests."""

    def begin(self, matchers: Sequence[Any]) -> None: ...
    def wait(self) -> None: ...


class GrammarMatcher:
    """llguidance's matcher, asked every time whether it is in error: in error it would allow the end, like an answer.

    Args:
        inner: belongs to this one alone.
        mask: of the first token.
    """

    def __init__(self, inner: LLMatcher, mask: Mask) -> None:
        self.inner = inner
        self.mask = mask
        self.error: str | None = None  # it is of no further use
        self.is_complete = False  # nothing can come but the end
        self.look()

    def accept(self, token: int) -> None:
        """Takes the token that was drawn, but for one that ends the answer. From now on ``mask`` is out of date."""
        self.inner.consume_token(token)
        self.look()

    def force(self, most: int) -> list[int]:
        """Takes the tokens that have to come now, at most so many, and gives them: nothing is to be drawn there.

        They are those into which llama.cpp's tokenizer cuts the text. What may become another token with what comes
        behind it is left to be drawn.
        """
        forced = self.inner.compute_ff_tokens()[:most] if most > 0 else []
        if forced:
            self.inner.consume_tokens(forced)
            self.look()
        return forced

    def follow(self, tokens: Sequence[int]) -> bool:
        """Takes what was written before it held, if it allows that; where it does not it is of no further use."""
        went = self.inner.try_consume_tokens(list(tokens)) == len(tokens)
        self.look()
        return went and self.error is None

    def look_ahead(self) -> None:
        """Brings ``mask`` up to date, at once."""
        mask = np.zeros_like(self.mask)
        self.inner.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        self.mask = mask
        self.look()

    def look(self) -> None:
        """Brings ``error`` and ``is_complete`` up to date."""
        if self.inner.is_error():
            self.error = reason(self.inner.get_error())
        else:
            self.is_complete = self.inner.is_stopped()


def mask_words(n_vocab: int) -> int:
    """Words of 32 bits that a mask takes."""
    return (n_vocab + 31) // 32


def reason(error: str) -> str:
    """The part of llguidance's error that is about the constraint, not about its own state."""
    lines = [line for line in error.splitlines() if line.strip() and line != "<non-verbose/>"]
    return "\n".join(lines)[:500] or "no reason was given"


class Masks:
    """Masks that no grammar makes, of a vocabulary of ``n_vocab`` tokens."""

    def __init__(self, n_vocab: int) -> None:
        self._words = mask_words(n_vocab)

    def only(self, token: int) -> Mask:
        """That allows this token alone."""
        return self.also(np.zeros(self._words, np.uint32), token)

    @staticmethod
    def also(mask: Mask, token: int) -> Mask:
        """``mask``, and this token."""
        wider = mask.copy()
        wider[token // 32] |= np.uint32(1 << token % 32)
        return wider

    @staticmethod
    def allows(mask: Mask, token: int) -> bool:
        """Whether a token may come."""
        return bool(int(mask[token // 32]) >> token % 32 & 1)


class MaskThread:
    """One thread for the masks of all sequences. Only one thread, the loop's, may call it.

    Args:
        n_vocab: tokens of the vocabulary.
        threads: how many masks are computed at once; the cores are llama.cpp's.
    """

    def __init__(self, n_vocab: int, threads: int = 1) -> None:
        self._words = mask_words(n_vocab)
        self._threads = threads
        self._thread = ThreadPoolExecutor(1, "masks")
        self._last: Future[None] | None = None

    @cached_property
    def _executor(self) -> LLExecutor:
        from llguidance import LLExecutor  # here: where there is no matcher it is not needed

        return LLExecutor(self._threads)

    def begin(self, matchers: Sequence[GrammarMatcher]) -> None:
        """Starts computing each one's mask. Nobody else may use them until ``wait`` has returned."""
        if matchers:
            self._last = self._thread.submit(self._compute, list(matchers))

    def wait(self) -> None:
        """Until all masks are there; then each matcher's ``mask`` is up to date, or its ``error`` is set."""
        last, self._last = self._last, None
        if last is not None:
            last.result()  # the thread does one after the other, so those before it are done, too

    def _compute(self, matchers: list[GrammarMatcher]) -> None:
        rows = np.empty((len(matchers), self._words), np.uint32)
        targets = [(matcher.inner, row) for row, matcher in enumerate(matchers)]
        self._executor.unsafe_compute_mask_ptr(targets, rows.ctypes.data, rows.strides[0], len(matchers))
        for matcher, row in zip(matchers, rows, strict=True):
            matcher.mask = row
            matcher.look()
