/*
 * The passes of sampling_kernels.h over the vector operations that sampling_kernels.c defines before including this
 * file, once for each instruction set. Passes run vector by vector where the range allows it and element by element at
 * ragged ends; both ways see the same elements.
 */

/* Where the vector part of [begin, end) starts: bitmask words and vectors stay aligned to each other. */
#define VECTOR_BEGIN(begin, end) \
    ((begin) + ((W - (begin) % W) % W) < (end) ? (begin) + ((W - (begin) % W) % W) : (end))

TARGET INLINE vf NAME(load)(const float *row, int32_t i, const uint32_t *mask) {
    vf x = V_LOAD(row + i);
    return mask == NULL ? x : V_CHOOSE(V_ALLOWED(mask, i), x, V_SET(-INFINITY));
}

TARGET INLINE vm NAME(inside)(vf x, int32_t i, const uint32_t *mask, vf lo, vf hi) {
    vm m = V_IN(x, lo, hi);
    return mask == NULL ? m : V_AND(m, V_ALLOWED(mask, i));
}

INLINE int NAME(one_inside)(const float *row, int32_t i, const uint32_t *mask, float lo, float hi) {
    return row[i] >= lo && row[i] <= hi && is_allowed(mask, i);
}

TARGET static float NAME(range_max)(const float *row, int32_t begin, int32_t end, const uint32_t *mask) {
    float best = -INFINITY;
    int32_t i = begin, start = VECTOR_BEGIN(begin, end);
    for (; i < start; i++) {
        best = row[i] > best && is_allowed(mask, i) ? row[i] : best;
    }
    vf m = V_SET(-INFINITY), m2 = m;
    for (; i + 2 * W <= end; i += 2 * W) {
        m = V_MAX(NAME(load)(row, i, mask), m);
        m2 = V_MAX(NAME(load)(row, i + W, mask), m2);
    }
    m = V_MAX(m2, m);
    for (; i + W <= end; i += W) {
        m = V_MAX(NAME(load)(row, i, mask), m);
    }
    float widest = V_HMAX(m);
    best = widest > best ? widest : best;
    for (; i < end; i++) {
        best = row[i] > best && is_allowed(mask, i) ? row[i] : best;
    }
    return best;
}

/* The hot loop of every draw: a block's maximum in four independent chains. */
TARGET INLINE float NAME(full_block_max)(const float *block) {
    vf a = V_SET(-INFINITY), b = a, c = a, d = a;
    for (int32_t i = 0; i < JF_BLOCK; i += 4 * W) {
        a = V_MAX(V_LOAD(block + i), a);
        b = V_MAX(V_LOAD(block + i + W), b);
        c = V_MAX(V_LOAD(block + i + 2 * W), c);
        d = V_MAX(V_LOAD(block + i + 3 * W), d);
    }
    return V_HMAX(V_MAX(V_MAX(a, b), V_MAX(c, d)));
}

TARGET static float NAME(block_maxima)(const float *row, int32_t n, const uint32_t *mask, float *maxima) {
    float best = -INFINITY;
    for (int32_t begin = 0, b = 0; begin < n; begin += JF_BLOCK, b++) {
        float m;
        if (mask == NULL && begin + JF_BLOCK <= n) {
            m = NAME(full_block_max)(row + begin);
        } else {
            m = NAME(range_max)(row, begin, n - begin < JF_BLOCK ? n : begin + JF_BLOCK, mask);
        }
        maxima[b] = m;
        best = m > best ? m : best;
    }
    return best;
}

TARGET static int32_t NAME(count_at_least)(const float *values, int32_t n, float threshold) {
    int32_t count = 0;
    for (int32_t i = 0; i < n; i++) {
        count += values[i] >= threshold;
    }
    return count;
}

TARGET static int32_t NAME(gather)(const float *row, int32_t begin, int32_t end, const uint32_t *mask, float lo,
                                   float hi, int32_t *ids, float *logits) {
    const vf vlo = V_SET(lo), vhi = V_SET(hi);
    int32_t found = 0, i = begin, start = VECTOR_BEGIN(begin, end);
    for (;;) {
        for (; i < start; i++) {
            if (NAME(one_inside)(row, i, mask, lo, hi)) {
                ids[found] = i;
                logits[found++] = row[i];
            }
        }
        for (; i + W <= end; i += W) {
            uint32_t bits = V_BITS(NAME(inside)(V_LOAD(row + i), i, mask, vlo, vhi));
            for (; bits; bits &= bits - 1) {
                const int32_t id = i + __builtin_ctz(bits);
                ids[found] = id;
                logits[found++] = row[id];
            }
        }
        if (i >= end) {
            return found;
        }
        start = end;
    }
}

TARGET static void NAME(moments)(const float *row, int32_t begin, int32_t end, const uint32_t *mask, float lo, float hi,
                                 double center, double *out) {
    double count[8] = {0}, sum[8] = {0}, square[8] = {0};
    for (int32_t i = begin; i < end; i += 8) {
        const int32_t lanes = end - i < 8 ? end - i : 8;
        for (int32_t j = 0; j < lanes; j++) {
            const int inside = NAME(one_inside)(row, i + j, mask, lo, hi);
            const double x = inside ? (double)row[i + j] - center : 0.0;
            count[j] += inside;
            sum[j] += x;
            square[j] += x * x;
        }
    }
    for (int32_t j = 0; j < 8; j++) {
        out[0] += count[j];
        out[1] += sum[j];
        out[2] += square[j];
    }
}

TARGET static void NAME(extent)(const float *row, int32_t begin, int32_t end, const uint32_t *mask, float lo, float hi,
                                float *out) {
    const vf vlo = V_SET(lo), vhi = V_SET(hi), none = V_SET(-INFINITY);
    float least = out[0], most = out[1];
    vf high = none, low = none; /* low holds negated logits */
    int32_t i = begin, start = VECTOR_BEGIN(begin, end);
    for (;;) {
        for (; i < start; i++) {
            if (NAME(one_inside)(row, i, mask, lo, hi)) {
                least = row[i] < least ? row[i] : least;
                most = row[i] > most ? row[i] : most;
            }
        }
        for (; i + W <= end; i += W) {
            const vf x = V_LOAD(row + i);
            const vm m = NAME(inside)(x, i, mask, vlo, vhi);
            high = V_MAX(V_CHOOSE(m, x, none), high);
            low = V_MAX(V_CHOOSE(m, V_SUB(V_SET(0.0f), x), none), low);
        }
        if (i >= end) {
            break;
        }
        start = end;
    }
    out[0] = fminf(least, -V_HMAX(low));
    out[1] = fmaxf(most, V_HMAX(high));
}

TARGET static double NAME(exp_sum)(const float *row, int32_t begin, int32_t end, const uint32_t *mask, float lo,
                                   float hi, float ref, float beta) {
    const vf vlo = V_SET(lo), vhi = V_SET(hi), r = V_SET(ref), factor = V_SET(beta * LOG2_E);
    double sum = 0.0;
    vf s = V_SET(0.0f);
    int32_t i = begin, start = VECTOR_BEGIN(begin, end);
    for (;;) {
        for (; i < start; i++) {
            sum += NAME(one_inside)(row, i, mask, lo, hi) ? exp(((double)row[i] - (double)ref) * beta) : 0.0;
        }
        for (; i + W <= end; i += W) {
            const vf x = V_LOAD(row + i);
            const vm m = NAME(inside)(x, i, mask, vlo, vhi);
            if (V_ANY(m)) {
                s = V_ADD(s, V_KEEP(m, V_EXP2(V_EXPONENT(x, r, factor))));
            }
        }
        if (i >= end) {
            return sum + V_HSUM(s);
        }
        start = end;
    }
}

/* Adds the weights of a whole block to the sums; returns its maximum. One read for both. */
TARGET INLINE float NAME(full_block_weights)(const float *block, jf_reference reference, vf *sums, vf *seen) {
    vf a = V_SET(-INFINITY), b = a, s = sums[0], t = sums[1], bits = *seen;
    for (int32_t i = 0; i < JF_BLOCK; i += 2 * W) {
        const vf x = V_LOAD(block + i), y = V_LOAD(block + i + W);
        a = V_MAX(x, a);
        b = V_MAX(y, b);
        V_ADD_WEIGHTS(s, x, t, y, bits, reference);
    }
    sums[0] = s;
    sums[1] = t;
    *seen = bits;
    return V_HMAX(V_MAX(a, b));
}

/*
 * Writes the maxima of whole blocks, the largest of them to `max`; returns their sum of exp(logit - ref), or NaN if one
 * of the logits is NaN, infinite or too far from ref.
 */
TARGET static double NAME(chunk_softmax)(const float *row, int32_t n_blocks, const jf_reference *reference,
                                         float *maxima, float *max) {
    const jf_reference local = *reference; /* the maxima could alias the original */
    vf sums[2] = {V_SET(0.0f), V_SET(0.0f)}, seen = V_SET(0.0f);
    float best = -INFINITY;
    for (int32_t b = 0; b < n_blocks; b++) {
        const float m = NAME(full_block_weights)(row + b * JF_BLOCK, local, sums, &seen);
        maxima[b] = m;
        best = m > best ? m : best;
    }
    *max = best;
    return V_FAR(seen) ? NAN : (V_HSUM(sums[0]) + V_HSUM(sums[1])) * local.unit;
}

/*
 * One read of the row for both: exponentials are taken relative to the largest logit before the chunk, and the sum is
 * rescaled when a chunk brings a larger one (Milakov and Gimelshein, "Online normalizer calculation for softmax",
 * 2018). A chunk whose weights may have overflowed or lost digits is summed again, with more care: it is in the cache.
 */
TARGET static jf_softmax NAME(block_maxima_softmax)(const float *row, int32_t n, float *maxima) {
    jf_reference reference = V_REFERENCE(NAME(range_max)(row, 0, n < JF_BLOCK ? n : JF_BLOCK, NULL));
    double sum = 0.0;
    for (int32_t begin = 0; begin < n; begin += CHUNK) {
        const int32_t end = n - begin < CHUNK ? n : begin + CHUNK, whole = (end - begin) / JF_BLOCK;
        float max, *chunk_maxima = maxima + begin / JF_BLOCK;
        double part = NAME(chunk_softmax)(row + begin, whole, &reference, chunk_maxima, &max);
        int32_t summed = begin + whole * JF_BLOCK;
        if (summed < end) {
            chunk_maxima[whole] = NAME(range_max)(row, summed, end, NULL);
            max = chunk_maxima[whole] > max ? chunk_maxima[whole] : max;
        }
        if (!(fabsf(reference.ref) < LARGEST_REF && max - reference.ref < FARTHEST_ABOVE && part == part)) {
            part = 0.0;
            summed = begin;
        }
        if (max > reference.ref) {
            const double shrink = exp((double)reference.ref - (double)max);
            sum *= shrink;
            part *= shrink;
            reference = V_REFERENCE(max);
        }
        sum += part;
        if (summed < end) {
            sum += NAME(exp_sum)(row, summed, end, NULL, -FLT_MAX, FLT_MAX, reference.ref, 1.0f);
        }
    }
    return (jf_softmax){reference.ref, sum};
}

TARGET static void NAME(exp_moment)(const float *row, int32_t begin, int32_t end, const uint32_t *mask, float lo,
                                    float hi, float ref, float beta, double *out) {
    const vf vlo = V_SET(lo), vhi = V_SET(hi), r = V_SET(ref), vbeta = V_SET(beta), factor = V_SET(LOG2_E);
    const vf underflow = V_SET(-200.0f);
    vf s = V_SET(0.0f), sx = s;
    int32_t i = begin, start = VECTOR_BEGIN(begin, end);
    for (;;) {
        for (; i < start; i++) {
            if (NAME(one_inside)(row, i, mask, lo, hi)) {
                const double x = ((double)row[i] - (double)ref) * beta, e = exp(x);
                out[0] += e;
                out[1] += e > 0.0 ? e * x : 0.0;
            }
        }
        for (; i + W <= end; i += W) {
            const vf raw = V_LOAD(row + i);
            const vm m = NAME(inside)(raw, i, mask, vlo, vhi);
            if (V_ANY(m)) {
                const vf x = V_MAX(V_MUL(V_SUB(raw, r), vbeta), underflow); /* 0 * -inf would be NaN */
                const vf e = V_KEEP(m, V_EXP2(V_MUL(x, factor)));
                s = V_ADD(s, e);
                sx = V_FMA(e, x, sx);
            }
        }
        if (i >= end) {
            out[0] += V_HSUM(s);
            out[1] += V_HSUM(sx);
            return;
        }
        start = end;
    }
}

/* Empties what `histogram` has collected into the buckets. */
INLINE int32_t NAME(count)(const int32_t *index, const float *mass, int32_t n, jf_bucket *buckets) {
    for (int32_t i = 0; i < n; i++) {
        jf_bucket *bucket = buckets + (index[i] < JF_BUCKETS ? index[i] : JF_BUCKETS - 1);
        bucket->mass += (double)mass[i];
        bucket->count += 1.0;
    }
    return 0;
}

TARGET static void NAME(histogram)(const float *row, int32_t begin, int32_t end, const uint32_t *mask, float lo,
                                   float hi, float center, float near, float far, float scale, float ref,
                                   jf_bucket *buckets) {
    const vf vlo = V_SET(lo), vhi = V_SET(hi), c = V_SET(center), vnear = V_SET(near), vfar = V_SET(far);
    const vf vscale = V_SET(scale), r = V_SET(ref), factor = V_SET(LOG2_E);
    /* Elements are collected first and counted in one go: a branch for each of a vector's lanes would be mispredicted. */
    int32_t index[JF_BLOCK + W];
    float mass[JF_BLOCK + W];
    int32_t n = 0, i = begin, start = VECTOR_BEGIN(begin, end);
    for (;;) {
        for (; i < start; i++) {
            const float d = fabsf(row[i] - center);
            if (NAME(one_inside)(row, i, mask, lo, hi) && d >= near && d <= far) {
                jf_bucket *bucket = buckets + bucket_of(d, near, scale);
                bucket->mass += exp((double)row[i] - (double)ref);
                bucket->count += 1.0;
            }
        }
        for (; i + W <= end; i += W) {
            const vf x = V_LOAD(row + i);
            const vf d = V_ABS(V_SUB(x, c));
            const vm m = V_AND(NAME(inside)(x, i, mask, vlo, vhi), V_IN(d, vnear, vfar));
            if (V_ANY(m)) {
                V_PACK(index + n, mass + n, m, V_MUL(V_SUB(d, vnear), vscale), V_EXP2(V_EXPONENT(x, r, factor)));
                n += __builtin_popcount(V_BITS(m));
                n = n < JF_BLOCK ? n : NAME(count)(index, mass, n, buckets);
            }
        }
        if (i >= end) {
            NAME(count)(index, mass, n, buckets);
            return;
        }
        start = end;
    }
}

TARGET static double NAME(list_weights)(float *logits, int32_t n, float ref, float beta, float *weights) {
    const vf r = V_SET(ref), factor = V_SET(beta * LOG2_E);
    double sum = 0.0;
    for (int32_t i = n; i < n + JF_PAD; i++) {
        logits[i] = -INFINITY;
    }
    for (int32_t i = 0; i < n; i += W) {
        const vf w = V_EXP2(V_EXPONENT(V_LOAD(logits + i), r, factor));
        V_STORE(weights + i, w);
        sum += V_HSUM(w);
    }
    return sum;
}

/* Each element's rank is counted: quadratic, but without a branch to mispredict, and short lists are the rule. */
TARGET static void NAME(list_rank)(float *logits, const int32_t *ids, int32_t n, float *sorted_logits,
                                   int32_t *sorted_ids) {
    const vf top = V_SET(INFINITY);
    for (int32_t i = n; i < n + JF_PAD; i++) {
        logits[i] = -INFINITY;
    }
    for (int32_t i = 0; i < n; i++) {
        const float x = logits[i];
        const vf equal = V_SET(x), above = V_SET(nextafterf(x, INFINITY));
        int32_t rank = 0, j = 0;
        for (; j + W <= i; j += W) {
            rank += __builtin_popcount(V_BITS(V_IN(V_LOAD(logits + j), equal, top)));
        }
        const uint32_t before = (1u << (i - j)) - 1u;
        rank += __builtin_popcount(V_BITS(V_IN(V_LOAD(logits + j), equal, top)) & before);
        rank += __builtin_popcount(V_BITS(V_IN(V_LOAD(logits + j), above, top)) & ~before);
        for (j += W; j < n; j += W) {
            rank += __builtin_popcount(V_BITS(V_IN(V_LOAD(logits + j), above, top)));
        }
        sorted_logits[rank] = x;
        sorted_ids[rank] = ids[i];
    }
}

static const jf_kernels NAME(kernels) = {
    .name = JF_STRING(ISA),
    .block_maxima = NAME(block_maxima),
    .block_maxima_softmax = NAME(block_maxima_softmax),
    .range_max = NAME(range_max),
    .count_at_least = NAME(count_at_least),
    .gather = NAME(gather),
    .moments = NAME(moments),
    .extent = NAME(extent),
    .exp_sum = NAME(exp_sum),
    .exp_moment = NAME(exp_moment),
    .histogram = NAME(histogram),
    .list_weights = NAME(list_weights),
    .list_rank = NAME(list_rank),
    .list_sort = list_sort,
    .list_keep = list_keep,
    .bucket_of = bucket_of,
};

#undef VECTOR_BEGIN
#undef ISA
#undef TARGET
#undef W
#undef vf
#undef vm
#undef V_SET
#undef V_LOAD
#undef V_STORE
#undef V_ADD
#undef V_SUB
#undef V_MUL
#undef V_FMA
#undef V_MAX
#undef V_ABS
#undef V_KEEP
#undef V_CHOOSE
#undef V_IN
#undef V_AND
#undef V_ANY
#undef V_BITS
#undef V_ALLOWED
#undef V_HMAX
#undef V_HSUM
#undef V_EXP2
#undef V_REFERENCE
#undef V_ADD_WEIGHTS
#undef V_FAR
#undef V_EXPONENT
#undef V_PACK
