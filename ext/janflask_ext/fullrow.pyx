"""Sampling from the whole vocabulary, without sorting or copying it.

What is left is a run of the sorted order (runs.pyx). Thresholds on the logit (min-p, top-n-sigma, mirostat 2) shorten
it at once; cuts by mass (top-p, typical) or by count (a large top-k) look for the element they fall on (cuts.pyx). A
draw then sums the run's softmax weights block by block, and looks for its token only in the block it falls into.
"""

from libc.float cimport FLT_MAX
from libc.math cimport INFINITY, exp, fmax, fmin, log, logf
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from janflask_ext.cuts cimport Cut, Workspace, make_cut
from janflask_ext.kernels cimport JF_BLOCK, Row, Run, Settings
from janflask_ext.runs cimport (
    best_of_run,
    in_run,
    lower_ceiling,
    nth_of,
    run_count,
    run_extent,
    run_moment,
    set_ceiling,
    set_floor,
    weigh_run,
)
from janflask_ext.shortlist cimport dynamic_temperature, inverse


cdef void keep_top(const Row* row, Run* run, Workspace* work, int32_t k) noexcept nogil:
    """Top-k for a k too large for a list."""
    cdef Cut cut
    cdef float[2] extent
    if k >= row.n:
        return
    run_extent(row, run, extent)
    memset(&cut, 0, sizeof(cut))
    cut.center = run.hi
    cut.ref = run.hi
    cut.by_count = True
    cut.target = k
    cut.far = fmin(run.hi - extent[0], FLT_MAX)
    make_cut(row, run, work, &cut)


cdef bint top_p_run(const Row* row, Run* run, Workspace* work, double p) noexcept nogil:
    cdef Cut cut
    cdef double total = weigh_run(row, run, 1.0, NULL)
    memset(&cut, 0, sizeof(cut))
    cut.center = run.hi
    cut.ref = run.hi
    cut.target = p * total
    # All tokens further away than this have, together, less than half of the mass that is cut off.
    cut.far = <float>fmin(<double>run.hi - run.lo, log(2.0 * row.n / fmax((1.0 - p) * total, 1e-30)))
    return make_cut(row, run, work, &cut)


cdef void typical_run(const Row* row, Run* run, Workspace* work, double p) noexcept nogil:
    """Locally typical sampling: |-log p_i - H| is the distance of a logit to the expected logit."""
    cdef Cut cut
    cdef double[2] moment
    cdef float[2] extent
    run_moment(row, run, moment)
    run_extent(row, run, extent)
    memset(&cut, 0, sizeof(cut))
    cut.center = <float>(run.hi + moment[1] / moment[0])
    cut.ref = run.hi
    cut.both_sides = True
    cut.strict = True
    cut.target = p * moment[0]
    cut.far = fmin(fmax(cut.center - extent[0], extent[1] - cut.center), FLT_MAX)
    if make_cut(row, run, work, &cut):
        lower_ceiling(row, run)


cdef int64_t xtc_run(const Row* row, Run* run, double threshold) noexcept nogil:
    """Exclude top choices: of the tokens at or above the threshold only the last one stays. Returns how many went."""
    cdef Run top = run[0]
    cdef float[2] extent
    cdef int64_t count
    if threshold > 0:
        set_floor(&top, <float>fmin(run.hi + log(threshold * weigh_run(row, run, 1.0, NULL)), FLT_MAX), row.n - 1)
    count = run_count(row, &top)
    if count < 2:
        return 0
    run_extent(row, &top, extent)
    set_ceiling(run, extent[0], nth_of(row, &top, extent[0], row.n))
    return count - 1


cdef void keep_surprise(const Row* row, Run* run, double beta, double most) noexcept nogil:
    """Mirostat 2: only tokens whose surprise, in bits, is at most `most`; the best one always."""
    cdef double least = run.hi + (log(weigh_run(row, run, beta, NULL)) - most * log(2.0)) / beta
    set_floor(run, <float>fmin(fmax(least, -FLT_MAX), run.hi), row.n - 1)


cdef void narrow_run(
    const Row* row, const Settings* s, Run* run, Workspace* work, bint xtc, int64_t* size
) noexcept nogil:
    """Typical, top-p, min-p and, if its chance has come, XTC; `size` as in `narrow_list`."""
    cdef bint trimmed = False
    cdef int64_t removed
    if s.typical_p < 1:
        typical_run(row, run, work, s.typical_p)
        trimmed = True
    if s.top_p < 1:
        trimmed = top_p_run(row, run, work, s.top_p) or trimmed
    if s.min_p > 0:
        set_floor(run, fmin(run.hi + logf(s.min_p), run.hi), row.n - 1)
        trimmed = True
    if trimmed and s.dynatemp_range > 0:
        size[0] = run_count(row, run)
    if xtc:
        removed = xtc_run(row, run, s.xtc_threshold)
        size[0] -= removed


cdef double run_temperature(const Row* row, const Settings* s, Run* run, int64_t size) noexcept nogil:
    cdef double[2] moment
    if s.dynatemp_range <= 0:
        return s.temperature
    if size <= 1:
        return 1.0
    run_moment(row, run, moment)
    return dynamic_temperature(s, log(moment[0]) - moment[1] / moment[0], size)


cdef int32_t pick_from_run(
    const Row* row, Run* run, Workspace* work, double temperature, double u, double* p
) noexcept nogil:
    """The token at the u-th part of the run's mass, in the order of ids; `p` gets its probability."""
    cdef double total, rest, beta, w = 0.0
    cdef int32_t b, id, begin, chosen = 0
    if temperature <= 0:
        best_of_run(row, run)
        p[0] = 1.0
        return run.lo_id
    beta = inverse(temperature)
    total = weigh_run(row, run, beta, work.block_mass)
    rest = u * total
    for b in range(row.n_blocks):
        if work.block_mass[b] > 0:
            chosen = b
            if rest < work.block_mass[b]:
                break
            rest -= work.block_mass[b]
    else:
        rest = INFINITY     # rounding: the sum fell short, so it is the last token of the last block
    begin = chosen * JF_BLOCK
    for id in range(begin, min(begin + JF_BLOCK, row.n)):
        if in_run(row, run, id):
            w = exp((<double>row.x[id] - run.hi) * beta)
            chosen = id
            rest -= w
            if rest < 0:
                break
    p[0] = w / total
    return chosen
