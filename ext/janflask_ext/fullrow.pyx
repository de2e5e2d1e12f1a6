"""Sampling from the whole vocabulary, without sorting or copying it.

Every truncating sampler keeps a run of the sorted order (falling logit, then rising id). So a run is held as its two
end elements (struct Run), and what a sampler needs to know is which element its cut falls on. Thresholds on the logit
(min-p, top-n-sigma, mirostat 2) give it at once. Cuts by mass (top-p, typical) or by count (a large top-k) find it
through a histogram over the distance to a center: the bucket in which the cut falls is either small enough to be
gathered, sorted and walked through, or becomes the range of the next histogram.

A draw then sums the run's softmax weights block by block, and looks for its token only in the block it falls into.
"""

from libc.float cimport FLT_MAX
from libc.math cimport INFINITY, ceil, exp, fabsf, floor, fmax, fmin, log, logf, nextafterf, sqrt
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from janflask_ext.kernels cimport (
    JF_BLOCK,
    JF_BUCKETS,
    Row,
    Run,
    Settings,
    Shortlist,
    jf_bucket,
)
from janflask_ext.shortlist cimport dynamic_temperature, inverse, keep_outward, sort_found


# ---------------------------------------------------------------------------------------------------------------- runs

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


# ---------------------------------------------------------------------------------------------------------------- cuts

# What a cut looks for, and how far it has come.
cdef struct Cut:
    float center
    bint both_sides         # of the center; else only what is at or below it
    bint by_count           # the target is a number of tokens; else it is mass, relative to exp(ref)
    bint strict             # > target, not >=
    double target
    double reached          # outside of the distances still in question
    float ref
    float near              # the distances still in question, both ends included
    float far


cdef inline bint is_reached(const Cut* cut, double amount) noexcept nogil:
    return amount > cut.target if cut.strict else amount >= cut.target


cdef inline float beyond(float center, float distance, float direction) noexcept nogil:
    """A logit at least that far from the center, whatever the rounding, on the side that `direction` points to."""
    cdef double reach = distance * (1.0 + 1e-6) if distance > 0 else distance * (1.0 - 1e-6)
    cdef double x = center + reach if direction > 0 else center - reach
    return nextafterf(<float>fmax(fmin(x, FLT_MAX), -FLT_MAX), direction)


cdef float furthest_within(float center, float distance, float direction) noexcept nogil:
    """The logit furthest from the center whose (rounded) distance is not more than `distance`, by bisection."""
    cdef float inside = center
    cdef float outside = beyond(center, distance, direction)
    cdef float middle
    while nextafterf(inside, direction) != outside and inside != outside:
        middle = inside + (outside - inside) * <float>0.5
        if middle == inside or middle == outside:
            middle = nextafterf(inside, direction)
        if fabsf(middle - center) <= distance:
            inside = middle
        else:
            outside = middle
    return inside


cdef void fill_histogram(const Row* row, const Run* run, Workspace* work, const Cut* cut, float scale) noexcept nogil:
    cdef float lo, hi
    cdef float least = fmax(run.lo, beyond(cut.center, cut.far, -INFINITY))
    cdef int32_t b, begin, end, stop
    memset(work.buckets, 0, JF_BUCKETS * sizeof(jf_bucket))
    for b in range(row.n_blocks):
        if row.maxima[b] < least:
            continue
        begin = b * JF_BLOCK
        end = min(begin + JF_BLOCK, row.n)
        while begin < end:
            stop = next_piece(run, begin, end, &lo, &hi)
            row.kernels.histogram(
                row.x, begin, stop, row.mask, fmax(lo, least), hi, cut.center, cut.near, cut.far, scale, cut.ref,
                work.buckets,
            )
            begin = stop


cdef int32_t gather_boundary(const Row* row, const Run* run, Workspace* work, const Cut* cut) noexcept nogil:
    """Lists the run's elements at the distances still in question, which are known to fit."""
    cdef Shortlist* found = work.boundary
    cdef float lo, hi, d
    cdef float least = beyond(cut.center, cut.far, -INFINITY)
    cdef float most = beyond(cut.center, cut.far if cut.both_sides else -cut.near, INFINITY)
    cdef int32_t b, begin, end, stop, i, got, n = 0
    for b in range(row.n_blocks):
        if row.maxima[b] < fmax(run.lo, least):
            continue
        begin = b * JF_BLOCK
        end = min(begin + JF_BLOCK, row.n)
        while begin < end:
            stop = next_piece(run, begin, end, &lo, &hi)
            got = row.kernels.gather(
                row.x, begin, stop, row.mask, fmax(lo, least), fmin(hi, most), found.found_ids + n,
                found.found_logits + n,
            )
            begin = stop
            for i in range(n, n + got):
                d = fabsf(found.found_logits[i] - cut.center)
                if cut.near <= d <= cut.far:
                    found.found_ids[n] = found.found_ids[i]
                    found.found_logits[n] = found.found_logits[i]
                    n += 1
    return n


cdef float bucket_edge(
    const Row* row, float near, float far, float scale, int32_t bucket, bint upper
) noexcept nogil:
    """The smallest distance in [near, far] of a bucket (or the largest, if `upper`), by bisection."""
    cdef int32_t beyond_edge = bucket + 1 if upper else bucket      # the first bucket on the far side of the edge
    cdef float lo = near, hi = far, middle
    if upper and row.kernels.bucket_of(hi, near, scale) <= bucket:
        return hi
    if not upper and row.kernels.bucket_of(lo, near, scale) >= bucket:
        return lo
    # lo is on the near side of the edge and hi on the far side of it, until they are neighbours.
    while nextafterf(lo, INFINITY) < hi:
        middle = lo + (hi - lo) * <float>0.5
        if not lo < middle < hi:
            middle = nextafterf(lo, INFINITY)
        if row.kernels.bucket_of(middle, near, scale) >= beyond_edge:
            hi = middle
        else:
            lo = middle
    return lo if upper else hi


cdef void keep_group(const Row* row, Run* run, Cut* cut) noexcept nogil:
    """Ends a cut at a group of more equal distances than a list holds: ties, counted off in the order they have.

    First those at or below the center, lower ids first, then those above it, higher ids first. If float32 can't tell
    the distances of several logits apart, all on that side of the center stay.
    """
    cdef Run below = run[0]
    cdef Run above = run[0]
    cdef float[2] extent
    cdef double wanted = cut.target - cut.reached
    cdef int64_t there
    set_floor(&below, furthest_within(cut.center, cut.far, -INFINITY), row.n - 1)
    set_ceiling(&below, cut.center, 0)
    if cut.near > 0:
        set_ceiling(&below, nextafterf(inner_edge(cut, -INFINITY), -INFINITY), 0)
    there = group_size(row, &below, cut, extent, &wanted)
    if there == 0 and cut.near > 0:
        set_floor(run, inner_edge(cut, -INFINITY), row.n - 1)
    elif extent[0] < extent[1]:
        set_floor(run, extent[0], row.n - 1)
    else:
        set_floor(run, cut.center if there == 0 else extent[0], nth_of(row, &below, extent[0], there))
    if not cut.both_sides:
        return
    if cut.near == 0:
        set_ceiling(run, cut.center, 0)
        return
    set_ceiling(&above, furthest_within(cut.center, cut.far, INFINITY), 0)
    set_floor(&above, nextafterf(inner_edge(cut, INFINITY), INFINITY), row.n - 1)
    there = group_size(row, &above, cut, extent, &wanted)
    if there == 0:
        set_ceiling(run, inner_edge(cut, INFINITY), 0)
    elif extent[0] < extent[1]:
        set_ceiling(run, extent[1], 0)
    else:
        set_ceiling(run, extent[1], nth_of(row, &above, extent[1], run_count(row, &above) - there + 1))


cdef inline float inner_edge(const Cut* cut, float direction) noexcept nogil:
    """The furthest logit that is nearer than the distances still in question."""
    return furthest_within(cut.center, nextafterf(cut.near, 0), direction)


cdef int64_t group_size(const Row* row, const Run* group, const Cut* cut, float* extent, double* wanted) noexcept nogil:
    """How many of a group of equals are to stay; takes what they amount to off what is wanted."""
    cdef double each
    cdef int64_t there = run_count(row, group)
    run_extent(row, group, extent)
    if there == 0 or wanted[0] < 0 or (wanted[0] == 0 and not cut.strict):
        return 0
    each = 1.0 if cut.by_count else exp(<double>extent[1] - cut.ref)
    if each > 0:
        there = min(there, <int64_t>floor(wanted[0] / each) + 1 if cut.strict else <int64_t>ceil(wanted[0] / each))
    wanted[0] = -1.0 if there * each > wanted[0] else wanted[0] - there * each
    return there


cdef void cut_boundary(const Row* row, Run* run, Workspace* work, Cut* cut) noexcept nogil:
    """Ends a cut inside the distances that are still in question, element by element."""
    cdef Shortlist* cands = work.boundary
    cdef int32_t i, middle
    cdef float inner = nextafterf(cut.near, -INFINITY)
    sort_found(row, cands, gather_boundary(row, run, work, cut), True)
    if cut.by_count:
        for i in range(cands.n):
            cands.weights[i] = 1.0
    else:
        row.kernels.list_weights(cands.logits, cands.n, cut.ref, 1.0, cands.weights)
    keep_outward(cands, cut.center, cut.reached, cut.target, cut.strict, &middle)
    if cands.end > middle:
        set_floor(run, cands.logits[cands.end - 1], cands.ids[cands.end - 1])
    elif inner >= 0:
        set_floor(run, furthest_within(cut.center, inner, -INFINITY), row.n - 1)
    else:
        set_floor(run, nextafterf(cut.center, INFINITY), row.n - 1)
    if not cut.both_sides:
        return
    if cands.start < middle:
        set_ceiling(run, cands.logits[cands.start], cands.ids[cands.start])
    elif inner >= 0:
        set_ceiling(run, furthest_within(cut.center, inner, INFINITY), 0)
    else:
        set_ceiling(run, cut.center, 0)


cdef bint make_cut(const Row* row, Run* run, Workspace* work, Cut* cut) noexcept nogil:
    """Cuts the run down to what is nearest to the center. Returns False, and cuts nothing, if that is all of it."""
    cdef float scale, near, far
    cdef int32_t b, level = 0, last = 0
    cdef double amount, count
    while True:
        scale = <float>fmin(JF_BUCKETS / fmax(<double>cut.far - cut.near, 1e-30), 1e30)
        fill_histogram(row, run, work, cut, scale)
        amount = 0.0
        for b in range(JF_BUCKETS):
            if work.buckets[b].count == 0:
                continue
            last = b
            amount = work.buckets[b].count if cut.by_count else work.buckets[b].mass
            if is_reached(cut, cut.reached + amount):
                break
            cut.reached += amount
        else:
            if level == 0:
                return False
            cut.reached -= amount       # rounding: the sums of a finer histogram fell short
        count = work.buckets[last].count
        near = bucket_edge(row, cut.near, cut.far, scale, last, False)
        far = bucket_edge(row, cut.near, cut.far, scale, last, True)
        if count <= work.boundary.capacity - JF_BLOCK:
            cut.near = near
            cut.far = far
            cut_boundary(row, run, work, cut)
            return True
        if near == far or (near == cut.near and far == cut.far):
            cut.near = near
            cut.far = far
            keep_group(row, run, cut)
            return True
        cut.near = near
        cut.far = far
        level += 1


# ------------------------------------------------------------------------------------------------------------ samplers

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
