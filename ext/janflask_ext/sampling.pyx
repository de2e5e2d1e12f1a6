"""Choosing a token from a row of logits: llama.cpp's samplers in llama.cpp's order, on the row where it lies.

The chain: logit bias, penalties, DRY, top-n-sigma, top-k, typical, top-p, min-p, XTC, temperature, draw. Mirostat 1 or
2 replaces all but bias and temperature, as in llama.cpp's own common chain. A draw goes so:

    first pass      the largest logit of each block of 256 ids; for log-probabilities the softmax sum as well
    patches         biases and penalties are written into the row (a few ids; they are put back at the end)
    narrowing       a small top-k: on a sorted list of candidates (shortlist.pyx);
                    else on the row itself, without sorting or copying it (fullrow.pyx)
    pick            one random number, over the softmax of what is left

Ties: the lower id comes first wherever samplers order tokens. NaN counts as -inf. A row with +inf has only its +inf
tokens for candidates (the first LIST_CAPACITY of them), all alike. Where nothing usable is left, a draw is -1.

The passes over the row are C (sampling_kernels.h); this module is the extension type and what checks its input.
"""

from libc.float cimport FLT_MAX
from libc.math cimport INFINITY, log, log2, pow
from libc.stdint cimport int32_t, int64_t, uint32_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from janflask_ext.fullrow cimport (
    best_of_run,
    in_run,
    keep_surprise,
    keep_top,
    narrow_run,
    pick_from_run,
    row_moments,
    run_temperature,
    weigh_run,
    whole_run,
)
from janflask_ext.history cimport DryBreakers, DryWindow, Patch, PenaltyWindow, patch
from janflask_ext.kernels cimport JF_BLOCK, JF_BUCKETS, JF_PAD, Row, Shortlist, jf_bucket, jf_kernels_get, jf_softmax
from janflask_ext.rng cimport Xoshiro, next_double, seed_rng
from janflask_ext.shortlist cimport (
    LIST_CAPACITY,
    LIST_TOP,
    gather_top,
    inverse,
    list_temperature,
    narrow_list,
    pick_from_list,
    weigh,
)

import numpy as np

from janflask_ext.history import process_dry_breakers

__all__ = ["Sampler", "kernel", "process_dry_breakers"]

cdef enum:
    MIROSTAT_TOP = 100      # tokens from which mirostat 1 estimates the distribution's exponent

cdef const char* KERNEL = NULL      # name of the passes in use; NULL: the best that this processor runs


def kernel(name=None):
    """The instruction set of the passes over a row; with a name, samplers made from now on use that one."""
    global KERNEL
    if name is not None:
        for known in (b"avx512", b"avx2", b"generic"):
            if known == name.encode() and jf_kernels_get(known) != NULL:
                KERNEL = jf_kernels_get(known).name
                break
        else:
            raise ValueError(f"name must be an instruction set that this processor has, not {name!r}")
    return jf_kernels_get(KERNEL).name.decode()


# ------------------------------------------------------------------------------------------------------ checks of input

cdef double real(str name, value, double least=-INFINITY) except? -1:
    """A finite number that float32 can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= FLT_MAX:
        raise ValueError(f"{name} must be a finite number, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least:g}, not {value!r}")
    return value


def _integer(str name, value, least, most):
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} must be an integer from {least} to {most}, not {value!r}")
    return value


cdef void* allocate(size_t count, size_t size) except NULL:
    cdef void* memory = calloc(count, size)
    if memory == NULL:
        raise MemoryError
    return memory


cdef int allocate_list(Shortlist* cands, int32_t capacity) except -1:
    cands.capacity = capacity
    cands.logits = <float*>allocate(capacity + JF_PAD, sizeof(float))
    cands.ids = <int32_t*>allocate(capacity + JF_PAD, sizeof(int32_t))
    cands.weights = <float*>allocate(capacity + JF_PAD, sizeof(float))
    cands.found_logits = <float*>allocate(capacity + JF_PAD, sizeof(float))
    cands.found_ids = <int32_t*>allocate(capacity + JF_PAD, sizeof(int32_t))
    return 0


cdef void free_list(Shortlist* cands) noexcept:
    free(cands.logits)
    free(cands.ids)
    free(cands.weights)
    free(cands.found_logits)
    free(cands.found_ids)


# ---------------------------------------------------------------------------------------------------------- the sampler

cdef class Sampler:
    """Settings, history and random state of one generation; see sampling.pyi."""

    def __init__(
        self,
        n_vocab,
        *,
        temperature=0.8,
        dynatemp_range=0.0,
        dynatemp_exponent=1.0,
        top_k=40,
        top_p=0.95,
        min_p=0.05,
        typical_p=1.0,
        top_n_sigma=-1.0,
        xtc_probability=0.0,
        xtc_threshold=0.1,
        repeat_penalty=1.0,
        repeat_last_n=64,
        frequency_penalty=0.0,
        presence_penalty=0.0,
        dry_multiplier=0.0,
        dry_base=1.75,
        dry_allowed_length=2,
        dry_penalty_last_n=-1,
        mirostat=0,
        mirostat_tau=5.0,
        mirostat_eta=0.1,
        seed=0,
        logit_bias=(),
        banned=(),
        top_logprobs=None,
        n_ctx=4096,
        dry_breakers=(),
    ):
        if self.bias_ids != NULL:
            raise RuntimeError("a Sampler is initialised once")
        self.n_vocab = _integer("n_vocab", n_vocab, 1, 2**30)
        _integer("n_ctx", n_ctx, 1, 2**30)
        self.settings.temperature = real("temperature", temperature)
        self.settings.dynatemp_range = real("dynatemp_range", dynatemp_range)
        self.settings.dynatemp_exponent = real("dynatemp_exponent", dynatemp_exponent)
        self.settings.top_k = min(_integer("top_k", top_k, -(2**31), 2**31 - 1), self.n_vocab)
        self.settings.top_p = real("top_p", top_p)
        self.settings.min_p = real("min_p", min_p)
        self.settings.typical_p = real("typical_p", typical_p)
        self.settings.top_n_sigma = real("top_n_sigma", top_n_sigma)
        self.settings.xtc_probability = real("xtc_probability", xtc_probability)
        self.settings.xtc_threshold = real("xtc_threshold", xtc_threshold)
        self.mirostat = _integer("mirostat", mirostat, 0, 2)
        self.mirostat_tau = real("mirostat_tau", mirostat_tau)
        self.mirostat_eta = real("mirostat_eta", mirostat_eta)
        self.mirostat_mu = 2.0 * self.mirostat_tau
        seed_rng(&self.rng, _integer("seed", seed, 0, 2**64 - 1))
        seed_rng(&self.xtc_rng, (seed ^ 0x5854435854435854) & (2**64 - 1))
        self.top_logprobs = -1 if top_logprobs is None else _integer("top_logprobs", top_logprobs, 0, LIST_TOP)

        penalties = self._penalties(n_ctx, repeat_penalty, repeat_last_n, frequency_penalty, presence_penalty)
        dry = self._dry(n_ctx, dry_multiplier, dry_base, dry_allowed_length, dry_penalty_last_n, dry_breakers)
        # In llama.cpp's chain for mirostat there are no penalties.
        self.penalties = penalties if mirostat == 0 else None
        self.dry = dry if mirostat == 0 else None
        self.has_penalties = self.penalties is not None
        self.has_dry = self.dry is not None
        self._set_bias(list(logit_bias), list(banned))
        self._allocate()
        # The list of candidates begins with the row's best tokens if nothing changes the row before it is made.
        self.can_share_top = (
            self.top_logprobs > 0
            and 0 < self.settings.top_k <= LIST_TOP
            and self.settings.top_n_sigma <= 0
            and not (self.n_bias or self.has_penalties or self.has_dry or self.mirostat or self.is_greedy())
        )

    def _penalties(self, n_ctx, repeat, last_n, frequency, presence):
        size = _integer("repeat_last_n", last_n, -1, 2**31 - 1)
        size = n_ctx if size == -1 else min(size, n_ctx)
        repeat = real("repeat_penalty", repeat)
        if repeat <= 0:
            raise ValueError(f"repeat_penalty must be more than 0, not {repeat!r}")
        frequency = real("frequency_penalty", frequency)
        presence = real("presence_penalty", presence)
        if size == 0 or (repeat == 1 and frequency == 0 and presence == 0):
            return None
        return PenaltyWindow(self.n_vocab, size, repeat, frequency, presence)

    def _dry(self, n_ctx, multiplier, base, allowed, last_n, breakers):
        size = _integer("dry_penalty_last_n", last_n, -1, 2**31 - 1)
        size = n_ctx if size == -1 else min(size, n_ctx)
        multiplier = real("dry_multiplier", multiplier)
        base = real("dry_base", base)
        _integer("dry_allowed_length", allowed, 0, 2**31 - 1)
        if not isinstance(breakers, DryBreakers):
            if len(breakers):
                raise ValueError("dry_breakers must come from process_dry_breakers")
            breakers = DryBreakers({})
        if multiplier == 0 or base < 1 or size == 0:
            return None
        return DryWindow(self.n_vocab, size, multiplier, base, min(allowed, size), breakers)

    def _set_bias(self, list logit_bias, list banned):
        self.bias_ids = <int32_t*>allocate(len(logit_bias) + len(banned) + 1, sizeof(int32_t))
        self.bias = <float*>allocate(len(logit_bias) + len(banned) + 1, sizeof(float))
        for token, bias in logit_bias:
            self.bias_ids[self.n_bias] = _integer("logit_bias token", token, 0, self.n_vocab - 1)
            if bias != float("-inf"):
                real("logit_bias", bias)
            self.bias[self.n_bias] = bias
            self.n_bias += 1
        for token in banned:
            self.bias_ids[self.n_bias] = _integer("banned token", token, 0, self.n_vocab - 1)
            self.bias[self.n_bias] = -INFINITY
            self.n_bias += 1

    def _allocate(self):
        cdef size_t patches = self.n_bias + 1
        if self.has_penalties:
            patches += min(self.penalties.size, self.n_vocab)
        if self.has_dry:
            patches += min(self.dry.size, self.n_vocab)
        self.patches = <Patch*>allocate(patches, sizeof(Patch))
        self.row.kernels = jf_kernels_get(KERNEL)
        self.row.n = self.n_vocab
        self.row.n_blocks = (self.n_vocab + JF_BLOCK - 1) // JF_BLOCK
        self.row.maxima = <float*>allocate(self.row.n_blocks, sizeof(float))
        self.work.buckets = <jf_bucket*>allocate(JF_BUCKETS, sizeof(jf_bucket))
        self.work.block_mass = <double*>allocate(self.row.n_blocks, sizeof(double))
        self.work.boundary = &self.boundary
        allocate_list(&self.cands, LIST_CAPACITY)
        allocate_list(&self.boundary, LIST_CAPACITY)
        if self.top_logprobs >= 0:
            allocate_list(&self.top, LIST_CAPACITY)

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

    # ------------------------------------------------------------------------------------------------------ a draw

    cdef int draw(self, const float* row, const uint32_t* mask) noexcept nogil:
        """Chooses a token; -1 if the row and the mask leave none. Does not accept it."""
        cdef double u = next_double(&self.rng)
        cdef bint xtc = self.xtc_chance()
        cdef int token = -1
        self.first_pass(row, mask)
        if self.prepare(xtc):
            token = self.pick(u)
        self.undo_patches()
        if self.top_logprobs >= 0:
            self.chosen_logprob = -INFINITY if token < 0 else self.logprob_of(row[token])
            self.has_logprobs = token >= 0
        return token

    cdef bint xtc_chance(self) noexcept nogil:
        """Whether XTC acts on this token. Draws from its own generator, once per token."""
        if self.settings.xtc_probability <= 0 or self.settings.xtc_threshold > <float>0.5:
            return False
        return next_double(&self.xtc_rng) <= self.settings.xtc_probability

    cdef void first_pass(self, const float* row, const uint32_t* mask) noexcept nogil:
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
        self.apply_patches()
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

    cdef void apply_patches(self) noexcept nogil:
        cdef float* row = <float*>self.row.x
        cdef int32_t i
        self.n_patches = 0
        for i in range(self.n_bias):
            patch(row, self.bias_ids[i], row[self.bias_ids[i]] + self.bias[i], self.patches, &self.n_patches)
        if self.has_penalties:
            self.penalties.apply(row, self.patches, &self.n_patches)
        if self.has_dry:
            self.dry.apply(row, self.patches, &self.n_patches)

    cdef void undo_patches(self) noexcept nogil:
        """Puts the row back as it was; a token may have been patched more than once."""
        cdef float* row = <float*>self.row.x
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
            self.mirostat_mu -= self.mirostat_eta * (-log2(p) - self.mirostat_tau)
        return token

    cdef void accept_token(self, int token) noexcept nogil:
        """Adds a token to the history; an id outside of the vocabulary is ignored."""
        if 0 <= token < self.n_vocab:
            if self.has_penalties:
                self.penalties.push(token)
            if self.has_dry:
                self.dry.push(token)

    # -------------------------------------------------------------------------------------------------- from Python

    def accept(self, token):
        """Adds a token to the history that penalties and DRY look back on."""
        self.accept_token(_integer("token", token, 0, self.n_vocab - 1))

    def prime(self, const int32_t[::1] tokens not None):
        """Makes a prompt's tokens the history, as if each had been accepted."""
        cdef Py_ssize_t i
        for i in range(tokens.shape[0]):
            _integer("token", tokens[i], 0, self.n_vocab - 1)
        for i in range(tokens.shape[0]):
            self.accept_token(tokens[i])

    def sample(self, logits, mask=None):
        """Draws from a row that a Python object holds; does not accept."""
        cdef const float[::1] row = self._row(logits)
        return self.sample_at(<uintptr_t>&row[0], mask)

    def sample_at(self, uintptr_t address, mask=None):
        """Draws from the row at an address; does not accept."""
        cdef const uint32_t[::1] words = self._mask(mask)
        cdef const uint32_t* allowed = NULL
        cdef int token
        if words is not None:
            allowed = &words[0]
        if address == 0:
            raise ValueError("address must not be 0")
        with nogil:
            token = self.draw(<const float*>address, allowed)
        if token < 0:
            raise ValueError("logits must leave a token: all are -inf, NaN, banned or outside of the mask")
        return token

    def _row(self, logits):
        view = memoryview(logits)
        if view.ndim != 1 or view.format != "f" or view.shape[0] != self.n_vocab:
            raise ValueError(f"logits must be {self.n_vocab} float32 values in one dimension")
        # Biases are written into the row and taken back: what nobody may write to is copied.
        return np.array(logits) if view.readonly or not view.c_contiguous else logits

    def _mask(self, mask):
        if mask is None:
            return None
        words = (self.n_vocab + 31) // 32
        view = memoryview(mask)
        if view.ndim != 1 or view.format not in ("I", "L") or view.itemsize != 4 or view.shape[0] != words:
            raise ValueError(f"mask must be {words} uint32 values in one dimension")
        return mask

    def logprobs(self):
        """Log-probability of the last drawn token, and the best tokens with theirs."""
        if not self.has_logprobs:
            raise ValueError("logprobs needs top_logprobs to be set, and a draw")
        best = [
            (self.top.ids[i], <double>self.top.logits[i] - self.log_sum)
            for i in range(self.top.end)
        ]
        return self.chosen_logprob, best

    def candidates(self, logits, mask=None):
        """The distribution that the next draw from this row would draw from: ids and probabilities."""
        cdef float[::1] row = np.array(self._row(logits))
        cdef const uint32_t[::1] words = self._mask(mask)
        cdef const uint32_t* allowed = NULL
        cdef Xoshiro xtc_rng = self.xtc_rng
        cdef bint xtc = self.xtc_chance()
        self.xtc_rng = xtc_rng
        if words is not None:
            allowed = &words[0]
        self.has_logprobs = False
        self.first_pass(&row[0], allowed)
        try:
            if not self.prepare(xtc):
                return np.empty(0, np.int32), np.empty(0, np.float32)
            return self._distribution()
        finally:
            self.undo_patches()

    def _distribution(self):
        cdef double total, beta = inverse(self.temperature) if self.temperature > 0 else 1.0
        cdef int32_t i
        if self.listed:
            span = range(self.cands.start, self.cands.end)
            total = weigh(&self.row, &self.cands, beta)
            ids = [self.cands.ids[i] for i in span]
            weights = [self.cands.weights[i] for i in span]
        else:
            ids = [i for i in range(self.n_vocab) if in_run(&self.row, &self.run, i)]
            weights = [(<double>self.row.x[i] - self.run.hi) * beta for i in ids]
            weights = np.exp(weights)
            total = weigh_run(&self.row, &self.run, beta, NULL)
        return np.array(ids, np.int32), (np.array(weights, np.float64) / total).astype(np.float32)


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
