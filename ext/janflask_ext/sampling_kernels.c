/*
 * The instruction sets that the passes of sampling_kernels.h are compiled for, as a few vector operations each, and the
 * choice between them. The passes themselves are in sampling_kernels_impl.h, written once over these operations:
 *
 *   W, vf, vm             lanes, a vector of floats, a mask of lanes
 *   V_MAX(a, b)           lane by lane; b where a is NaN
 *   V_IN(x, lo, hi)       mask of lo <= x <= hi (false for NaN)
 *   V_KEEP(m, x)          x where m, else 0
 *   V_CHOOSE(m, x, y)     x where m, else y
 *   V_ALLOWED(words, i)   mask of the lanes whose bits are set in the bitmask, i a multiple of W
 *   V_BITS(m)             the mask as an integer
 *   V_PACK(i, f, m, x, y) the lanes in m of x, truncated to integers, and of y, moved together; writes W elements
 *   V_EXP2(t)             2**t for t <= 0 and little above, relative error 2e-7; 0 for t < -126
 *   V_ADD_WEIGHTS(s, x, t, y, seen, reference)  adds exp(x - ref) / unit to s, that of y to t; relative error 7e-7
 *   V_FAR(seen)           whether one of them was too far from ref for this
 *
 * Products and sums are fused only where V_FMA says so (setup.py turns contraction off), so that two passes which
 * compute the same bucket for an element agree on it.
 */
#include "sampling_kernels.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define JF_X86 1
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define CAT_(a, b) a##_##b
#define CAT(a, b) CAT_(a, b)
#define NAME(function) CAT(function, ISA)
#define STRING_(x) #x
#define JF_STRING(x) STRING_(x)

static const float LOG2_E = 1.44269504088896341f;

/* Minimax polynomials of 2**f, coefficients from the constant up: NEAR for f in [-1/2, 1/2], UNIT for f in [0, 1). */
#define NEAR5 1.000000072e+00f, 6.931469671e-01f, 2.402211972e-01f, 5.550713273e-02f, 9.675541334e-03f, 1.327647199e-03f
#define UNIT5 9.999999251e-01f, 6.931530732e-01f, 2.401536170e-01f, 5.582631805e-02f, 8.989340091e-03f, 1.877576675e-03f

#define POLY5_(f, a, b, c, d, e, g) \
    V_FMA(V_FMA(V_FMA(V_FMA(V_FMA(V_SET(g), f, V_SET(e)), f, V_SET(d)), f, V_SET(c)), f, V_SET(b)), f, V_SET(a))
#define POLY5(f, ...) POLY5_(f, __VA_ARGS__)

/*
 * Weights, the exponentials of the softmax sum, in fewer and cheaper instructions than V_EXP2: by a table of roots of
 * two and a short polynomial (Tang, "Table-driven implementation of the exponential function in IEEE floating-point
 * arithmetic", 1989). Logits are measured downward from the reference, in steps of ln(2) / 16 (or 8):
 *
 *   t = magic - x * steps          this float's low bits are the nearest whole number of steps: an index into the
 *                                  table, and above it octaves
 *   r = x * steps + (t - magic)    what is left, in [-1/2, 1/2]; both products are fused, so it is exact
 *
 * Shifted to where a float's exponent is, and taken off a root as an integer, t divides it by its octaves. This holds
 * for logits up to 87 below the reference. Those farther down set higher bits of t, for it grows: the bits of every
 * t are collected, and tell afterwards whether the sum is of any use.
 *
 * The reference is part of magic, rounded to a whole number of steps. What that loses is in the unit.
 */
typedef struct {
    float ref;
    float steps; /* in a logit of 1 */
    float magic;
    float back; /* taken off t for the polynomial's argument */
    double unit;
} jf_reference;

enum {
    CHUNK = 8 * JF_BLOCK,    /* logits that are summed in single precision, and to one reference */
    MAGIC_BITS = 0x4b400000, /* of MAGIC, whose low bits are free to count with */
    OCTAVES_ABOVE = 129,     /* that t starts from, of 256; in the 127 below, the weight is a normal float */
};
static const float MAGIC = 12582912.0f;    /* 1.5 * 2**23, where floats are whole numbers */
static const float LARGEST_REF = 1e5f;     /* beyond, magic would leave the range of these */
static const float FARTHEST_ABOVE = 40.0f; /* exp of it, and sums of that, well within a float */

/* 2**(r / steps) / unit is what the instruction set's polynomial gives for r + offset. */
static jf_reference reference_at(float ref, int steps, float offset, double unit) {
    const float per_logit = (float)steps * LOG2_E, whole = rintf(ref * per_logit);
    const float magic = MAGIC + whole + (float)(steps * OCTAVES_ABOVE);
    const double lost = (double)ref * (double)per_logit - (double)whole;
    return (jf_reference){ref, per_logit, magic, magic - offset, exp2(-lost / steps) * unit};
}

/* Bits of 2**(-i / 8) and 2**(-i / 16), plus what t has too much: OCTAVES_ABOVE, and i below them. */
static const uint32_t ROOTS8[8] = {
    0x80000000, 0x7ffac0c7, 0x7ff744fd, 0x7ff5672a, 0x7ff504f3, 0x7ff5fed7, 0x7ff837f0, 0x7ffb95c2,
};
static const uint32_t ROOTS16[16] = {
    0x80000000, 0x7ffd257d, 0x7ffac0c7, 0x7ff8ccdf, 0x7ff744fd, 0x7ff6248c, 0x7ff5672a, 0x7ff508a4,
    0x7ff504f3, 0x7ff5583f, 0x7ff5fed7, 0x7ff6f532, 0x7ff837f0, 0x7ff9c3d3, 0x7ffb95c2, 0x7ffdaac3,
};

static int32_t bucket_of(float distance, float near, float scale) {
    int32_t bucket = (int32_t)((distance - near) * scale);
    return bucket < JF_BUCKETS ? bucket : JF_BUCKETS - 1;
}

static inline int is_allowed(const uint32_t *mask, int32_t id) {
    return mask == NULL || (mask[id >> 5] >> (id & 31) & 1u);
}

static inline int comes_before(float x, int32_t id, float y, int32_t other) {
    return x > y || (x == y && id < other);
}

static void insertion_sort(float *logits, int32_t *ids, int32_t first, int32_t last) {
    for (int32_t i = first + 1; i <= last; i++) {
        const float x = logits[i];
        const int32_t id = ids[i];
        int32_t j = i;
        for (; j > first && comes_before(x, id, logits[j - 1], ids[j - 1]); j--) {
            logits[j] = logits[j - 1];
            ids[j] = ids[j - 1];
        }
        logits[j] = x;
        ids[j] = id;
    }
}

static void swap(float *logits, int32_t *ids, int32_t i, int32_t j) {
    const float x = logits[i];
    const int32_t id = ids[i];
    logits[i] = logits[j];
    ids[i] = ids[j];
    logits[j] = x;
    ids[j] = id;
}

/* Hoare's partition around the middle element; returns the last index of the first part. Ids make all keys distinct. */
static int32_t partition(float *logits, int32_t *ids, int32_t first, int32_t last) {
    const int32_t middle = first + (last - first) / 2;
    const float x = logits[middle];
    const int32_t id = ids[middle];
    int32_t i = first - 1, j = last + 1;
    for (;;) {
        do {
            i++;
        } while (comes_before(logits[i], ids[i], x, id));
        do {
            j--;
        } while (comes_before(x, id, logits[j], ids[j]));
        if (i >= j) {
            return j;
        }
        swap(logits, ids, i, j);
    }
}

/* By falling logit, then rising id. Recurses into the shorter part only, so the stack stays logarithmic. */
static void quick_sort(float *logits, int32_t *ids, int32_t first, int32_t last) {
    while (last - first > 24) {
        const int32_t split = partition(logits, ids, first, last);
        if (split - first < last - split - 1) {
            quick_sort(logits, ids, first, split);
            first = split + 1;
        } else {
            quick_sort(logits, ids, split + 1, last);
            last = split;
        }
    }
    insertion_sort(logits, ids, first, last);
}

static void list_sort(float *logits, int32_t *ids, int32_t n) {
    quick_sort(logits, ids, 0, n - 1);
}

static void list_keep(float *logits, int32_t *ids, int32_t n, int32_t k) {
    int32_t first = 0, last = n - 1;
    while (first < last) {
        const int32_t split = partition(logits, ids, first, last);
        if (k - 1 <= split) {
            last = split;
        } else {
            first = split + 1;
        }
    }
}

/* ---------------------------------------------------------------- any processor: vectors of four, as the compiler can */
#define ISA generic
#define TARGET
#define W 4
typedef float v4f __attribute__((vector_size(16)));
typedef int32_t v4i __attribute__((vector_size(16)));
#define vf v4f
#define vm v4i
#define V_SET(s) ((v4f){(s), (s), (s), (s)})
INLINE v4f load_v4f(const float *p) {
    v4f x;
    memcpy(&x, p, sizeof x);
    return x;
}
#define V_LOAD(p) load_v4f(p)
#define V_ADD(a, b) ((a) + (b))
#define V_SUB(a, b) ((a) - (b))
#define V_MUL(a, b) ((a) * (b))
#define V_FMA(a, b, c) ((a) * (b) + (c))
#define V_KEEP(m, x) ((v4f)((m) & (v4i)(x)))
#define V_CHOOSE(m, x, y) ((v4f)(((m) & (v4i)(x)) | (~(m) & (v4i)(y))))
INLINE v4f max_generic(v4f a, v4f b) {
    return V_CHOOSE(a > b, a, b);
}
#define V_MAX(a, b) max_generic(a, b)
#define V_ABS(x) ((v4f)((v4i)(x) & (v4i){0x7fffffff, 0x7fffffff, 0x7fffffff, 0x7fffffff}))
#define V_IN(x, lo, hi) (((x) >= (lo)) & ((x) <= (hi)))
#define V_AND(m, k) ((m) & (k))
#define V_ANY(m) (((m)[0] | (m)[1] | (m)[2] | (m)[3]) != 0)
#define V_BITS(m) ((uint32_t)(((m)[0] & 1) | ((m)[1] & 2) | ((m)[2] & 4) | ((m)[3] & 8)))
INLINE v4i allowed_generic(const uint32_t *words, int32_t i) {
    uint32_t bits = words[i >> 5] >> (i & 31);
    return (v4i){-(int32_t)(bits & 1), -(int32_t)(bits >> 1 & 1), -(int32_t)(bits >> 2 & 1), -(int32_t)(bits >> 3 & 1)};
}
#define V_ALLOWED(words, i) allowed_generic(words, i)
#define V_HMAX(x) fmaxf(fmaxf((x)[0], (x)[1]), fmaxf((x)[2], (x)[3]))
#define V_HSUM(x) (((double)(x)[0] + (x)[1]) + ((double)(x)[2] + (x)[3]))
INLINE v4f scale_generic(v4f t, v4f *fraction) {
    t = V_MAX(t, V_SET(-126.0f));
    v4f shifted = t + V_SET(12582912.0f); /* 1.5 * 2**23: the low bits now hold t rounded to an integer */
    *fraction = t - (shifted - V_SET(12582912.0f));
    v4i n = (v4i)shifted - (v4i){0x4b400000, 0x4b400000, 0x4b400000, 0x4b400000};
    return (v4f)((n + 127) << 23);
}
INLINE v4f exp2_generic(v4f t) {
    v4f f, scale = scale_generic(t, &f);
    return V_KEEP(t >= V_SET(-126.0f), POLY5(f, NEAR5) * scale);
}
#define V_EXP2(t) exp2_generic(t)
#define V_EXPONENT(x, ref, factor) V_MUL(V_SUB(x, ref), factor)
/* Without fused products x * steps would lose digits, so by the exact difference; no distance is too far for that. */
#define V_REFERENCE(at) ((jf_reference){.ref = (at), .unit = 1.0})
#define V_ADD_WEIGHTS(s, x, t, y, seen, reference) \
    do { \
        (s) += V_EXP2(V_EXPONENT(x, V_SET((reference).ref), V_SET(LOG2_E))); \
        (t) += V_EXP2(V_EXPONENT(y, V_SET((reference).ref), V_SET(LOG2_E))); \
    } while (0)
#define V_FAR(seen) ((void)(seen), 0)
INLINE void pack_generic(int32_t *integers, float *floats, uint32_t bits, v4f x, v4f y) {
    const v4i truncated = __builtin_convertvector(x, v4i);
    for (int lane = 0, n = 0; lane < 4; lane++) {
        integers[n] = truncated[lane];
        floats[n] = y[lane];
        n += bits >> lane & 1;
    }
}
#define V_PACK(integers, floats, m, x, y) pack_generic(integers, floats, V_BITS(m), x, y)
#define V_STORE(p, x) \
    do { \
        v4f s_ = (x); \
        memcpy(p, &s_, sizeof s_); \
    } while (0)
#include "sampling_kernels_impl.h"

#ifdef JF_X86
/* ------------------------------------------------------------------------------------------------------ AVX2 with FMA */
#define ISA avx2
#define TARGET __attribute__((target("avx2,fma")))
#define W 8
#define vf __m256
#define vm __m256
#define V_SET(s) _mm256_set1_ps(s)
#define V_LOAD(p) _mm256_loadu_ps(p)
#define V_STORE(p, x) _mm256_storeu_ps(p, x)
#define V_ADD(a, b) _mm256_add_ps(a, b)
#define V_SUB(a, b) _mm256_sub_ps(a, b)
#define V_MUL(a, b) _mm256_mul_ps(a, b)
#define V_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define V_MAX(a, b) _mm256_max_ps(a, b)
#define V_ABS(x) _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x)
#define V_KEEP(m, x) _mm256_and_ps(m, x)
#define V_CHOOSE(m, x, y) _mm256_blendv_ps(y, x, m)
#define V_IN(x, lo, hi) _mm256_and_ps(_mm256_cmp_ps(x, lo, _CMP_GE_OQ), _mm256_cmp_ps(x, hi, _CMP_LE_OQ))
#define V_AND(m, k) _mm256_and_ps(m, k)
#define V_ANY(m) (_mm256_movemask_ps(m) != 0)
#define V_BITS(m) ((uint32_t)_mm256_movemask_ps(m))
TARGET INLINE __m256 allowed_avx2(const uint32_t *words, int32_t i) {
    const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256i bits = _mm256_set1_epi32((int32_t)(words[i >> 5] >> (i & 31)));
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(bits, lane), lane));
}
#define V_ALLOWED(words, i) allowed_avx2(words, i)
TARGET INLINE float hmax_avx2(__m256 x) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}
#define V_HMAX(x) hmax_avx2(x)
TARGET INLINE double hsum_avx2(__m256 x) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return (double)_mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
#define V_HSUM(x) hsum_avx2(x)
TARGET INLINE __m256 scale_avx2(__m256 t, __m256 *fraction) {
    t = _mm256_max_ps(t, _mm256_set1_ps(-126.0f));
    __m256 n = _mm256_round_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    *fraction = _mm256_sub_ps(t, n);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
TARGET INLINE __m256 exp2_avx2(__m256 t) {
    __m256 f, scale = scale_avx2(t, &f);
    __m256 e = _mm256_mul_ps(POLY5(f, NEAR5), scale);
    return _mm256_and_ps(_mm256_cmp_ps(t, _mm256_set1_ps(-126.0f), _CMP_GE_OQ), e);
}
#define V_EXP2(t) exp2_avx2(t)
#define V_EXPONENT(x, ref, factor) V_MUL(V_SUB(x, ref), factor)
/* Eight roots fit a register; minimax polynomial of 2**(r / 8), relative error 2e-8. */
#define V_REFERENCE(at) reference_at(at, 8, 0.0f, 1.0)
TARGET INLINE __m256 add_weight_avx2(__m256 s, __m256 x, __m256 t, jf_reference reference) {
    const __m256 r = V_FMA(x, V_SET(reference.steps), V_SUB(t, V_SET(reference.back)));
    const __m256i n = _mm256_castps_si256(t);
    const __m256i root = _mm256_permutevar8x32_epi32(_mm256_loadu_si256((const __m256i *)ROOTS8), n);
    const __m256 scale = _mm256_castsi256_ps(_mm256_sub_epi32(root, _mm256_slli_epi32(n, 20)));
    __m256 p = V_FMA(V_SET(1.083963080e-04f), r, V_SET(3.754126178e-03f));
    p = V_FMA(V_FMA(p, r, V_SET(8.664340106e-02f)), r, V_SET(9.999999817e-01f));
    return V_FMA(scale, p, s);
}
TARGET INLINE int far_avx2(__m256 seen) {
    const __m256i range = _mm256_set1_epi32(MAGIC_BITS | 0x7ff);
    return !_mm256_testc_si256(range, _mm256_castps_si256(seen));
}
#define V_ADD_WEIGHTS(s, x, t, y, seen, reference) \
    do { \
        const __m256 n_ = _mm256_fnmadd_ps(x, V_SET((reference).steps), V_SET((reference).magic)); \
        const __m256 m_ = _mm256_fnmadd_ps(y, V_SET((reference).steps), V_SET((reference).magic)); \
        (s) = add_weight_avx2(s, x, n_, reference); \
        (t) = add_weight_avx2(t, y, m_, reference); \
        (seen) = _mm256_or_ps(seen, _mm256_or_ps(n_, m_)); \
    } while (0)
#define V_FAR(seen) far_avx2(seen)
TARGET INLINE void pack_avx2(int32_t *integers, float *floats, uint32_t bits, __m256 x, __m256 y) {
    int32_t truncated[8];
    float values[8];
    _mm256_storeu_si256((__m256i *)truncated, _mm256_cvttps_epi32(x));
    _mm256_storeu_ps(values, y);
    for (int lane = 0, n = 0; lane < 8; lane++) {
        integers[n] = truncated[lane];
        floats[n] = values[lane];
        n += bits >> lane & 1;
    }
}
#define V_PACK(integers, floats, m, x, y) pack_avx2(integers, floats, V_BITS(m), x, y)
#include "sampling_kernels_impl.h"

/* ----------------------------------------------------------------------------------------------------------- AVX-512 */
#define ISA avx512
#define TARGET __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")))
#define W 16
#define vf __m512
#define vm __mmask16
#define V_SET(s) _mm512_set1_ps(s)
#define V_LOAD(p) _mm512_loadu_ps(p)
#define V_STORE(p, x) _mm512_storeu_ps(p, x)
#define V_ADD(a, b) _mm512_add_ps(a, b)
#define V_SUB(a, b) _mm512_sub_ps(a, b)
#define V_MUL(a, b) _mm512_mul_ps(a, b)
#define V_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define V_MAX(a, b) _mm512_max_ps(a, b)
#define V_ABS(x) _mm512_abs_ps(x)
#define V_KEEP(m, x) _mm512_maskz_mov_ps(m, x)
#define V_CHOOSE(m, x, y) _mm512_mask_blend_ps(m, y, x)
#define V_IN(x, lo, hi) _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(x, lo, _CMP_GE_OQ), x, hi, _CMP_LE_OQ)
#define V_AND(m, k) ((__mmask16)((m) & (k)))
#define V_ANY(m) ((m) != 0)
#define V_BITS(m) ((uint32_t)(m))
#define V_ALLOWED(words, i) ((__mmask16)((words)[(i) >> 5] >> ((i) & 31)))
#define V_HMAX(x) _mm512_reduce_max_ps(x)
#define V_HSUM(x) ((double)_mm512_reduce_add_ps(x))
/* VREDUCEPS leaves t - floor(t), VSCALEFPS multiplies by 2**floor(t): the whole range reduction in two instructions. */
TARGET INLINE __m512 exp2_avx512(__m512 t) {
    __m512 f = _mm512_reduce_ps(t, 0x09);
    return _mm512_scalef_ps(POLY5(f, UNIT5), t);
}
#define V_EXP2(t) exp2_avx512(t)
#define V_EXPONENT(x, ref, factor) V_MUL(V_SUB(x, ref), factor)
/*
 * Sixteen roots, and a parabola. A multiplication less by its vertex: 2**(r / 16) = unit * ((r + 23)**2 + 532.74...),
 * where 23 is not quite the best offset, but a whole number, so that t - back is exact. Relative error 7e-7.
 */
#define V_REFERENCE(at) reference_at(at, 16, 23.0f, 9.418457876e-04)
TARGET INLINE __m512 add_weight_avx512(__m512 s, __m512 x, __m512 t, jf_reference reference) {
    const __m512 r = V_FMA(x, V_SET(reference.steps), V_SUB(t, V_SET(reference.back)));
    const __m512i n = _mm512_castps_si512(t);
    const __m512i root = _mm512_permutexvar_epi32(n, _mm512_loadu_si512(ROOTS16));
    const __m512 scale = _mm512_castsi512_ps(_mm512_sub_epi32(root, _mm512_slli_epi32(n, 19)));
    return V_FMA(scale, V_FMA(r, r, V_SET(532.744644f)), s);
}
/* All bits of three. */
TARGET INLINE __m512 or3_avx512(__m512 a, __m512 b, __m512 c) {
    return _mm512_castsi512_ps(
        _mm512_ternarylogic_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b), _mm512_castps_si512(c), 0xfe));
}
#define V_ADD_WEIGHTS(s, x, t, y, seen, reference) \
    do { \
        const __m512 n_ = _mm512_fnmadd_ps(x, V_SET((reference).steps), V_SET((reference).magic)); \
        const __m512 m_ = _mm512_fnmadd_ps(y, V_SET((reference).steps), V_SET((reference).magic)); \
        (s) = add_weight_avx512(s, x, n_, reference); \
        (t) = add_weight_avx512(t, y, m_, reference); \
        (seen) = or3_avx512(seen, n_, m_); \
    } while (0)
#define V_FAR(seen) (_mm512_test_epi32_mask(_mm512_castps_si512(seen), _mm512_set1_epi32(~(MAGIC_BITS | 0xfff))) != 0)
TARGET INLINE void pack_avx512(int32_t *integers, float *floats, __mmask16 m, __m512 x, __m512 y) {
    _mm512_storeu_si512(integers, _mm512_maskz_compress_epi32(m, _mm512_cvttps_epi32(x)));
    _mm512_storeu_ps(floats, _mm512_maskz_compress_ps(m, y));
}
#define V_PACK(integers, floats, m, x, y) pack_avx512(integers, floats, m, x, y)
#include "sampling_kernels_impl.h"
#endif

const jf_kernels *jf_kernels_get(const char *name) {
#ifdef JF_X86
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    if (avx512 && (name == NULL || strcmp(name, "avx512") == 0)) {
        return &kernels_avx512;
    }
    if (avx2 && (name == NULL || strcmp(name, "avx2") == 0)) {
        return &kernels_avx2;
    }
#endif
    return name == NULL || strcmp(name, "generic") == 0 ? &kernels_generic : NULL;
}
