"""What was said before, and the samplers that punish saying it again: penalties and DRY."""

from collections.abc import Callable, Mapping, Sequence

class DryBreakers:
    """Token sequences that end a repeat. Immutable; can be shared by many samplers.

    sequences: for each token that begins a breaker, the tokens that may follow it; () where it is one alone.
    """

    def __init__(self, sequences: Mapping[int, Sequence[tuple[int, ...]]]) -> None: ...
    def __len__(self) -> int:
        """Tokens that begin a breaker."""

def process_dry_breakers(
    breakers: Sequence[str | bytes], pieces: Sequence[bytes], tokenize: Callable[[bytes], Sequence[int]]
) -> DryBreakers:
    """Finds the token sequences in which a breaker can show up, as llama.cpp does.

    A token whose piece holds the breaker is one alone; a piece that ends in the breaker's beginning is one together
    with the tokens of the rest. Takes one look at each piece: some 20 ms for 4 breakers and 262,144 pieces, so it is
    worth keeping for requests with the same breakers.

    breakers: longer ones are cut to 40 bytes, empty ones are skipped.
    pieces: the bytes of each token, special ones included.
    tokenize: tokens of a piece of text, without BOS, special tokens as plain text.
    """
