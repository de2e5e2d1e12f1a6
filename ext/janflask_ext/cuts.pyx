"""Cutting a run down to what is nearest to a center, by mass (top-p, typical) or by count (a large top-k).

Which element the cut falls on is found through a histogram over the distance to the center: the bucket in which it
falls is either small enough to be gathered, sorted and walked through, or becomes the range of the next histogram.
"""

from libc.float cimport FLT_MAX
from libc.math cimport INFINITY, ceil, exp, fabsf, floor, fmax, fmin, nextafterf
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from janflask_ext.kernels cimport JF_BLOCK, JF_BUCKETS, Row, Run, Shortlist, jf_bucket
from janflask_ext.runs cimport next_piece, nth_of, run_count, run_extent, set_ceiling, set_floor
from janflask_ext.shortlist cimport keep_outward, sort_found


cdef inline bint is_reached(const Cut* cut, double amount) noexcept nogil:
    return amount > cut.target if cut.strict else amount >= cut.target


cdef inline float beyond(float center, float distance, float direction) noexcept nogil:
    """A logit at least that far from the center, whatever the rounding, on the side that `direction` points to."""
    cdef double reach = distance * (1.0 + 1e-6) if distance > 0 else distance * (1.0 - 1e-6)
    cdef double x = center + reach if direction > 0 else center - reach
    x = nextafterf(<float>fmax(fmin(x, FLT_MAX), -FLT_MAX), direction)
    return <float>fmax(fmin(x, FLT_MAX), -FLT_MAX)


cdef float furthest_within(float center, float distance, float direction) noexcept nogil:
    """The logit furthest from the center whose (rounded) distance is not more than `distance`, by bisection."""
    cdef float inside = center
    cdef float outside = beyond(center, distance, direction)
    cdef float middle
    if fabsf(outside - center) <= distance:
        return outside      # the end of the floats
    while nextafterf(inside, direction) != outside:
        middle = inside * <float>0.5 + outside * <float>0.5
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
