/* The multiplication of Q4_1 weights with few or many columns, in place of llama.cpp's dot product for each of them. */
#ifndef JANFLASK_DOTS_KERNELS_H
#define JANFLASK_DOTS_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

/* Whether a tensor that ggml made for the product of Q4_1 ``x``, whose blocks lie at ``data``, and ``y`` is read as that. */
bool jf_reads_q4_1(const void *product, const void *x, const void *y, const void *data);

/*
 * Takes the place of ggml_compute_forward_mul_mat in the calls of that function's library. ``dot``: ggml's for Q4_1, the
 * others as they are called.
 *
 * 1: done. 0: not on this machine, the library makes no such call, or the results are not, bit for bit, those of ``dot``.
 */
int jf_install_q4_1(void *mul_mat, void *dot, void *quantize, void *barrier, void *chunk_set, void *chunk_add);

/* For how many matrices it was used so far. */
uint64_t jf_used(void);

#endif
