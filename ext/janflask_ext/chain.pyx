"""A draw: llama.cpp's samplers in llama.cpp's order, on the row of logits where it lies.

The chain: logit bias, penalties, DRY, top-n-sigma, top-k, typical, top-p, min-p, XTC, temperature, draw. Mirostat 1 or
2 replaces all but bias and temperature, as in llama.cpp's own common chain. A draw goes so:

    first pass      the largest logit of each block of 256 ids; for log-probabilities the softmax sum as well
    patches         biases and penalties are written into the row (a few ids; they are put back at the end)
    narrowing       a small top-k: on a sorted list of candidates (shortlist.pyx);
                    else on the row itself, without sorting or copying it (fullrow.pyx)
    pick            one random number, over the softmax of what is left

Ties: the lower id comes first wherever samplers order tokens. NaN counts as -inf. A row with +inf has only its +inf
tokens for candidates (the first LIST_CAPACITY of them), all alike. Where nothing usable is left, a draw is -1.

The passes over the row are C (sampling_kernels.h).
"""

from libc.float cimport FLT_MAX
from libc.math cimport INFINITY, log, log2, pow
from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.stdlib cimport free

from janflask_ext.fullrow cimport keep_surprise, keep_top, narrow_run, pick_from_run, run_temperature
from janflask_ext.history cimport Patch, patch
from janflask_ext.kernels cimport JF_BLOCK, JF_BUCKETS, Row, jf_bucket, jf_softmax
from janflask_ext.rng cimport next_double
from janflask_ext.runs cimport best_of_run, row_moments, whole_run
from janflask_ext.shortlist cimport (
    LIST_CAPACITY,
    LIST_TOP,
    allocate_list,
    copy_list,
    free_list,
    gather_top,
    inverse,
    list_infinite,
    list_temperature,
    narrow_list,
    pick_from_list,
    zeroed,
)

cdef enum:
    MIROSTAT_TOP = 100      # tokens from which mirostat 1 estimates the distribution's exponent


cdef class Chain:
    """Settings, history and random state of one generation, and what a draw works with."""

    cdef int allocate(self) except -1:
        """Room for all that a draw needs, once the settings, biases and windows are known."""
        cdef size_t patches = self.n_bias + 1
        if self.has_penalties:
            patches += min(self.penalties.size, self.n_vocab)
        if self.has_dry:
            patches += min(self.dry.size, self.n_vocab)
        self.patches = <Patch*>zeroed(patches, sizeof(Patch))
        self.row.n = self.n_vocab
        self.row.n_blocks = (self.n_vocab + JF_BLOCK - 1) // JF_BLOCK
        self.row.maxima = <float*>zeroed(self.row.n_blocks, sizeof(float))
        self.work.buckets = <jf_bucket*>zeroed(JF_BUCKETS, sizeof(jf_bucket))
        self.work.block_mass = <double*>zeroed(self.row.n_blocks, sizeof(double))
        self.work.boundary = &self.boundary
        allocate_list(&self.cands, LIST_CAPACITY)
        allocate_list(&self.boundary, LIST_CAPACITY)
        if self.top_logprobs >= 0:
            allocate_list(&self.top, LIST_CAPACITY)
        return 0

    def __dealloc__(self):
        free(self.bias_ids)
        free(self.bias)
        free(self.patches)
        free(self.row.maxima)
        free(self.work.buckets)
        free(self.work.block_mass)
        free_list(&self.cands)
        free_list(&self.boundary)
        free_list(&self.top)

    cdef int draw(self, float* row, const uint32_t* mask) noexcept nogil:   # row: IN/OUT
        """Chooses a token; -1 if the row and the mask leave none. Does not accept it. The row is as before at the end.
        """
        cdef double u = next_double(&self.rng)
        cdef bint xtc = self.xtc_chance()
        cdef int token = -1
        self.first_pass(row, mask)
        if self.prepare(xtc):
            token = self.pick(u)
        self.undo_patches(row)
        if self.top_logprobs >= 0:
            self.chosen_logprob = -INFINITY if token < 0 else self.logprob_of(row[token])
            self.has_logprobs = token >= 0
        return token

    cdef void score_token(self, const float* row, int token) noexcept nogil:
        """What a draw of this token would tell as its log-probability; draws nothing and writes nothing."""
        cdef jf_softmax softmax = self.row.kernels.block_maxima_softmax(row, self.row.n, self.row.maxima)
        self.row.x = row
        self.row.mask = NULL
        self.row.max = softmax.max
        self.shares_top = False
        self.read_logprobs(softmax)
        self.chosen_logprob = self.logprob_of(row[token]) if row[token] > -INFINITY else -INFINITY
        self.has_logprobs = True

    cdef bint xtc_chance(self) noexcept nogil:
        """Whether XTC acts on this token. Draws from its own generator, once per token."""
        if self.settings.xtc_probability <= 0 or self.settings.xtc_threshold > <float>0.5:
            return False
        return next_double(&self.xtc_rng) <= self.settings.xtc_probability

    cdef void first_pass(self, float* row, const uint32_t* mask) noexcept nogil:    # row: IN/OUT
        """Finds the block maxima, and changes the row as biases and penalties want it."""
        cdef jf_softmax softmax
        self.row.x = row
        self.row.mask = NULL
        self.shares_top = self.can_share_top and mask == NULL
        if self.top_logprobs >= 0:
            softmax = self.row.kernels.block_maxima_softmax(row, self.row.n, self.row.maxima)
            self.row.max = softmax.max
            self.read_logprobs(softmax)
        elif mask == NULL:
            self.row.max = self.row.kernels.block_maxima(row, self.row.n, NULL, self.row.maxima)
        self.apply_patches(row)
        if mask != NULL:
            self.row.mask = mask
            self.row.max = self.row.kernels.block_maxima(row, self.row.n, mask, self.row.maxima)
        elif self.n_patches > 0:
            self.update_maxima()

    cdef void read_logprobs(self, jf_softmax softmax) noexcept nogil:
        """The log-sum and the best tokens of the row as the model made it."""
        self.top.end = 0
        self.log_sum = softmax.max + log(softmax.sum)
        self.is_infinite = softmax.max == INFINITY
        if self.is_infinite:
            self.log_sum = log(<double>list_infinite(&self.row, &self.top))
            self.top.end = min(self.top.end, self.top_logprobs)
        elif self.top_logprobs > 0 and softmax.max > -INFINITY and not self.shares_top:
            gather_top(&self.row, &self.top, self.top_logprobs, -FLT_MAX)

    cdef double logprob_of(self, float logit) noexcept nogil:
        if self.is_infinite:
            return -self.log_sum if logit == INFINITY else -INFINITY
        return logit - self.log_sum

    cdef void apply_patches(self, float* row) noexcept nogil:   # row: IN/OUT
        cdef int32_t i
        self.n_patches = 0
        for i in range(self.n_bias):
            patch(row, self.bias_ids[i], row[self.bias_ids[i]] + self.bias[i], self.patches, &self.n_patches)
        if self.has_penalties:
            self.penalties.apply(row, self.patches, &self.n_patches)
        if self.has_dry:
            self.dry.apply(row, self.patches, &self.n_patches)

    cdef void undo_patches(self, float* row) noexcept nogil:    # row: IN/OUT
        """Puts the row back as it was; a token may have been patched more than once."""
        cdef int32_t i
        for i in range(self.n_patches - 1, -1, -1):
            row[self.patches[i].id] = self.patches[i].old

    cdef void update_maxima(self) noexcept nogil:
        """Mends the maxima of the blocks in which logits were changed."""
        cdef Row* row = &self.row
        cdef int32_t i, id, begin
        cdef float old
        for i in range(self.n_patches):
            id = self.patches[i].id
            old = self.patches[i].old
            if row.x[id] > row.maxima[id // JF_BLOCK]:
                row.maxima[id // JF_BLOCK] = row.x[id]
            elif old == row.maxima[id // JF_BLOCK] and not row.x[id] == old:
                begin = id // JF_BLOCK * JF_BLOCK
                row.maxima[id // JF_BLOCK] = row.kernels.range_max(row.x, begin, min(begin + JF_BLOCK, row.n), NULL)
        row.max = row.kernels.range_max(row.maxima, 0, row.n_blocks, NULL)

    cdef bint prepare(self, bint xtc) noexcept nogil:
        """Narrows the candidates down and finds the temperature; False if there are none."""
        if self.row.max == -INFINITY:
            return False
        if self.row.max == INFINITY:
            self.prepare_infinite(xtc)
        elif self.mirostat:
            self.prepare_mirostat()
        else:
            self.prepare_chain(xtc)
        if self.temperature <= 0:
            if self.listed:
                self.cands.end = self.cands.start + 1
            else:
                best_of_run(&self.row, &self.run)
        return True

    cdef void prepare_infinite(self, bint xtc) noexcept nogil:
        cdef int64_t size = list_infinite(&self.row, &self.cands)
        self.listed = True
        self.temperature = self.settings.temperature
        if self.mirostat == 0:
            if self.settings.top_k > 0:
                self.cands.end = min(self.cands.end, self.settings.top_k)
            size = self.cands.end
            narrow_list(&self.row, &self.settings, &self.cands, xtc, &size)
            self.temperature = list_temperature(&self.row, &self.settings, &self.cands, size)

    cdef void prepare_chain(self, bint xtc) noexcept nogil:
        cdef float lo = -FLT_MAX
        cdef double mean, deviation
        cdef int64_t size = self.row.n
        cdef int32_t top_k = self.settings.top_k
        if self.is_greedy():
            self.listed = False
            self.temperature = 0.0
            whole_run(&self.row, self.row.max, &self.run)
            return
        if self.settings.top_n_sigma > 0:
            row_moments(&self.row, &mean, &deviation)
            lo = <float>(self.row.max - self.settings.top_n_sigma * deviation)
        if top_k > 0:
            size = min(size, top_k)
        self.listed = 0 < top_k <= LIST_TOP
        if self.listed:
            if self.shares_top:
                gather_top(&self.row, &self.cands, max(top_k, self.top_logprobs), lo)
                copy_list(&self.cands, &self.top, self.top_logprobs)
                self.cands.end = min(self.cands.end, top_k)
            else:
                gather_top(&self.row, &self.cands, top_k, lo)
            narrow_list(&self.row, &self.settings, &self.cands, xtc, &size)
            self.temperature = list_temperature(&self.row, &self.settings, &self.cands, size)
        else:
            whole_run(&self.row, lo, &self.run)
            if top_k > 0:
                keep_top(&self.row, &self.run, &self.work, top_k)
            narrow_run(&self.row, &self.settings, &self.run, &self.work, xtc, &size)
            self.temperature = run_temperature(&self.row, &self.settings, &self.run, size)

    cdef bint is_greedy(self) noexcept nogil:
        """Whether the best logit wins whatever the other samplers do: only typical and XTC can exclude it."""
        return (
            self.settings.temperature <= 0
            and self.settings.dynatemp_range <= 0
            and self.settings.typical_p >= 1
            and self.settings.xtc_probability <= 0
        )

    cdef void prepare_mirostat(self) noexcept nogil:
        """S. Basu et al., "Mirostat: a neural text decoding algorithm that directly controls perplexity" (2021)."""
        cdef double beta
        cdef int32_t k
        self.temperature = self.settings.temperature
        self.listed = False
        if self.temperature <= 0:
            whole_run(&self.row, self.row.max, &self.run)
            return
        beta = inverse(self.temperature)
        whole_run(&self.row, -FLT_MAX, &self.run)
        if self.mirostat == 2:
            keep_surprise(&self.row, &self.run, beta, self.mirostat_mu)
            return
        gather_top(&self.row, &self.cands, MIROSTAT_TOP, -FLT_MAX)
        k = self.mirostat_k(beta)
        self.listed = k <= LIST_TOP
        if not self.listed:
            keep_top(&self.row, &self.run, &self.work, k)
        elif k > self.cands.end:
            gather_top(&self.row, &self.cands, k, -FLT_MAX)
        else:
            self.cands.end = k

    cdef int32_t mirostat_k(self, double beta) noexcept nogil:
        """Mirostat 1: how many tokens hold the surprise aimed at, if token i's probability falls like i ** -s."""
        cdef double t, s, excess, share, k, tb = 0.0, tt = 0.0
        cdef int32_t i
        for i in range(self.cands.end - 1):
            t = log((i + 2.0) / (i + 1.0))
            tb += t * (<double>self.cands.logits[i] - self.cands.logits[i + 1]) * beta
            tt += t * t
        if tt == 0:
            return 1
        s = tb / tt
        excess = s - 1.0
        if excess == 0:
            share = 1.0 / log(<double>self.n_vocab)
        else:
            share = excess / (1.0 - pow(self.n_vocab, -excess))
        if s == 0:
            return self.n_vocab
        k = pow(share * pow(2.0, self.mirostat_mu), 1.0 / s)
        if not k >= 1:
            return 1
        return <int32_t>k if k < self.n_vocab else self.n_vocab

    cdef int pick(self, double u) noexcept nogil:
        cdef double p = 1.0
        cdef int token
        if self.listed:
            token = pick_from_list(&self.row, &self.cands, self.temperature, u, &p)
        else:
            token = pick_from_run(&self.row, &self.run, &self.work, self.temperature, u, &p)
        if self.mirostat:
            self.mirostat_mu = self.mirostat_mu - self.mirostat_eta * (-log2(p) - self.mirostat_tau)
        return token

    cdef void accept_token(self, int token) noexcept nogil:
        """Adds a token to the history; an id outside of the vocabulary is ignored."""
        if 0 <= token < self.n_vocab:
            if self.has_penalties:
                self.penalties.push(token)
            if self.has_dry:
                self.dry.push(token)
