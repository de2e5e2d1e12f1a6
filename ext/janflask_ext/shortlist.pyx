"""Sampling from a short list: the way of every draw with a top-k of at most LIST_TOP.

The list is gathered from the row with the help of the block maxima: the k-th largest of them is a lower bound for the
k-th largest logit, so only blocks that reach it are read again, and of these only logits that reach it are taken. The
list is then sorted (falling logit, then rising id), and each sampler cuts it down to a run [start, end) of itself.

Meaning and order are llama.cpp's; sums are kept in double precision.
"""

from libc.float cimport FLT_MAX
from libc.math cimport INFINITY, fabsf, fmax, log, logf, nextafterf, pow
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from janflask_ext.kernels cimport JF_BLOCK, JF_PAD, Row, Settings, Shortlist


cdef void* zeroed(size_t count, size_t size) except NULL:
    cdef void* memory = calloc(count, size)
    if memory == NULL:
        raise MemoryError
    return memory


cdef int allocate_list(Shortlist* cands, int32_t capacity) except -1:
    cands.capacity = capacity
    cands.logits = <float*>zeroed(capacity + JF_PAD, sizeof(float))
    cands.ids = <int32_t*>zeroed(capacity + JF_PAD, sizeof(int32_t))
    cands.weights = <float*>zeroed(capacity + JF_PAD, sizeof(float))
    cands.found_logits = <float*>zeroed(capacity + JF_PAD, sizeof(float))
    cands.found_ids = <int32_t*>zeroed(capacity + JF_PAD, sizeof(int32_t))
    return 0


cdef void free_list(Shortlist* cands) noexcept:
    free(cands.logits)
    free(cands.ids)
    free(cands.weights)
    free(cands.found_logits)
    free(cands.found_ids)


cdef float top_threshold(const Row* row, int32_t k) noexcept nogil:
    """A lower bound for the k-th largest logit, by bisection over the block maxima."""
    cdef float[2] extent
    cdef float lo, hi, middle
    cdef int32_t count, _step
    if row.n_blocks <= k:
        return -FLT_MAX
    extent[0] = INFINITY
    extent[1] = -INFINITY
    row.kernels.extent(row.maxima, 0, row.n_blocks, NULL, -FLT_MAX, FLT_MAX, extent)
    lo = extent[0]
    hi = extent[1]
    if row.kernels.count_at_least(row.maxima, row.n_blocks, lo) < k:
        return -FLT_MAX
    for _step in range(32):
        middle = lo + (hi - lo) * <float>0.5
        if not lo < middle < hi:
            break
        count = row.kernels.count_at_least(row.maxima, row.n_blocks, middle)
        if count < k:
            hi = middle
            continue
        lo = middle
        if count <= k + k // 4:
            break
    return lo


cdef float worst_of(const float* logits, int32_t n) noexcept nogil:
    cdef float worst = logits[0]
    cdef int32_t i
    for i in range(1, n):
        worst = min(worst, logits[i])
    return worst


cdef void sort_found(const Row* row, Shortlist* found, int32_t n, bint rising_ids) noexcept nogil:
    """Sorts what was gathered into the list proper."""
    if rising_ids and n <= RANK_LIMIT:
        row.kernels.list_rank(found.found_logits, found.found_ids, n, found.logits, found.ids)
    else:
        memcpy(found.logits, found.found_logits, n * sizeof(float))
        memcpy(found.ids, found.found_ids, n * sizeof(int32_t))
        row.kernels.list_sort(found.logits, found.ids, n)
    found.n = n
    found.start = 0
    found.end = n


cdef void gather_top(const Row* row, Shortlist* found, int32_t k, float lo) noexcept nogil:
    """Fills the list with the k best tokens of the row whose logit is at least `lo`; ties go to the lower id."""
    cdef float threshold = max(lo, top_threshold(row, k))
    cdef int32_t b, begin, n = 0
    cdef bint rising_ids = True
    for b in range(row.n_blocks):
        if row.maxima[b] < threshold:
            continue
        if n > found.capacity - JF_BLOCK:
            # Ids come in rising order: from here on a logit equal to the k-th best has lost its tie.
            row.kernels.list_keep(found.found_logits, found.found_ids, n, k)
            rising_ids = False
            n = k
            threshold = nextafterf(worst_of(found.found_logits, k), INFINITY)
            if row.maxima[b] < threshold:
                continue
        begin = b * JF_BLOCK
        n += row.kernels.gather(
            row.x, begin, min(begin + JF_BLOCK, row.n), row.mask, threshold, FLT_MAX,
            found.found_ids + n, found.found_logits + n,
        )
    if n > k and n > RANK_LIMIT:
        row.kernels.list_keep(found.found_logits, found.found_ids, n, k)
        rising_ids = False
        n = k
    sort_found(row, found, n, rising_ids)
    found.end = min(n, k)


cdef double weigh(const Row* row, Shortlist* cands, double beta) noexcept nogil:
    """Softmax weights of the run, relative to its best; returns their sum."""
    cdef int32_t s = cands.start
    return row.kernels.list_weights(cands.logits + s, cands.end - s, cands.logits[s], <float>beta, cands.weights + s)


cdef double keep_outward(
    Shortlist* cands, float center, double mass, double target, bint strict, int32_t* middle
) noexcept nogil:
    """Keeps what is nearest to `center` until the weights kept, `mass` included, reach `target`.

    Reaching is >=, or > if `strict`. Of equal distances (of float logits, rounded to float) those at or below the
    center come first, then the others; within a side the list's order, away from the center. So what is kept is a run
    again. `middle` gets the index of the first element at or below the center. Returns the mass reached.
    """
    cdef int32_t below = cands.start
    cdef int32_t above
    cdef double w
    while below < cands.end and cands.logits[below] > center:
        below += 1
    middle[0] = below
    above = below - 1
    while below < cands.end or above >= cands.start:
        if below < cands.end and (
            above < cands.start or fabsf(cands.logits[below] - center) <= fabsf(cands.logits[above] - center)
        ):
            w = cands.weights[below]
            below += 1
        else:
            w = cands.weights[above]
            above -= 1
        mass += w
        if mass > target or (not strict and mass == target):
            break
    cands.start = above + 1
    cands.end = below
    return mass


cdef void typical_list(const Row* row, Shortlist* cands, double p) noexcept nogil:
    """Locally typical sampling: |-log p_i - H| is the distance of a logit to the expected logit."""
    cdef double total = weigh(row, cands, 1.0)
    cdef double mean = 0.0
    cdef float best = cands.logits[cands.start]
    cdef int32_t i, middle
    for i in range(cands.start, cands.end):
        mean += cands.weights[i] * (<double>cands.logits[i] - best)
    keep_outward(cands, <float>(best + mean / total), 0.0, p * total, True, &middle)


cdef bint top_p_list(const Row* row, Shortlist* cands, double p) noexcept nogil:
    """Returns whether the mass was reached: only then something is cut."""
    cdef double target = p * weigh(row, cands, 1.0)
    cdef double mass = 0.0
    cdef int32_t i
    for i in range(cands.start, cands.end):
        mass += cands.weights[i]
        if mass >= target:
            cands.end = i + 1
            return True
    return False


cdef void min_p_list(Shortlist* cands, float p) noexcept nogil:
    cdef float least = cands.logits[cands.start] + logf(p)
    while cands.end > cands.start + 1 and cands.logits[cands.end - 1] < least:
        cands.end -= 1


cdef int32_t xtc_list(const Row* row, Shortlist* cands, double threshold) noexcept nogil:
    """Exclude top choices: of the tokens at or above the threshold only the last one stays. Returns how many went."""
    cdef double least = threshold * weigh(row, cands, 1.0)
    cdef int32_t i = cands.start
    while i < cands.end and cands.weights[i] >= least:
        i += 1
    i = max(i - 1, cands.start)
    i, cands.start = i - cands.start, i
    return i


cdef void narrow_list(const Row* row, const Settings* s, Shortlist* cands, bint xtc, int64_t* size) noexcept nogil:
    """Typical, top-p, min-p and, if its chance has come, XTC.

    `size` is the number of candidates as llama.cpp counts them (there a logit of -inf still is one); the dynamic
    temperature depends on it.
    """
    if s.typical_p < 1:
        typical_list(row, cands, s.typical_p)
        size[0] = cands.end - cands.start
    if s.top_p < 1 and top_p_list(row, cands, s.top_p):
        size[0] = cands.end - cands.start
    if s.min_p > 0:
        min_p_list(cands, s.min_p)
        size[0] = cands.end - cands.start
    if xtc and cands.end - cands.start > 1:
        size[0] -= xtc_list(row, cands, s.xtc_threshold)


cdef double dynamic_temperature(const Settings* s, double entropy, int64_t size) noexcept nogil:
    """Entropy-based temperature: from temperature - range to temperature + range, by the normalised entropy."""
    cdef double least = fmax(0.0, <double>s.temperature - s.dynatemp_range)
    cdef double most = <double>s.temperature + s.dynatemp_range
    return least + (most - least) * pow(fmax(0.0, entropy) / log(<double>size), s.dynatemp_exponent)


cdef double list_temperature(const Row* row, const Settings* s, Shortlist* cands, int64_t size) noexcept nogil:
    cdef double total, mean = 0.0
    cdef float best
    cdef int32_t i
    if s.dynatemp_range <= 0:
        return s.temperature
    if size <= 1:
        return 1.0
    total = weigh(row, cands, 1.0)
    best = cands.logits[cands.start]
    for i in range(cands.start, cands.end):
        if cands.weights[i] > 0:
            mean += cands.weights[i] * (<double>cands.logits[i] - best)
    return dynamic_temperature(s, log(total) - mean / total, size)


cdef int32_t pick_from_list(
    const Row* row, Shortlist* cands, double temperature, double u, double* p
) noexcept nogil:
    """The token at the u-th part of the run's mass; `p` gets its probability."""
    cdef double total, rest
    cdef int32_t i
    if temperature <= 0:
        p[0] = 1.0
        cands.end = cands.start + 1
        return cands.ids[cands.start]
    total = weigh(row, cands, inverse(temperature))
    rest = u * total
    for i in range(cands.start, cands.end - 1):
        rest -= cands.weights[i]
        if rest < 0:
            break
    else:
        i = cands.end - 1
    p[0] = cands.weights[i] / total
    return cands.ids[i]


cdef void copy_list(const Shortlist* source, Shortlist* copy, int32_t most) noexcept nogil:
    """Copies the best of a sorted list."""
    copy.start = 0
    copy.end = min(source.end, most)
    copy.n = copy.end
    memcpy(copy.logits, source.logits, copy.end * sizeof(float))
    memcpy(copy.ids, source.ids, copy.end * sizeof(int32_t))


cdef int64_t list_infinite(const Row* row, Shortlist* found) noexcept nogil:
    """Lists the tokens with a logit of +inf, as many as fit, all with the logit 0; returns how many there are."""
    cdef int64_t total = 0
    cdef int32_t b, got, i, n = 0
    for b in range(row.n_blocks):
        if row.maxima[b] < INFINITY:
            continue
        got = row.kernels.gather(
            row.x, b * JF_BLOCK, min((b + 1) * JF_BLOCK, row.n), row.mask, INFINITY, INFINITY, found.ids + n,
            found.logits + n,
        )
        total += got
        if n + got <= found.capacity - JF_BLOCK:
            n += got
    for i in range(n):
        found.logits[i] = 0.0
    found.n = n
    found.start = 0
    found.end = n
    return total
