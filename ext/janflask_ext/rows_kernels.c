/*
 * ggml computes one row by a dot product for each number of the result, and two or more, for some types of weights and for
 * attention without flash attention, by other code (llamafile_sgemm) that adds up in another order. Flash attention takes one
 * row in pieces, and many in tiles. Here a few rows are computed in the order of the dot product, as fast as by that code: an
 * unpacked block of one row is multiplied with several of the other's. Whether the bits are the dot product's is checked
 * before (jf_rows_take).
 */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* dl_iterate_phdr */
#endif

#include "rows_kernels.h"

#include "ggml_hooks.h"

#include <stdlib.h>
#include <string.h>

typedef bool (*sgemm_fn)(const jf_params *, int64_t m, int64_t n, int64_t k, const void *a, int64_t lda, const void *b,
                         int64_t ldb, void *c, int64_t ldc, int a_type, int b_type, int c_type);
typedef void (*attention_fn)(const jf_params *, jf_tensor *dst);
typedef bool (*tiled_fn)(const jf_params *, jf_tensor *dst);
typedef bool (*tiled_id_fn)(const jf_params *, jf_tensor *dst, int64_t, int64_t, const int32_t *, char *);

static sgemm_fn original_sgemm;
static attention_fn original_attention;
static tiled_fn original_tiled;
static tiled_id_fn original_tiled_id;

static int mode = JF_AS_IT_IS;
static jf_seen *watching;

void jf_rows_set(int new_mode) { mode = new_mode; }
int jf_rows_mode(void) { return mode; }
void jf_rows_watch(jf_seen *seen) { watching = seen; }

/* --- kernels ------------------------------------------------------------------------------------------------------ */

/* C[j * ldc + i] = A[i] * B[j] for rows first to behind of A and n rows of B; strides and k in blocks. */
typedef void (*product_fn)(int64_t first, int64_t behind, int64_t n, int64_t k, const void *a, int64_t lda, const void *b,
                           int64_t ldb, float *c, int64_t ldc);

static product_fn product_f16, product_q8_0, product_q5_0;
static int64_t step_f16 = 1; /* numbers that product_f16 takes at once: of others k must not be */

#if defined(__x86_64__) && defined(__linux__) && (defined(__GNUC__) || defined(__clang__))

#include "x86_kernels.h"

#include <immintrin.h>

#define AVX512 "avx2,fma,f16c,avx512f,avx512vl,avx512dq"

/* Two by three halves' products: ggml_vec_dot_f16 keeps four sums of a vector each. */
#define F16_TILE(NAME, TARGET, VEC, WIDTH, ZERO, LOAD, FMA, REDUCE, ROWS, COLUMNS)                                  \
    INLINE __attribute__((target(TARGET))) void NAME(const uint16_t *a, int64_t lda, const uint16_t *b, int64_t ldb,  \
                                                    int64_t k, float *c, int64_t ldc) {                              \
        VEC sum[ROWS][COLUMNS][4];                                                                                   \
        for (int i = 0; i < (ROWS); i++)                                                                             \
            for (int j = 0; j < (COLUMNS); j++)                                                                      \
                for (int l = 0; l < 4; l++)                                                                          \
                    sum[i][j][l] = ZERO();                                                                           \
        for (int64_t at = 0; at < k; at += 4 * (WIDTH)) {                                                            \
            _Pragma("GCC unroll 4") for (int l = 0; l < 4; l++) {                                                    \
                VEC x[ROWS];                                                                                         \
                _Pragma("GCC unroll 4") for (int i = 0; i < (ROWS); i++) x[i] = LOAD(a + i * lda + at + l * (WIDTH)); \
                _Pragma("GCC unroll 4") for (int j = 0; j < (COLUMNS); j++) {                                        \
                    const VEC y = LOAD(b + j * ldb + at + l * (WIDTH));                                              \
                    _Pragma("GCC unroll 4") for (int i = 0; i < (ROWS); i++) sum[i][j][l] =                          \
                        FMA(x[i], y, sum[i][j][l]);                                                                  \
                }                                                                                                    \
            }                                                                                                        \
        }                                                                                                            \
        for (int i = 0; i < (ROWS); i++)                                                                             \
            for (int j = 0; j < (COLUMNS); j++)                                                                      \
                c[j * ldc + i] = REDUCE(sum[i][j]);                                                                  \
    }

#define LOAD_512(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#define LOAD_256(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)))

INLINE __attribute__((target(AVX512))) float reduce_512(const __m512 *x) {
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(x[0], x[2]), _mm512_add_ps(x[1], x[3])));
}

INLINE __attribute__((target(AVX2))) float reduce_256(const __m256 *x) {
    const __m256 all = _mm256_add_ps(_mm256_add_ps(x[0], x[2]), _mm256_add_ps(x[1], x[3]));
    const __m128 half = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
    const __m128 pairs = _mm_hadd_ps(half, half);
    return _mm_cvtss_f32(_mm_hadd_ps(pairs, pairs));
}

#define TILE_512(ROWS, COLUMNS)                                                                                       \
    F16_TILE(tile_512_##ROWS##_##COLUMNS, AVX512, __m512, 16, _mm512_setzero_ps, LOAD_512, _mm512_fmadd_ps, reduce_512, \
             ROWS, COLUMNS)
#define TILE_256(ROWS, COLUMNS)                                                                                     \
    F16_TILE(tile_256_##ROWS##_##COLUMNS, AVX2, __m256, 8, _mm256_setzero_ps, LOAD_256, _mm256_fmadd_ps, reduce_256, \
             ROWS, COLUMNS)

TILE_512(2, 3)
TILE_512(2, 2)
TILE_512(2, 1)
TILE_512(1, 3)
TILE_512(1, 2)
TILE_512(1, 1)
TILE_256(1, 3)
TILE_256(1, 2)
TILE_256(1, 1)

/* All of B with ROWS rows of A: three at a time, and two, rather than three and one. */
#define F16_ROWS(BITS, ROWS)                                                                                      \
    for (int64_t j = 0; j < n;) {                                                                                 \
        const uint16_t *y = (const uint16_t *)b + j * ldb;                                                        \
        const int64_t left = n - j;                                                                               \
        if (left == 1) {                                                                                          \
            tile_##BITS##_##ROWS##_1(x, lda, y, ldb, k, c + j * ldc + i, ldc), j += 1;                            \
        } else if (left == 2 || left == 4) {                                                                      \
            tile_##BITS##_##ROWS##_2(x, lda, y, ldb, k, c + j * ldc + i, ldc), j += 2;                            \
        } else {                                                                                                  \
            tile_##BITS##_##ROWS##_3(x, lda, y, ldb, k, c + j * ldc + i, ldc), j += 3;                            \
        }                                                                                                         \
    }

__attribute__((target(AVX512))) static void f16_avx512(int64_t first, int64_t behind, int64_t n, int64_t k, const void *a,
                                                       int64_t lda, const void *b, int64_t ldb, float *c, int64_t ldc) {
    int64_t i = first;
    for (; i + 2 <= behind; i += 2) {
        const uint16_t *x = (const uint16_t *)a + i * lda;
        F16_ROWS(512, 2)
    }
    for (; i < behind; i++) {
        const uint16_t *x = (const uint16_t *)a + i * lda;
        F16_ROWS(512, 1)
    }
}

__attribute__((target(AVX2))) static void f16_avx2(int64_t first, int64_t behind, int64_t n, int64_t k, const void *a,
                                                   int64_t lda, const void *b, int64_t ldb, float *c, int64_t ldc) {
    for (int64_t i = first; i < behind; i++) {
        const uint16_t *x = (const uint16_t *)a + i * lda;
        F16_ROWS(256, 1)
    }
}

/* --- 32 numbers of eight bits and less, with a half float that they are multiplied with ----------------------------- */

typedef struct {
    uint16_t d;
    int8_t values[32];
} q8_0;

typedef struct {
    uint16_t d;
    uint8_t high[4], low[16]; /* the fifth bits, and four bits of each */
} q5_0;

INLINE __attribute__((target(AVX2))) __m256i numbers_q8_0(const q8_0 *x) {
    return _mm256_loadu_si256((const __m256i *)x->values);
}

INLINE __attribute__((target(AVX2))) __m256i numbers_q5_0(const q5_0 *x) {
    int32_t bits;
    memcpy(&bits, x->high, 4);
    const __m256i bytes = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    const __m256i high = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(bits), bytes), bit);
    const __m128i both = _mm_loadu_si128((const __m128i *)x->low);
    const __m256i low = _mm256_and_si256(
        _mm256_inserti128_si256(_mm256_castsi128_si256(both), _mm_srli_epi16(both, 4), 1), _mm256_set1_epi8(15));
    /* A fifth bit that is not set: sixteen less. */
    const __m256i less = _mm256_andnot_si256(_mm256_cmpeq_epi8(high, bit), _mm256_set1_epi8((char)0xF0));
    return _mm256_or_si256(low, less);
}

INLINE __attribute__((target(AVX2))) __m256 quads_avx2(__m256i sizes, __m256i signs, __m256i y) {
    const __m256i pairs = _mm256_maddubs_epi16(sizes, _mm256_sign_epi8(y, signs));
    return _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

INLINE __attribute__((target(VNNI))) __m256 quads_vnni(__m256i sizes, __m256i signs, __m256i y) {
    return _mm256_cvtepi32_ps(_mm256_dpbusd_epi32(_mm256_setzero_si256(), sizes, _mm256_sign_epi8(y, signs)));
}

INLINE __attribute__((target(AVX2))) float sum_256(__m256 x) {
    __m128 half = _mm_add_ps(_mm256_extractf128_ps(x, 1), _mm256_castps256_ps128(x));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

#define QUANT_TILE(NAME, TARGET, BLOCK, NUMBERS, QUADS, ROWS, COLUMNS)                                              \
    INLINE __attribute__((target(TARGET))) void NAME(const BLOCK *a, int64_t lda, const q8_0 *b, int64_t ldb, int64_t k, \
                                                    float *c, int64_t ldc) {                                         \
        __m256 sum[ROWS][COLUMNS];                                                                                   \
        for (int i = 0; i < (ROWS); i++)                                                                             \
            for (int j = 0; j < (COLUMNS); j++)                                                                      \
                sum[i][j] = _mm256_setzero_ps();                                                                     \
        for (int64_t at = 0; at < k; at++) {                                                                         \
            __m256i y[COLUMNS];                                                                                      \
            float dy[COLUMNS];                                                                                       \
            _Pragma("GCC unroll 4") for (int j = 0; j < (COLUMNS); j++) {                                            \
                y[j] = numbers_q8_0(b + j * ldb + at);                                                               \
                dy[j] = _cvtsh_ss(b[j * ldb + at].d);                                                                \
            }                                                                                                        \
            _Pragma("GCC unroll 4") for (int i = 0; i < (ROWS); i++) {                                               \
                const __m256i x = NUMBERS(a + i * lda + at);                                                         \
                const __m256i sizes = _mm256_sign_epi8(x, x);                                                        \
                const float dx = _cvtsh_ss(a[i * lda + at].d);                                                       \
                _Pragma("GCC unroll 4") for (int j = 0; j < (COLUMNS); j++) sum[i][j] =                              \
                    _mm256_fmadd_ps(_mm256_set1_ps(dx * dy[j]), QUADS(sizes, x, y[j]), sum[i][j]);                   \
            }                                                                                                        \
        }                                                                                                            \
        for (int i = 0; i < (ROWS); i++)                                                                             \
            for (int j = 0; j < (COLUMNS); j++)                                                                      \
                c[j * ldc + i] = sum_256(sum[i][j]);                                                                 \
    }

#define QUANT_ROWS(NAME, ROWS)                                                                                    \
    for (; i + (ROWS) <= behind; i += (ROWS)) {                                                                   \
        int64_t j = 0;                                                                                            \
        for (; j + 4 <= n; j += 4)                                                                                \
            NAME##_##ROWS##_4(x + i * lda, lda, y + j * ldb, ldb, k, c + j * ldc + i, ldc);                       \
        if (n - j == 3)                                                                                           \
            NAME##_##ROWS##_3(x + i * lda, lda, y + j * ldb, ldb, k, c + j * ldc + i, ldc);                       \
        else if (n - j == 2)                                                                                      \
            NAME##_##ROWS##_2(x + i * lda, lda, y + j * ldb, ldb, k, c + j * ldc + i, ldc);                       \
        else if (n - j == 1)                                                                                      \
            NAME##_##ROWS##_1(x + i * lda, lda, y + j * ldb, ldb, k, c + j * ldc + i, ldc);                       \
    }

#define QUANT(NAME, TARGET, BLOCK, NUMBERS, QUADS)                                                                \
    QUANT_TILE(NAME##_4_4, TARGET, BLOCK, NUMBERS, QUADS, 4, 4)                                                   \
    QUANT_TILE(NAME##_4_3, TARGET, BLOCK, NUMBERS, QUADS, 4, 3)                                                   \
    QUANT_TILE(NAME##_4_2, TARGET, BLOCK, NUMBERS, QUADS, 4, 2)                                                   \
    QUANT_TILE(NAME##_4_1, TARGET, BLOCK, NUMBERS, QUADS, 4, 1)                                                   \
    QUANT_TILE(NAME##_1_4, TARGET, BLOCK, NUMBERS, QUADS, 1, 4)                                                   \
    QUANT_TILE(NAME##_1_3, TARGET, BLOCK, NUMBERS, QUADS, 1, 3)                                                   \
    QUANT_TILE(NAME##_1_2, TARGET, BLOCK, NUMBERS, QUADS, 1, 2)                                                   \
    QUANT_TILE(NAME##_1_1, TARGET, BLOCK, NUMBERS, QUADS, 1, 1)                                                   \
    __attribute__((target(TARGET))) static void NAME(int64_t first, int64_t behind, int64_t n, int64_t k, const void *a, \
                                                     int64_t lda, const void *b, int64_t ldb, float *c, int64_t ldc) { \
        const BLOCK *x = a;                                                                                       \
        const q8_0 *y = b;                                                                                        \
        int64_t i = first;                                                                                        \
        QUANT_ROWS(NAME, 4)                                                                                       \
        QUANT_ROWS(NAME, 1)                                                                                       \
    }

QUANT(q8_0_vnni, VNNI, q8_0, numbers_q8_0, quads_vnni)
QUANT(q8_0_avx2, AVX2, q8_0, numbers_q8_0, quads_avx2)
QUANT(q5_0_vnni, VNNI, q5_0, numbers_q5_0, quads_vnni)
QUANT(q5_0_avx2, AVX2, q5_0, numbers_q5_0, quads_avx2)

/* --- their check --------------------------------------------------------------------------------------------------- */

enum { ROWS = 5, COLUMNS = 9, LONGEST = 1024 };

static void fill(uint8_t *bytes, size_t size, size_t block, uint32_t *state) {
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)jf_next(state);
    for (size_t at = 0; at < size; at += block) {
        const uint16_t scale = jf_half(state);
        memcpy(bytes + at, &scale, 2);
    }
    /* Quantized numbers are -127 to 127. */
    for (size_t i = 0; block == sizeof(q8_0) && i < size; i++)
        if (i % block >= 2 && bytes[i] == 0x80)
            bytes[i] = 0x81;
}

static bool same_bits(product_fn product, jf_vec_dot dot, size_t a_block, size_t b_block, int numbers, int64_t step) {
    static uint8_t a[ROWS * LONGEST * 2], b[COLUMNS * LONGEST * 2];
    uint32_t state = 1;
    for (int64_t length = step; length <= LONGEST; length += step * (1 + length / 256)) {
        const int64_t k = length / numbers;
        fill(a, (size_t)(ROWS * k) * a_block, a_block, &state);
        fill(b, (size_t)(COLUMNS * k) * b_block, b_block, &state);
        for (int n = 1; n <= COLUMNS; n++) {
            float ours[ROWS * COLUMNS];
            product(0, ROWS, n, k, a, k, b, k, ours, ROWS);
            for (int j = 0; j < n; j++)
                for (int i = 0; i < ROWS; i++) {
                    float theirs;
                    dot((int)length, &theirs, 0, a + (size_t)(i * k) * a_block, 0, b + (size_t)(j * k) * b_block, 0, 1);
                    if (memcmp(&theirs, &ours[j * ROWS + i], sizeof theirs) != 0)
                        return false;
                }
        }
    }
    return true;
}

static bool take(product_fn *place, product_fn product, jf_vec_dot dot, size_t a_block, size_t b_block, int numbers,
                 int64_t step) {
    if (!same_bits(product, dot, a_block, b_block, numbers, step))
        return false;
    *place = product;
    return true;
}

bool jf_rows_take(int type, jf_vec_dot dot) {
    const bool avx2 = jf_has_avx2(), vnni = jf_has_vnni();
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512dq");
    if (type == JF_F16) {
        if (avx512 && take(&product_f16, f16_avx512, dot, 2, 2, 1, 64))
            step_f16 = 64;
        else if (avx2 && take(&product_f16, f16_avx2, dot, 2, 2, 1, 32))
            step_f16 = 32;
        return product_f16 != NULL;
    }
    if (type == JF_Q8_0)
        return avx2 && take(&product_q8_0, vnni ? q8_0_vnni : q8_0_avx2, dot, sizeof(q8_0), sizeof(q8_0), 32, 32);
    if (type == JF_Q5_0)
        return avx2 && take(&product_q5_0, vnni ? q5_0_vnni : q5_0_avx2, dot, sizeof(q5_0), sizeof(q8_0), 32, 32);
    return false;
}

#else

bool jf_rows_take(int type, jf_vec_dot dot) {
    (void)type, (void)dot;
    return false;
}

#endif

/* --- the hooks ----------------------------------------------------------------------------------------------------- */

static bool few(int64_t rows) { return mode == JF_ALL_ALIKE || (mode == JF_FEW_ALIKE && rows < JF_MANY); }

/* What takes such a product, of rows that are to be alike; NULL with *known: ggml's dot product does. */
static product_fn fitting(int64_t k, int a_type, int b_type, bool *known) {
    *known = mode == JF_ALL_ALIKE;
    if (a_type == JF_F16 && b_type == JF_F16 && product_f16 != NULL) {
        *known = true;
        return k % step_f16 == 0 ? product_f16 : NULL;
    }
    if (b_type == JF_Q8_0 && a_type == JF_Q8_0)
        return product_q8_0;
    if (b_type == JF_Q8_0 && a_type == JF_Q5_0)
        return product_q5_0;
    return NULL;
}

static bool alike_sgemm(const jf_params *p, int64_t m, int64_t n, int64_t k, const void *a, int64_t lda, const void *b,
                        int64_t ldb, void *c, int64_t ldc, int a_type, int b_type, int c_type) {
    bool known = false;
    product_fn product = NULL;
    if (watching != NULL)
        watching->products++, watching->m = m, watching->n = n, watching->k = k;
    if (n > 1 && c_type == JF_F32 && few(n)) {
        product = fitting(k, a_type, b_type, &known);
        if (product != NULL) {
            /* Four rows at a time, so that nobody's tiles are cut. */
            const int64_t parts = (m + 3) / 4;
            const int64_t first = parts * p->ith / p->nth * 4, behind = parts * (p->ith + 1) / p->nth * 4;
            product(first, behind < m ? behind : m, n, k, a, lda, b, ldb, c, ldc);
            if (watching != NULL)
                watching->own++;
            return true;
        }
        if (known) {
            if (watching != NULL)
                watching->declined++;
            return false;
        }
    }
    if (watching != NULL)
        watching->passed_on++;
    return original_sgemm(p, m, n, k, a, lda, b, ldb, c, ldc, a_type, b_type, c_type);
}

static void alike_attention(const jf_params *p, jf_tensor *dst) {
    if (watching != NULL) {
        watching->attentions++;
        watching->rows = dst->ne[2];
        watching->ith = p->ith, watching->nth = p->nth, watching->use_ref = p->use_ref;
    }
    if (!few(dst->ne[2])) {
        original_attention(p, dst);
        return;
    }
    jf_params plain = *p;
    plain.use_ref = true; /* neither in pieces nor in tiles */
    original_attention(&plain, dst);
}

static bool alike_tiled(const jf_params *p, jf_tensor *dst) { return mode != JF_ALL_ALIKE && original_tiled(p, dst); }

static bool alike_tiled_id(const jf_params *p, jf_tensor *dst, int64_t a, int64_t rows, const int32_t *places, char *scratch) {
    return mode != JF_ALL_ALIKE && original_tiled_id(p, dst, a, rows, places, scratch);
}

/* --- putting them in their place ------------------------------------------------------------------------------------ */

const char *jf_rows_install(const void *inside) {
    jf_hook hooks[] = {
        {"llamafile_sgemm", (void *)alike_sgemm, (void **)&original_sgemm, true, NULL},
        {"ggml_compute_forward_flash_attn_ext", (void *)alike_attention, (void **)&original_attention, true, NULL},
        {"ggml_compute_forward_mul_mat_tiled", (void *)alike_tiled, (void **)&original_tiled, false, NULL},
        {"ggml_compute_forward_mul_mat_id_tiled", (void *)alike_tiled_id, (void **)&original_tiled_id, false, NULL},
    };
    return jf_put(inside, hooks, sizeof hooks / sizeof *hooks);
}
