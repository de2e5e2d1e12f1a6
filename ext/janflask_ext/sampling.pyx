"""The sampler as Python sees it: settings checked and taken over, rows and masks checked, draws made.

What a draw does is in chain.pyx.
"""

from libc.float cimport FLT_MAX
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, uint32_t, uintptr_t

from janflask_ext.chain cimport Chain
from janflask_ext.history cimport DryBreakers, DryWindow, PenaltyWindow
from janflask_ext.kernels cimport jf_kernels_get
from janflask_ext.rng cimport Xoshiro, seed_rng
from janflask_ext.runs cimport in_run, weigh_run
from janflask_ext.shortlist cimport LIST_TOP, inverse, weigh, zeroed

import numpy as np

from janflask_ext.history import process_dry_breakers

__all__ = ["Sampler", "kernel", "process_dry_breakers"]


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


cdef class Sampler(Chain):
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
        self.row.kernels = jf_kernels_get(KERNEL)
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
        self.allocate()
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
        self.bias_ids = <int32_t*>zeroed(len(logit_bias) + len(banned) + 1, sizeof(int32_t))
        self.bias = <float*>zeroed(len(logit_bias) + len(banned) + 1, sizeof(float))
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
        cdef float[::1] row = self._row(logits)
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
            token = self.draw(<float*>address, allowed)
        if token < 0:
            raise ValueError("logits must leave a token: all are -inf, NaN, banned or outside of the mask")
        return token

    def score(self, logits, token):
        """Makes `logprobs` tell of a given token on a row; draws nothing."""
        cdef const float[::1] row = self._row(logits)
        cdef int id = _integer("token", token, 0, self.n_vocab - 1)
        if self.top_logprobs < 0:
            raise ValueError("score needs top_logprobs to be set")
        with nogil:
            self.score_token(&row[0], id)

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
            self.undo_patches(&row[0])

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
