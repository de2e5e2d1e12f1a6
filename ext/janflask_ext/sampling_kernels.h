/*
 * Passes over one row of logits, vectorised, without allocation and without Python.
 *
 * Every pass takes a half-open range [begin, end) of token ids and an optional bitmask of allowed ids (bit id % 32 of
 * word id / 32; NULL allows all). A NaN logit and a forbidden id count as minus infinity. Passes with an interval look
 * only at logits in [lo, hi], both ends included; lo must be finite.
 *
 * One implementation (sampling_kernels_impl.h) is compiled once for each instruction set; which one runs is decided
 * when the module is imported.
 */
#ifndef JANFLASK_SAMPLING_KERNELS_H
#define JANFLASK_SAMPLING_KERNELS_H

#include <stdint.h>

#define JF_BLOCK 256    /* ids of one block of the vocabulary; a multiple of 32 */
#define JF_BUCKETS 1024 /* of a histogram */
#define JF_PAD 16       /* elements of room behind a list */

/* Adjacent, so that one 16-byte addition counts an element. */
typedef struct {
    double mass;
    double count;
} jf_bucket;

/* max, and the sum of exp(logit - max), of one row */
typedef struct {
    float max;
    double sum;
} jf_softmax;

typedef struct {
    const char *name;

    /* maxima[b] = the largest logit of block b; returns the largest of all (-inf where nothing is usable). */
    float (*block_maxima)(const float *row, int32_t n, const uint32_t *mask, float *maxima);

    /* The same over the unmasked row, and the softmax sum on the way. */
    jf_softmax (*block_maxima_softmax)(const float *row, int32_t n, float *maxima);

    /* The largest logit in the range. */
    float (*range_max)(const float *row, int32_t begin, int32_t end, const uint32_t *mask);

    /* How many of n values are >= threshold. */
    int32_t (*count_at_least)(const float *values, int32_t n, float threshold);

    /* Appends ids and logits in [lo, hi], in ascending order of id; returns how many. */
    int32_t (*gather)(const float *row, int32_t begin, int32_t end, const uint32_t *mask, float lo, float hi,
                      int32_t *ids, float *logits);

    /* Number, sum and sum of squares of logit - center over the interval, added to out[0..2]. */
    void (*moments)(const float *row, int32_t begin, int32_t end, const uint32_t *mask, float lo, float hi,
                    double center, double *out);

    /* The smallest and the largest logit in [lo, hi], where they widen the extent in out[0..1]. */
    void (*extent)(const float *row, int32_t begin, int32_t end, const uint32_t *mask, float lo, float hi, float *out);

    /* Sum of exp((logit - ref) * beta) over the interval. */
    double (*exp_sum)(const float *row, int32_t begin, int32_t end, const uint32_t *mask, float lo, float hi,
                      float ref, float beta);

    /* Adds to out[0] the sum of e = exp((logit - ref) * beta), to out[1] that of e * (logit - ref) * beta. */
    void (*exp_moment)(const float *row, int32_t begin, int32_t end, const uint32_t *mask, float lo, float hi,
                       float ref, float beta, double *out);

    /*
     * Sorts the logits in [lo, hi] into buckets by d = |logit - center|: bucket (d - near) * scale, for d in
     * [near, far]. Adds exp(logit - ref) to its mass and 1 to its count.
     */
    void (*histogram)(const float *row, int32_t begin, int32_t end, const uint32_t *mask, float lo, float hi,
                      float center, float near, float far, float scale, float ref, jf_bucket *buckets);

    /*
     * Of a list, not a row: weights[i] = exp((logits[i] - ref) * beta) for i < n; returns their sum. Both arrays have
     * room for JF_PAD elements more.
     */
    double (*list_weights)(float *logits, int32_t n, float ref, float beta, float *weights);

    /*
     * Sorts a list of rising ids by falling logit, then rising id, into two other arrays (JF_PAD as above). In
     * quadratic time: for short lists.
     */
    void (*list_rank)(float *logits, const int32_t *ids, int32_t n, float *sorted_logits, int32_t *sorted_ids);

    /* Sorts a list in place, in the same order (quicksort). */
    void (*list_sort)(float *logits, int32_t *ids, int32_t n);

    /* Brings the best k of a list to its front, in no order (Hoare's quickselect). */
    void (*list_keep)(float *logits, int32_t *ids, int32_t n, int32_t k);

    /* The bucket that `histogram` gives to a distance. */
    int32_t (*bucket_of)(float distance, float near, float scale);
} jf_kernels;

/* The best set of passes for this processor, or the one named ("avx512", "avx2", "generic"); NULL if it can't run. */
const jf_kernels *jf_kernels_get(const char *name);

#endif
