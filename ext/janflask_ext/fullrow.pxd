"""Sampling from the whole vocabulary; see fullrow.pyx."""

from libc.stdint cimport int32_t, int64_t

from janflask_ext.kernels cimport Row, Run, Settings, Shortlist, jf_bucket


# What a draw without a list works with; allocated once.
cdef struct Workspace:
    jf_bucket* buckets      # JF_BUCKETS
    double* block_mass      # of each block
    Shortlist* boundary     # the elements of the bucket in which a cut falls


cdef void whole_run(const Row* row, float lo, Run* run) noexcept nogil
cdef bint in_run(const Row* row, const Run* run, int32_t id) noexcept nogil
cdef void best_of_run(const Row* row, Run* run) noexcept nogil
cdef void keep_top(const Row* row, Run* run, Workspace* work, int32_t k) noexcept nogil
cdef void keep_surprise(const Row* row, Run* run, double beta, double most) noexcept nogil
cdef void narrow_run(
    const Row* row, const Settings* s, Run* run, Workspace* work, bint xtc, int64_t* size
) noexcept nogil
cdef double run_temperature(const Row* row, const Settings* s, Run* run, int64_t size) noexcept nogil
cdef double weigh_run(const Row* row, const Run* run, double beta, double* block_mass) noexcept nogil
cdef int32_t pick_from_run(
    const Row* row, Run* run, Workspace* work, double temperature, double u, double* p
) noexcept nogil
cdef void row_moments(const Row* row, double* mean, double* deviation) noexcept nogil
