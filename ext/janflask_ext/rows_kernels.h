/* Results of a row that do not depend on how many rows are computed beside it: hooks into ggml's CPU library. */
#ifndef JANFLASK_ROWS_KERNELS_H
#define JANFLASK_ROWS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { JF_AS_IT_IS = 0, JF_FEW_ALIKE = 1, JF_ALL_ALIKE = 2 };

/* Rows from which on ggml's quicker kernels are left to it (JF_FEW_ALIKE). */
enum { JF_MANY = 24 };

/* ggml's numbers of the types that are known here. */
enum { JF_F32 = 0, JF_F16 = 1, JF_Q5_0 = 6, JF_Q8_0 = 8 };

/* ggml_vec_dot_t, of ggml-cpu.h in llama-cpp-python 0.3.36. */
typedef void (*jf_vec_dot)(int n, float *s, size_t bs, const void *x, size_t bx, const void *y, size_t by, int nrc);

/* What the hooks saw since jf_rows_watch: for the self-test. */
typedef struct {
    int64_t products;                 /* calls of llamafile_sgemm */
    int64_t declined, own, passed_on; /* what became of them */
    int64_t m, n, k;                  /* of the last one */
    int64_t attentions, rows;         /* calls of flash attention, and the last one's rows */
    int ith, nth;                     /* the last one's, as was given, as is the next */
    bool use_ref;
} jf_seen;

/*
 * Puts the hooks in place of ggml's functions, in the table of the library that ``inside`` lies in: it goes through it
 * when it calls them. NULL: done; else what is missing, and nothing has changed.
 */
const char *jf_rows_install(const void *inside);

/* Takes one of our kernels for a type of weights if its results are those of ggml's own ``dot``, bit for bit. */
bool jf_rows_take(int type, jf_vec_dot dot);

/* JF_AS_IT_IS and so on; only while nothing is computed in the process. */
void jf_rows_set(int mode);
int jf_rows_mode(void);

/* From now on, until it is called with NULL, ``seen`` counts what one thread computes. */
void jf_rows_watch(jf_seen *seen);

#endif
