"""Runs of a row's sorted order, and passes over them.

Every truncating sampler keeps a run of the sorted order (falling logit, then rising id). So a run is held as its two
end elements (struct Run), and needs no list. Passes go block by block and skip blocks whose maximum is below the run.
"""

from libc.float cimport FLT_MAX
from libc.math cimport INFINITY, fmax, fmin, sqrt
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from janflask_ext.kernels cimport JF_BLOCK, Row, Run


cdef void whole_run(const Row* row, float lo, Run* run) noexcept nogil:
    """All usable tokens with a logit of at least `lo`."""
    run.hi = row.max
    run.hi_id = 0
    run.lo = fmin(fmax(lo, -FLT_MAX), row.max)
    run.lo_id = row.n - 1


cdef bint in_run(const Row* row, const Run* run, int32_t id) noexcept nogil:
    cdef float x = row.x[id]
    if row.mask != NULL and not (row.mask[id >> 5] >> (id & 31)) & 1:
        return False
    return (x > run.lo or (x == run.lo and id <= run.lo_id)) and (x < run.hi or (x == run.hi and id >= run.hi_id))


cdef void set_floor(Run* run, float lo, int32_t lo_id) noexcept nogil:
    """Raises the run's lower end, never lowers it."""
    if lo > run.lo:
        run.lo = lo
        run.lo_id = lo_id
    elif lo == run.lo:
        run.lo_id = min(run.lo_id, lo_id)


cdef void set_ceiling(Run* run, float hi, int32_t hi_id) noexcept nogil:
    if hi < run.hi:
        run.hi = hi
        run.hi_id = hi_id
    elif hi == run.hi:
        run.hi_id = max(run.hi_id, hi_id)


cdef double weigh_run(const Row* row, const Run* run, double beta, double* block_mass) noexcept nogil:
    """Sum of exp((logit - run.hi) * beta) over the run, and of each block if `block_mass` is not NULL."""
    cdef double total = 0.0, mass
    cdef float lo, hi
    cdef int32_t b, begin, end, stop
    for b in range(row.n_blocks):
        mass = 0.0
        if row.maxima[b] >= run.lo:
            begin = b * JF_BLOCK
            end = min(begin + JF_BLOCK, row.n)
            while begin < end:
                stop = next_piece(run, begin, end, &lo, &hi)
                mass += row.kernels.exp_sum(row.x, begin, stop, row.mask, lo, hi, run.hi, <float>beta)
                begin = stop
        total += mass
        if block_mass != NULL:
            block_mass[b] = mass
    return total


cdef void run_moment(const Row* row, const Run* run, double* out) noexcept nogil:
    """out[0]: the sum of w = exp(logit - run.hi) over the run; out[1]: that of w * (logit - run.hi)."""
    cdef float lo, hi
    cdef int32_t b, begin, end, stop
    out[0] = 0.0
    out[1] = 0.0
    for b in range(row.n_blocks):
        if row.maxima[b] < run.lo:
            continue
        begin = b * JF_BLOCK
        end = min(begin + JF_BLOCK, row.n)
        while begin < end:
            stop = next_piece(run, begin, end, &lo, &hi)
            row.kernels.exp_moment(row.x, begin, stop, row.mask, lo, hi, run.hi, 1.0, out)
            begin = stop


cdef void run_extent(const Row* row, const Run* run, float* out) noexcept nogil:
    """The run's smallest and largest logit; infinity and minus infinity if it is empty."""
    cdef float lo, hi
    cdef int32_t b, begin, end, stop
    out[0] = INFINITY
    out[1] = -INFINITY
    for b in range(row.n_blocks):
        if row.maxima[b] < run.lo:
            continue
        begin = b * JF_BLOCK
        end = min(begin + JF_BLOCK, row.n)
        while begin < end:
            stop = next_piece(run, begin, end, &lo, &hi)
            row.kernels.extent(row.x, begin, stop, row.mask, lo, hi, out)
            begin = stop


cdef int64_t run_count(const Row* row, const Run* run) noexcept nogil:
    cdef double[3] moments
    cdef float lo, hi
    cdef int32_t begin = 0, stop
    memset(moments, 0, sizeof(moments))
    while begin < row.n:
        stop = next_piece(run, begin, row.n, &lo, &hi)
        row.kernels.moments(row.x, begin, stop, row.mask, lo, hi, 0.0, moments)
        begin = stop
    return <int64_t>moments[0]


cdef void row_moments(const Row* row, double* mean, double* deviation) noexcept nogil:
    """Mean and (population) standard deviation of the usable logits."""
    cdef double[3] moments
    memset(moments, 0, sizeof(moments))
    row.kernels.moments(row.x, 0, row.n, row.mask, -FLT_MAX, FLT_MAX, 0.0, moments)
    mean[0] = moments[1] / fmax(moments[0], 1.0)
    memset(moments, 0, sizeof(moments))
    row.kernels.moments(row.x, 0, row.n, row.mask, -FLT_MAX, FLT_MAX, mean[0], moments)
    deviation[0] = sqrt(moments[2] / fmax(moments[0], 1.0))


cdef int32_t nth_of(const Row* row, const Run* run, float x, int64_t nth) noexcept nogil:
    """The id of the nth (from 1) token of the run with this very logit; the last one if there are fewer."""
    cdef int32_t id, last = -1
    cdef int32_t b
    for b in range(row.n_blocks):
        if row.maxima[b] < x:
            continue
        for id in range(b * JF_BLOCK, min((b + 1) * JF_BLOCK, row.n)):
            if row.x[id] == x and in_run(row, run, id):
                last = id
                nth -= 1
                if nth <= 0:
                    return id
    return last


cdef void best_of_run(const Row* row, Run* run) noexcept nogil:
    """Leaves the first token of the run's order only."""
    cdef float[2] extent
    run_extent(row, run, extent)
    run.lo_id = nth_of(row, run, extent[1], 1)
    run.lo = extent[1]
    run.hi = extent[1]
    run.hi_id = run.lo_id


cdef void lower_ceiling(const Row* row, Run* run) noexcept nogil:
    """Makes run.hi a logit that occurs in the run: softmax weights are relative to it."""
    cdef float[2] extent
    run_extent(row, run, extent)
    set_ceiling(run, extent[1], 0)
