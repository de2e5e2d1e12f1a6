"""Sampling from the whole vocabulary; see fullrow.pyx."""

from libc.stdint cimport int32_t, int64_t

from janflask_ext.cuts cimport Workspace
from janflask_ext.kernels cimport Row, Run, Settings

cdef void keep_top(const Row* row, Run* run, Workspace* work, int32_t k) noexcept nogil
cdef void keep_surprise(const Row* row, Run* run, double beta, double most) noexcept nogil
cdef void narrow_run(
    const Row* row, const Settings* s, Run* run, Workspace* work, bint xtc, int64_t* size
) noexcept nogil
cdef double run_temperature(const Row* row, const Settings* s, Run* run, int64_t size) noexcept nogil
cdef int32_t pick_from_run(
    const Row* row, Run* run, Workspace* work, double temperature, double u, double* p
) noexcept nogil
