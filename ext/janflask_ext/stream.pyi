"""From token ids to text, as it comes: a vocabulary's bytes, half characters and stop strings held back."""

from collections.abc import Collection, Sequence
from typing import Final

ATTR_UNKNOWN: Final[int]
ATTR_CONTROL: Final[int]

class Vocab:
    """The bytes of every token of a model, in one blob. Built once for an engine; never changes.

    Args:
        pieces: each token's bytes, special tokens' included (``<|im_end|>``), by token id.
        attrs: llama.cpp's ``llama_token_attr`` flags of each token, as a list or any int32 array. Control and unknown
            tokens make no text, unless a stream renders special tokens; user-defined ones (``<tool_call>``) do.

    Raises ValueError when the two differ in length.
    """

    def __init__(self, pieces: Sequence[bytes], attrs: Collection[int]) -> None: ...
    def __len__(self) -> int: ...
    @property
    def longest(self) -> int:
        """Bytes of the longest piece."""

    def piece(self, token: int) -> bytes:
        """A token's bytes, whatever its attributes. Raises IndexError when there is no such token."""

    def hides(self, token: int) -> bool:
        """Whether a token makes no text. Raises IndexError when there is no such token."""

    def text(self, token: int) -> str:
        """``piece`` as text, with U+FFFD for what is not UTF-8 by itself."""

class StopMatcher:
    """The Aho-Corasick automaton of a set of stop strings; see ``TextStream``."""

    def __init__(self, strings: Sequence[str]) -> None: ...
    @property
    def strings(self) -> tuple[str, ...]: ...
    @property
    def longest(self) -> int:
        """Bytes of the longest stop string."""

class TextStream:
    """The text of one sequence, as its tokens come.

    All the strings that ``push`` and ``finish`` give, joined, are ``bytes.decode("utf-8", "replace")`` of all the
    tokens' bytes, up to the first stop string, and without a character at the end that lacks bytes. Held back is only
    what is not certain yet: an incomplete character, and the longest end of the text that a stop string which may still
    win begins with.

    Of several stop strings the one that ends first wins; of those that end together the longest (and the first, if it
    is given twice). They are searched in the text, so they are found across tokens and within one.

    Args:
        vocab: the model's tokens.
        stop: the stop strings. Time and memory to prepare them are proportional to their length.
        render_special: also give the text of control and unknown tokens.

    Raises ValueError for an empty stop string or one with a lone surrogate.

    Not safe for use by two threads at once.
    """

    def __init__(self, vocab: Vocab, stop: Sequence[str] = (), *, render_special: bool = False) -> None: ...
    @property
    def vocab(self) -> Vocab: ...
    @property
    def stopped(self) -> bool:
        """A stop string was found: all text before it has been given, it and what follows never will be."""

    @property
    def stop_index(self) -> int | None:
        """Which of the stop strings was found."""

    @property
    def stop(self) -> str | None:
        """The stop string that was found."""

    @property
    def held(self) -> bytes:
        """What is held back: possibly the beginning of a stop string, then possibly an incomplete character."""

    def push(self, token: int) -> str:
        """Takes the next token; gives the text that is certain now, often empty.

        Raises IndexError when there is no such token, RuntimeError after ``finish`` or a stop string.
        """

    def push_bytes(self, data: bytes) -> str:
        """``push`` for bytes that are no token's. Raises RuntimeError after ``finish`` or a stop string."""

    def finish(self) -> str:
        """No more tokens: gives what was held back, but for an incomplete character. A second call gives ``""``.

        What may still become a character is no broken one, whether ``max_tokens`` cut it or the model ended there.
        """
