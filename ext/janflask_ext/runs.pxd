"""Runs of a row's sorted order; see runs.pyx."""

from libc.math cimport INFINITY, nextafterf
from libc.stdint cimport int32_t, int64_t

from janflask_ext.kernels cimport Row, Run

cdef bint in_run(const Row* row, const Run* run, int32_t id) noexcept nogil
cdef double weigh_run(const Row* row, const Run* run, double beta, double* block_mass) noexcept nogil
cdef int32_t nth_of(const Row* row, const Run* run, float x, int64_t nth) noexcept nogil
cdef int64_t run_count(const Row* row, const Run* run) noexcept nogil
cdef void best_of_run(const Row* row, Run* run) noexcept nogil
cdef void lower_ceiling(const Row* row, Run* run) noexcept nogil
cdef void row_moments(const Row* row, double* mean, double* deviation) noexcept nogil
cdef void run_extent(const Row* row, const Run* run, float* out) noexcept nogil
cdef void run_moment(const Row* row, const Run* run, double* out) noexcept nogil
cdef void set_ceiling(Run* run, float hi, int32_t hi_id) noexcept nogil
cdef void set_floor(Run* run, float lo, int32_t lo_id) noexcept nogil
cdef void whole_run(const Row* row, float lo, Run* run) noexcept nogil


cdef inline int32_t next_piece(const Run* run, int32_t begin, int32_t end, float* lo, float* hi) noexcept nogil:
    """The part of [begin, end) that starts at `begin` and in which the run is one closed interval of logits.

    The ids that break ties cut a row into at most three parts. Returns where this one ends.
    """
    lo[0] = run.lo
    hi[0] = run.hi
    if begin > run.lo_id:
        lo[0] = nextafterf(run.lo, INFINITY)
    else:
        end = min(end, run.lo_id + 1)
    if begin < run.hi_id:
        hi[0] = nextafterf(run.hi, -INFINITY)
        end = min(end, run.hi_id)
    return end
