"""The random numbers behind a draw: xoshiro256++, seeded through SplitMix64.

Sources: D. Blackman and S. Vigna, "Scrambled Linear Pseudorandom Number Generators", ACM TOMS 47 (2021); G. L. Steele,
D. Lea and C. H. Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014. The functions are in rng.pxd, to
be inlined into the sampler; this module is their Python face.
"""


cdef class Rng:
    """A generator for tests and Python callers: the numbers that a sampler with the same seed draws."""

    def __cinit__(self, seed):
        if not isinstance(seed, int) or not 0 <= seed < 1 << 64:
            raise ValueError(f"seed must be an integer from 0 to 2**64 - 1, not {seed!r}")
        seed_rng(&self.state, seed)

    def u64(self):
        """The next 64 random bits."""
        return next_u64(&self.state)

    def random(self):
        """A float uniform in [0, 1), with 53 random bits."""
        return next_double(&self.state)
