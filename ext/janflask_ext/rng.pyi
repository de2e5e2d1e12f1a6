"""The random numbers behind a draw: xoshiro256++, seeded through SplitMix64."""

class Rng:
    """A generator for tests and Python callers: the numbers that a sampler with the same seed draws.

    Raises:
        ValueError: the seed is not an integer from 0 to 2**64 - 1.
    """

    def __init__(self, seed: int) -> None: ...
    def u64(self) -> int:
        """The next 64 random bits."""

    def random(self) -> float:
        """A float uniform in [0, 1), with 53 random bits."""
