"""The sampler's C face, for modules of this package that hold no GIL: Chain's draw, accept_token and score_token."""

from janflask_ext.chain cimport Chain


cdef class Sampler(Chain):
    pass
