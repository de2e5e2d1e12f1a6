"""xoshiro256++ as plain C: a struct and inline functions for modules that hold no GIL."""

from libc.stdint cimport uint64_t


cdef struct Xoshiro:
    uint64_t[4] s


cdef inline uint64_t splitmix(uint64_t* state) noexcept nogil:
    cdef uint64_t z
    state[0] += <uint64_t>0x9E3779B97F4A7C15
    z = state[0]
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return z ^ (z >> 31)


cdef inline void seed_rng(Xoshiro* rng, uint64_t seed) noexcept nogil:
    cdef int i
    for i in range(4):
        rng.s[i] = splitmix(&seed)


cdef inline uint64_t rotate_left(uint64_t x, int k) noexcept nogil:
    return (x << k) | (x >> (64 - k))


cdef inline uint64_t next_u64(Xoshiro* rng) noexcept nogil:
    cdef uint64_t result = rotate_left(rng.s[0] + rng.s[3], 23) + rng.s[0]
    cdef uint64_t t = rng.s[1] << 17
    rng.s[2] ^= rng.s[0]
    rng.s[3] ^= rng.s[1]
    rng.s[1] ^= rng.s[2]
    rng.s[0] ^= rng.s[3]
    rng.s[2] ^= t
    rng.s[3] = rotate_left(rng.s[3], 45)
    return result


cdef inline double next_double(Xoshiro* rng) noexcept nogil:
    """Uniform in [0, 1), 53 bits."""
    return <double>(next_u64(rng) >> 11) * (1.0 / 9007199254740992.0)


cdef class Rng:
    cdef Xoshiro state
