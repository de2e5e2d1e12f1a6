/*
 * A block of Q4_1 is unpacked once for up to eight columns, and one of Q8_1 is loaded once for several rows; the
 * columns' scales are made floats once for all rows. Each sum is taken in the order of llama.cpp's own kernel
 * (ggml_vec_dot_q4_1_q8_1, arch/x86/quants.c), so its bits are the same, however many columns there are. That is
 * checked before ours is used: a library compiled otherwise keeps its own.
 */
#define _GNU_SOURCE
#include "dots_kernels.h"

#if defined(__x86_64__) && defined(__linux__) && (defined(__GNUC__) || defined(__clang__))

#include "ggml_hooks.h"
#include "x86_kernels.h"

#include <immintrin.h>
#include <stdlib.h>
#include <string.h>

/* --- what we know of ggml 0.25, of llama-cpp-python 0.3.36 -------------------------------------------------------- */

enum { F32 = 0, Q4_1 = 3, BLOCK = 32 };

typedef struct {
    uint16_t d, m; /* half floats: a weight is d * its four bits + m */
    uint8_t bits[16];
} q4_1;

typedef struct {
    uint16_t d, s; /* half floats; s: d * the sum of all */
    int8_t values[BLOCK];
} q8_1;

typedef void (*mul_mat_fn)(const jf_params *, jf_tensor *);
typedef void (*dot_fn)(int n, float *s, size_t bs, const void *x, size_t bx, const void *y, size_t by, int nrc);
typedef void (*quantize_fn)(const float *x, void *y, int64_t k);
typedef void (*barrier_fn)(void *threadpool);
typedef void (*chunk_set_fn)(void *threadpool, int value);
typedef int (*chunk_add_fn)(void *threadpool, int value);

static struct {
    mul_mat_fn mul_mat;
    dot_fn dot;
    quantize_fn quantize;
    barrier_fn barrier;
    chunk_set_fn chunk_set;
    chunk_add_fn chunk_add;
} ggml;

/* --- the kernels -------------------------------------------------------------------------------------------------- */

enum { WIDEST = 8, LANES = 8 };

/* A block of each of so many columns; only the first of them are used where there are less than eight. */
typedef struct {
    float d[WIDEST], s[WIDEST];
    int8_t values[WIDEST][BLOCK];
} panel;

typedef void (*kernel_fn)(int blocks, const char *x, size_t bx, const panel *y, float *out, size_t stride);

INLINE __attribute__((target(AVX2))) __m256i unpacked(const uint8_t *bits) {
    const __m128i low = _mm_loadu_si128((const __m128i *)bits);
    const __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(low), _mm_srli_epi16(low, 4), 1);
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

INLINE __attribute__((target(AVX2))) __m256 products_avx2(__m256i x, __m256i y) {
    const __m256i pairs = _mm256_maddubs_epi16(x, y);
    return _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

INLINE __attribute__((target(VNNI))) __m256 products_vnni(__m256i x, __m256i y) {
    return _mm256_cvtepi32_ps(_mm256_dpbusd_epi32(_mm256_setzero_si256(), x, y));
}

INLINE __attribute__((target(AVX2))) __m128 halved(__m256 x) {
    return _mm_add_ps(_mm256_extractf128_ps(x, 1), _mm256_castps256_ps128(x));
}

/* The sums of a, b, c and d. */
INLINE __attribute__((target(AVX2))) __m128 sums(__m256 a, __m256 b, __m256 c, __m256 d) {
    const __m128 p = halved(a), q = halved(b), r = halved(c), s = halved(d);
    return _mm_hadd_ps(_mm_add_ps(_mm_movelh_ps(p, q), _mm_movehl_ps(q, p)),
                       _mm_add_ps(_mm_movelh_ps(r, s), _mm_movehl_ps(s, r)));
}

INLINE int32_t scales(const q4_1 *x) {
    int32_t both;
    memcpy(&both, x, 4);
    return both;
}

/* What is done for each column is spelt out: of arrays GCC writes each sum to the stack, for every block. */
#define DO_1(what, ...) what(0, __VA_ARGS__)
#define DO_2(what, ...) DO_1(what, __VA_ARGS__) what(1, __VA_ARGS__)
#define DO_4(what, ...) DO_2(what, __VA_ARGS__) what(2, __VA_ARGS__) what(3, __VA_ARGS__)
#define DO_8(what, ...)                                                                                             \
    DO_4(what, __VA_ARGS__) what(4, __VA_ARGS__) what(5, __VA_ARGS__) what(6, __VA_ARGS__) what(7, __VA_ARGS__)

#define LANE(v, i) _mm256_broadcastss_ps(_mm_shuffle_ps(v, v, (i) * 0x55))
#define EVERYWHERE(v, i) _mm256_permutevar8x32_ps(v, _mm256_set1_epi32(i))

/*
 * Weights come from far, a row behind the other: a step asks for as many bytes of the rows after the next as it takes
 * of these. The processor does not look ahead from page to page. Beyond the last row nothing comes of it.
 */
INLINE void ask(const char *x, size_t bx, int rows, int i) {
    const size_t step = rows * sizeof(q4_1);
    const char *ahead = x + 2 * rows * bx + i * step;
    __builtin_prefetch(ahead);
    if (step > 64)
        __builtin_prefetch(ahead + step / 2);
}

/* What the kernels for four rows have: their blocks, and these' scales as d, m, d, m ... */
#define FOUR_ROWS                                                                                                   \
    const q4_1 *x0 = (const q4_1 *)x, *x1 = (const q4_1 *)(x + bx);                                                 \
    const q4_1 *x2 = (const q4_1 *)(x + 2 * bx), *x3 = (const q4_1 *)(x + 3 * bx);                                  \
    const __m256i ms = _mm256_setr_epi32(1, 3, 5, 7, 1, 3, 5, 7);
#define FOUR_SCALES                                                                                                 \
    ask(x, bx, 4, i);                                                                                               \
    const __m256 both =                                                                                             \
        _mm256_cvtph_ps(_mm_setr_epi32(scales(x0 + i), scales(x1 + i), scales(x2 + i), scales(x3 + i)));            \
    const __m128 m = _mm256_castps256_ps128(_mm256_permutevar8x32_ps(both, ms));

/* A column with four rows. ``least``: what the m of the weights come to. */
#define TALL_SUMS(c, zero)                                                                                          \
    __m256 sum0_##c = zero, sum1_##c = zero, sum2_##c = zero, sum3_##c = zero;                                      \
    __m128 least_##c = _mm256_castps256_ps128(zero);
#define TALL_BLOCK(c, products)                                                                                     \
    {                                                                                                               \
        const __m256i column = _mm256_loadu_si256((const __m256i *)y->values[c]);                                   \
        const __m256 d = _mm256_mul_ps(both, _mm256_broadcast_ss(y->d + c));                                        \
        least_##c = _mm_fmadd_ps(m, _mm_broadcast_ss(y->s + c), least_##c);                                         \
        sum0_##c = _mm256_fmadd_ps(EVERYWHERE(d, 0), products(bits0, column), sum0_##c);                            \
        sum1_##c = _mm256_fmadd_ps(EVERYWHERE(d, 2), products(bits1, column), sum1_##c);                            \
        sum2_##c = _mm256_fmadd_ps(EVERYWHERE(d, 4), products(bits2, column), sum2_##c);                            \
        sum3_##c = _mm256_fmadd_ps(EVERYWHERE(d, 6), products(bits3, column), sum3_##c);                            \
    }
#define TALL_END(c, unused)                                                                                         \
    _mm_storeu_ps(out + c * stride, _mm_add_ps(sums(sum0_##c, sum1_##c, sum2_##c, sum3_##c), least_##c));

/* Four rows with some columns: out[column * stride + row]. */
#define TALL(name, isa, products, DO)                                                                               \
    static __attribute__((target(isa))) void name(int blocks, const char *x, size_t bx, const panel *y, float *out, \
                                                  size_t stride) {                                                  \
        FOUR_ROWS                                                                                                   \
        DO(TALL_SUMS, _mm256_setzero_ps())                                                                          \
        for (int i = 0; i < blocks; i++, y++) {                                                                     \
            FOUR_SCALES                                                                                             \
            const __m256i bits0 = unpacked(x0[i].bits), bits1 = unpacked(x1[i].bits);                               \
            const __m256i bits2 = unpacked(x2[i].bits), bits3 = unpacked(x3[i].bits);                               \
            DO(TALL_BLOCK, products)                                                                                \
        }                                                                                                           \
        DO(TALL_END, )                                                                                              \
    }

/* A column with four rows, of which two are in one register. */
INLINE __attribute__((target(VNNI))) __m512i unpacked_pair(const q4_1 *first, const q4_1 *second) {
    const __m256i a = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)first->bits));
    const __m256i b = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)second->bits));
    const __m512i shifts = _mm512_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0, 4, 4, 4, 4);
    const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
    return _mm512_and_si512(_mm512_srlv_epi32(both, shifts), _mm512_set1_epi32(0x0f0f0f0f));
}

/* The number at ``at`` in the first half, that two places on in the second. */
INLINE __attribute__((target(VNNI))) __m512 in_halves(__m256 v, int at) {
    const __m512i places = _mm512_inserti64x4(_mm512_set1_epi32(at), _mm256_set1_epi32(at + 2), 1);
    return _mm512_permutexvar_ps(places, _mm512_castps256_ps512(v));
}

INLINE __attribute__((target(VNNI))) __m512 pair_products(__m512i bits, __m512i column) {
    return _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(_mm512_setzero_si512(), bits, column));
}

INLINE __attribute__((target(VNNI))) __m256 second_half(__m512 v) {
    return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1));
}

#define PAIR_SUMS(c, zero)                                                                                          \
    __m512 sum0_##c = zero, sum2_##c = zero;                                                                        \
    __m128 least_##c = _mm512_castps512_ps128(zero);
#define PAIR_BLOCK(c, unused)                                                                                       \
    {                                                                                                               \
        const __m512i column = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)y->values[c]));           \
        const __m256 d = _mm256_mul_ps(both, _mm256_broadcast_ss(y->d + c));                                        \
        least_##c = _mm_fmadd_ps(m, _mm_broadcast_ss(y->s + c), least_##c);                                         \
        sum0_##c = _mm512_fmadd_ps(in_halves(d, 0), pair_products(bits0, column), sum0_##c);                        \
        sum2_##c = _mm512_fmadd_ps(in_halves(d, 4), pair_products(bits2, column), sum2_##c);                        \
    }
#define PAIR_END(c, unused)                                                                                         \
    _mm_storeu_ps(out + c * stride,                                                                                 \
                  _mm_add_ps(sums(_mm512_castps512_ps256(sum0_##c), second_half(sum0_##c),                          \
                                  _mm512_castps512_ps256(sum2_##c), second_half(sum2_##c)), least_##c));

#define PAIRS(name, DO)                                                                                             \
    static __attribute__((target(VNNI))) void name(int blocks, const char *x, size_t bx, const panel *y, float *out, \
                                                   size_t stride) {                                                 \
        FOUR_ROWS                                                                                                   \
        DO(PAIR_SUMS, _mm512_setzero_ps())                                                                          \
        for (int i = 0; i < blocks; i++, y++) {                                                                     \
            FOUR_SCALES                                                                                             \
            const __m512i bits0 = unpacked_pair(x0 + i, x1 + i), bits2 = unpacked_pair(x2 + i, x3 + i);             \
            DO(PAIR_BLOCK, )                                                                                        \
        }                                                                                                           \
        DO(PAIR_END, )                                                                                              \
    }

/* A column with two rows. */
#define WIDE_SUMS(c, zero) __m256 sum0_##c = zero, sum1_##c = zero;
#define WIDE_BLOCK(c, products)                                                                                     \
    {                                                                                                               \
        const __m256i column = _mm256_loadu_si256((const __m256i *)y->values[c]);                                   \
        sum0_##c = _mm256_fmadd_ps(EVERYWHERE(d0, c), products(bits0, column), sum0_##c);                           \
        sum1_##c = _mm256_fmadd_ps(EVERYWHERE(d1, c), products(bits1, column), sum1_##c);                           \
    }
#define WIDE_END(c, unused)                                                                                         \
    _mm_storel_pi((__m64 *)(out + c * stride), _mm_add_ps(sums(sum0_##c, sum1_##c, sum0_##c, sum1_##c),             \
                                                          _mm_setr_ps(of_least[c], of_least[LANES + c], 0, 0)));

/* Two rows with some columns, as many as there are lanes at most. */
#define WIDE(name, isa, products, DO)                                                                               \
    static __attribute__((target(isa))) void name(int blocks, const char *x, size_t bx, const panel *y, float *out, \
                                                  size_t stride) {                                                  \
        const q4_1 *x0 = (const q4_1 *)x, *x1 = (const q4_1 *)(x + bx);                                             \
        __m256 least0 = _mm256_setzero_ps(), least1 = least0;                                                       \
        DO(WIDE_SUMS, _mm256_setzero_ps())                                                                          \
        for (int i = 0; i < blocks; i++, y++) {                                                                     \
            ask(x, bx, 2, i);                                                                                       \
            const __m128 both = _mm_cvtph_ps(_mm_setr_epi32(scales(x0 + i), scales(x1 + i), 0, 0));                 \
            const __m256 dy = _mm256_loadu_ps(y->d), s = _mm256_loadu_ps(y->s);                                     \
            const __m256i bits0 = unpacked(x0[i].bits), bits1 = unpacked(x1[i].bits);                               \
            const __m256 d0 = _mm256_mul_ps(LANE(both, 0), dy), d1 = _mm256_mul_ps(LANE(both, 2), dy);              \
            least0 = _mm256_fmadd_ps(LANE(both, 1), s, least0);                                                     \
            least1 = _mm256_fmadd_ps(LANE(both, 3), s, least1);                                                     \
            DO(WIDE_BLOCK, products)                                                                                \
        }                                                                                                           \
        float of_least[2 * LANES];                                                                                  \
        _mm256_storeu_ps(of_least, least0);                                                                         \
        _mm256_storeu_ps(of_least + LANES, least1);                                                                 \
        DO(WIDE_END, )                                                                                              \
    }

TALL(tall_1_avx2, AVX2, products_avx2, DO_1)
TALL(tall_2_avx2, AVX2, products_avx2, DO_2)
WIDE(wide_4_avx2, AVX2, products_avx2, DO_4)
PAIRS(pairs_1_vnni, DO_1)
PAIRS(pairs_2_vnni, DO_2)
PAIRS(pairs_4_vnni, DO_4)
WIDE(wide_8_vnni, VNNI, products_vnni, DO_8)

typedef struct {
    int columns, rows;
    kernel_fn run;
} kernel;

/* From few columns to many. */
static const kernel AVX2_KERNELS[] = {{1, 4, tall_1_avx2}, {2, 4, tall_2_avx2}, {4, 2, wide_4_avx2}, {0, 0, NULL}};
static const kernel VNNI_KERNELS[] = {
    {1, 4, pairs_1_vnni}, {2, 4, pairs_2_vnni}, {4, 4, pairs_4_vnni}, {8, 2, wide_8_vnni}, {0, 0, NULL}};

static const kernel *kernels;

/* The widest that so many columns fill, but for one in eight at most. */
static const kernel *fitting(int64_t columns) {
    const kernel *found = kernels;
    for (const kernel *other = kernels; other->run != NULL; other++)
        if (other->columns - columns <= other->columns / 8)
            found = other;
    return found;
}

/* --- a matrix ----------------------------------------------------------------------------------------------------- */

enum { GROUP = 64, ROWS = 64 }; /* columns that a thread has laid out at once; rows of the largest chunk */

typedef struct {
    int64_t rows, columns, blocks;
    const char *x, *y;
    size_t bx, by;
    float *out;
    size_t stride;
} product;

static __thread panel *laid_out; /* of one thread: it lives as long as the process */
static __thread size_t laid_out_size;

static panel *room(int64_t panels) {
    const size_t size = (size_t)panels * sizeof(panel);
    if (size > laid_out_size) {
        void *more = NULL;
        if (posix_memalign(&more, 64, size) != 0)
            return NULL;
        free(laid_out);
        laid_out = more, laid_out_size = size;
    }
    return laid_out;
}

/* Columns from ``first`` on, the last one again and again where there are too few. */
static __attribute__((target(AVX2))) void lay_out(const product *p, int64_t first, int columns, panel *to) {
    for (int c = 0; c < columns; c++) {
        const int64_t column = first + c < p->columns ? first + c : p->columns - 1;
        const q8_1 *y = (const q8_1 *)(p->y + column * p->by);
        for (int64_t i = 0; i < p->blocks; i++) {
            to[i].d[c] = _cvtsh_ss(y[i].d);
            to[i].s[c] = _cvtsh_ss(y[i].s);
            memcpy(to[i].values[c], y[i].values, BLOCK);
        }
    }
}

static void one_by_one(const product *p, int64_t row, int64_t end, int64_t column, int64_t last) {
    for (; column < last; column++)
        for (int64_t r = row; r < end; r++)
            ggml.dot((int)p->blocks * BLOCK, p->out + column * p->stride + r, 0, p->x + r * p->bx, 0,
                     p->y + column * p->by, 0, 1);
}

/* Rows of a chunk with the columns of one panel. */
static void multiply(const product *p, int64_t row, int64_t end, int64_t column, const kernel *use, const panel *y) {
    const bool whole = column + use->columns <= p->columns;
    float beside[WIDEST * 4];
    for (; row + use->rows <= end; row += use->rows) {
        const char *x = p->x + row * p->bx;
        float *out = p->out + column * p->stride + row;
        if (whole) {
            use->run((int)p->blocks, x, p->bx, y, out, p->stride);
            continue;
        }
        use->run((int)p->blocks, x, p->bx, y, beside, 4);
        for (int64_t c = 0; column + c < p->columns; c++)
            memcpy(out + c * p->stride, beside + c * 4, use->rows * sizeof(float));
    }
    const int64_t last = column + use->columns;
    one_by_one(p, row, end, column, last < p->columns ? last : p->columns);
}

typedef struct {
    int64_t first, columns; /* -1: of none */
    int width;              /* of its panels, but the last one */
} group;

static void lay_out_group(const product *p, group *g, int64_t first, panel *to) {
    if (g->first == first)
        return;
    const int64_t left = p->columns - first;
    g->first = first, g->columns = left < GROUP ? left : GROUP;
    for (int64_t at = 0; at < g->columns;) {
        const kernel *use = fitting(g->columns - at);
        lay_out(p, first + at, use->columns, to);
        at += use->columns, to += p->blocks;
    }
}

/* What a thread does of a matrix: chunks of rows with groups of columns, whichever is the next. */
static void work(const jf_params *params, const product *p) {
    const int64_t even = (p->rows / (4 * params->nth) + 3) / 4 * 4;
    const int64_t chunk = even < 4 ? 4 : even > ROWS ? ROWS : even;
    const int64_t chunks = (p->rows + chunk - 1) / chunk;
    const int64_t groups = (p->columns + GROUP - 1) / GROUP;
    panel *to = room((GROUP < p->columns ? GROUP : p->columns) * p->blocks);
    group g = {.first = -1};
    for (int64_t number = params->ith; number < chunks * groups; number = ggml.chunk_add(params->threadpool, 1)) {
        const int64_t row = number % chunks * chunk, first = number / chunks * GROUP;
        const int64_t end = row + chunk < p->rows ? row + chunk : p->rows;
        if (to == NULL) { /* no memory for it */
            const int64_t last = first + GROUP;
            one_by_one(p, row, end, first, last < p->columns ? last : p->columns);
            continue;
        }
        lay_out_group(p, &g, first, to);
        const panel *y = to;
        for (int64_t at = 0; at < g.columns; y += p->blocks) {
            const kernel *use = fitting(g.columns - at);
            multiply(p, row, end, first + at, use, y);
            at += use->columns;
        }
    }
}

static bool is_matrix(const jf_tensor *t) { return t->ne[2] == 1 && t->ne[3] == 1; }

static bool is_ours(const jf_params *params, const jf_tensor *dst) {
    const jf_tensor *x = dst->src[0], *y = dst->src[1];
    if (params->use_ref || dst->op_params[1] != 0 || x->type != Q4_1 || y->type != F32)
        return false;
    const size_t size = (size_t)(y->ne[1] * (y->ne[0] / BLOCK)) * sizeof(q8_1);
    return is_matrix(x) && is_matrix(y) && dst->ne[0] == x->ne[1] && x->nb[0] == sizeof(q4_1) && y->nb[0] == 4 &&
           dst->nb[0] == 4 && params->wsize >= size;
}

static uint64_t used;

/* What ggml calls for every multiplication, in each of its threads. */
static void mul_mat(const jf_params *params, jf_tensor *dst) {
    if (!is_ours(params, dst)) {
        ggml.mul_mat(params, dst);
        return;
    }
    const jf_tensor *x = dst->src[0], *y = dst->src[1];
    const int64_t blocks = x->ne[0] / BLOCK;
    const product p = {
        .rows = x->ne[1], .columns = y->ne[1], .blocks = blocks, .x = x->data, .bx = x->nb[1], .y = params->wdata,
        .by = (size_t)blocks * sizeof(q8_1), .out = (float *)dst->data, .stride = dst->nb[1] / sizeof(float)};
    const int64_t from = params->ith * blocks / params->nth, to = (params->ith + 1) * blocks / params->nth;
    for (int64_t c = 0; c < p.columns && from < to; c++)
        ggml.quantize((const float *)(y->data + c * y->nb[1]) + from * BLOCK,
                      params->wdata + c * p.by + from * sizeof(q8_1), (to - from) * BLOCK);
    if (params->ith == 0) {
        ggml.chunk_set(params->threadpool, params->nth);
        used++;
    }
    ggml.barrier(params->threadpool);
    work(params, &p);
}

uint64_t jf_used(void) { return used; }

/* --- the check ---------------------------------------------------------------------------------------------------- */

enum { LONGEST = 48, ROUNDS = 48, CHECKED_ROWS = 7, CHECKED_COLUMNS = 13 };

static void fill(uint32_t *state, q4_1 *x, q8_1 *y) {
    x->d = jf_half(state), x->m = jf_half(state), y->d = jf_half(state), y->s = jf_half(state);
    for (int i = 0; i < 16; i++)
        x->bits[i] = (uint8_t)jf_next(state);
    for (int i = 0; i < BLOCK; i++)
        y->values[i] = (int8_t)((int)(jf_next(state) % 255) - 127);
}

static int turn; /* of the one thread that checks */

static void set_turn(void *threadpool, int value) {
    (void)threadpool;
    turn = value;
}

static int add_turn(void *threadpool, int value) {
    (void)threadpool;
    turn += value;
    return turn - value;
}

/* Whether what a thread gives are the bits of ggml's dot product, for any number of rows and columns. */
static bool same_bits(void) {
    static q4_1 x[CHECKED_ROWS][LONGEST];
    static q8_1 y[CHECKED_COLUMNS][LONGEST];
    static float ours[CHECKED_COLUMNS][CHECKED_ROWS], theirs[CHECKED_COLUMNS][CHECKED_ROWS];
    uint32_t state = 1;
    for (int j = 0; j < CHECKED_COLUMNS; j++)
        for (int i = 0; i < LONGEST; i++)
            fill(&state, &x[j % CHECKED_ROWS][i], &y[j][i]);
    for (int round = 0; round < ROUNDS; round++) {
        const jf_params alone = {.nth = 1};
        const product p = {.rows = round % CHECKED_ROWS + 1, .columns = round % CHECKED_COLUMNS + 1,
                           .blocks = round % LONGEST + 1, .x = (char *)x, .y = (char *)y, .bx = sizeof x[0],
                           .by = sizeof y[0], .out = ours[0], .stride = CHECKED_ROWS};
        product other = p;
        other.out = theirs[0];
        memset(ours, 0, sizeof ours), memset(theirs, 0, sizeof theirs);
        one_by_one(&other, 0, p.rows, 0, p.columns);
        set_turn(NULL, 1);
        work(&alone, &p);
        if (memcmp(ours, theirs, sizeof ours) != 0)
            return false;
    }
    return true;
}

/* --- putting it in its place -------------------------------------------------------------------------------------- */

bool jf_reads_q4_1(const void *product, const void *x, const void *y, const void *data) {
    const jf_tensor *out = product;
    const jf_params enough = {.nth = 1, .wsize = SIZE_MAX};
    return out->src[0] == x && out->src[1] == y && is_ours(&enough, out) && out->src[0]->data == data &&
           out->src[0]->nb[1] == (size_t)(out->src[0]->ne[0] / BLOCK) * sizeof(q4_1) &&
           out->nb[1] == (size_t)out->ne[0] * sizeof(float);
}

int jf_install_q4_1(void *theirs, void *dot, void *quantize, void *barrier, void *chunk_set, void *chunk_add) {
    jf_hook hook = {"ggml_compute_forward_mul_mat", (void *)mul_mat, (void **)&ggml.mul_mat, true, NULL};
    if (!jf_has_avx2())
        return 0;
    kernels = jf_has_vnni() ? VNNI_KERNELS : AVX2_KERNELS;
    ggml.dot = (dot_fn)dot, ggml.quantize = (quantize_fn)quantize;
    ggml.chunk_set = set_turn, ggml.chunk_add = add_turn;
    if (!same_bits())
        return 0;
    ggml.barrier = (barrier_fn)barrier, ggml.chunk_set = (chunk_set_fn)chunk_set;
    ggml.chunk_add = (chunk_add_fn)chunk_add;
    return jf_put(theirs, &hook, 1) == NULL;
}

#else

bool jf_reads_q4_1(const void *product, const void *x, const void *y, const void *data) {
    (void)product, (void)x, (void)y, (void)data;
    return false;
}

int jf_install_q4_1(void *theirs, void *dot, void *quantize, void *barrier, void *chunk_set, void *chunk_add) {
    (void)theirs, (void)dot, (void)quantize, (void)barrier, (void)chunk_set, (void)chunk_add;
    return 0;
}

uint64_t jf_used(void) { return 0; }

#endif
