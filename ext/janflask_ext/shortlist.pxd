"""Sampling from a short list; see shortlist.pyx."""

from libc.stdint cimport int32_t, int64_t

from janflask_ext.kernels cimport Row, Settings, Shortlist

cdef enum:
    LIST_CAPACITY = 4096
    LIST_TOP = 1024         # the largest top_k that is answered with a list
    RANK_LIMIT = 160        # elements that are sorted by counting ranks

cdef void* zeroed(size_t count, size_t size) except NULL
cdef int allocate_list(Shortlist* cands, int32_t capacity) except -1
cdef void free_list(Shortlist* cands) noexcept
cdef void copy_list(const Shortlist* source, Shortlist* copy, int32_t most) noexcept nogil
cdef int64_t list_infinite(const Row* row, Shortlist* found) noexcept nogil
cdef void gather_top(const Row* row, Shortlist* found, int32_t k, float lo) noexcept nogil
cdef void sort_found(const Row* row, Shortlist* found, int32_t n, bint rising_ids) noexcept nogil
cdef double keep_outward(
    Shortlist* cands, float center, double mass, double target, bint strict, int32_t* middle
) noexcept nogil
cdef void narrow_list(const Row* row, const Settings* s, Shortlist* cands, bint xtc, int64_t* size) noexcept nogil
cdef double list_temperature(const Row* row, const Settings* s, Shortlist* cands, int64_t size) noexcept nogil
cdef double weigh(const Row* row, Shortlist* cands, double beta) noexcept nogil
cdef int32_t pick_from_list(const Row* row, Shortlist* cands, double temperature, double u, double* p) noexcept nogil
cdef double dynamic_temperature(const Settings* s, double entropy, int64_t size) noexcept nogil


cdef inline double inverse(double temperature) noexcept nogil:
    """1 / temperature, finite in float32: below 1e-30 all of the mass is the best token's anyway."""
    return 1.0 / (temperature if temperature > 1e-30 else 1e-30)
