"""llama.cpp's hot calls without ctypes: batches, decode, the KV memory, logits rows, tokenizing.

Nothing is linked: the functions are taken by address from the very library that llama-cpp-python has loaded into this
process, so there is one llama.cpp, one set of weights and no copy of the logits. Models and contexts are made with
llama-cpp-python's own (slow-path) bindings; this module is handed their addresses.

The layout that ``llama_abi.h`` declares is compared with the loaded library's at import; a mismatch is an ImportError,
not a crash in the first decode.
"""

import ctypes

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stddef cimport size_t
from libc.stdint cimport int8_t, int32_t, uint32_t, uintptr_t

from janflask_ext.llama cimport (
    jf_batch,
    jf_decode_fn,
    jf_get_logits_ith_fn,
    jf_memory_seq_cp_fn,
    jf_memory_seq_rm_fn,
    jf_synchronize_fn,
    jf_token_to_piece_fn,
    jf_tokenize_fn,
    jf_vocab_get_attr_fn,
    jf_vocab_is_eog_fn,
)
from janflask_ext.sampling cimport Sampler

from llama_cpp import llama_cpp as _library

WRITTEN_FOR = "0.3.36"

cdef jf_decode_fn llama_decode
cdef jf_get_logits_ith_fn llama_get_logits_ith
cdef jf_synchronize_fn llama_synchronize
cdef jf_memory_seq_rm_fn llama_memory_seq_rm
cdef jf_memory_seq_cp_fn llama_memory_seq_cp
cdef jf_token_to_piece_fn llama_token_to_piece
cdef jf_tokenize_fn llama_tokenize
cdef jf_vocab_get_attr_fn llama_vocab_get_attr
cdef jf_vocab_is_eog_fn llama_vocab_is_eog


# --- binding ------------------------------------------------------------------------------------------------------


cdef uintptr_t address_of(str name) except 0:
    function = getattr(_library._lib, name, None)
    if function is None:
        raise ImportError(f"the loaded llama.cpp has no {name}: install llama-cpp-python=={WRITTEN_FOR}")
    return <uintptr_t>ctypes.cast(function, ctypes.c_void_p).value


def batch_layout():
    """(field, offset) of every field of the batch struct as this module was compiled, and its size under ``""``."""
    cdef jf_batch batch
    cdef char *base = <char *>&batch
    return {
        "n_tokens": <size_t>(<char *>&batch.n_tokens - base),
        "token": <size_t>(<char *>&batch.token - base),
        "embd": <size_t>(<char *>&batch.embd - base),
        "pos": <size_t>(<char *>&batch.pos - base),
        "n_seq_id": <size_t>(<char *>&batch.n_seq_id - base),
        "seq_id": <size_t>(<char *>&batch.seq_id - base),
        "logits": <size_t>(<char *>&batch.logits - base),
        "": sizeof(jf_batch),
    }


def check_abi(structure, version):
    """Raises ImportError when ``structure`` (llama_batch in ctypes) or ``version`` is not what this was written for."""
    expected = batch_layout()
    found = {name: getattr(structure, name).offset for name, *_ in structure._fields_}
    found[""] = ctypes.sizeof(structure)
    if found != expected:
        raise ImportError(
            f"llama_batch of the loaded llama.cpp is laid out as {found}, janflask_ext was compiled for {expected}: "
            f"install llama-cpp-python=={WRITTEN_FOR}"
        )
    if version != WRITTEN_FOR:
        raise ImportError(
            f"janflask_ext was written for llama-cpp-python {WRITTEN_FOR}, found {version}: install that version"
        )


def _bind():
    global llama_decode, llama_get_logits_ith, llama_synchronize, llama_memory_seq_rm, llama_memory_seq_cp
    global llama_token_to_piece, llama_tokenize, llama_vocab_get_attr, llama_vocab_is_eog
    import llama_cpp

    check_abi(_library.llama_batch, llama_cpp.__version__)
    llama_decode = <jf_decode_fn>address_of("llama_decode")
    llama_get_logits_ith = <jf_get_logits_ith_fn>address_of("llama_get_logits_ith")
    llama_synchronize = <jf_synchronize_fn>address_of("llama_synchronize")
    llama_memory_seq_rm = <jf_memory_seq_rm_fn>address_of("llama_memory_seq_rm")
    llama_memory_seq_cp = <jf_memory_seq_cp_fn>address_of("llama_memory_seq_cp")
    llama_token_to_piece = <jf_token_to_piece_fn>address_of("llama_token_to_piece")
    llama_tokenize = <jf_tokenize_fn>address_of("llama_tokenize")
    llama_vocab_get_attr = <jf_vocab_get_attr_fn>address_of("llama_vocab_get_attr")
    llama_vocab_is_eog = <jf_vocab_is_eog_fn>address_of("llama_vocab_is_eog")


_bind()


# --- batch --------------------------------------------------------------------------------------------------------


cdef class Batch:
    """The tokens of one ``llama_decode``: arrays allocated once for ``capacity`` tokens, filled again every step."""

    cdef jf_batch c
    cdef int32_t *seq_of
    cdef readonly int capacity

    def __cinit__(self, int capacity):
        if capacity < 1:
            raise ValueError("capacity must be at least 1")
        self.capacity = capacity
        self.c.n_tokens = 0
        self.c.embd = NULL
        self.c.token = <int32_t *>PyMem_Malloc(capacity * sizeof(int32_t))
        self.c.pos = <int32_t *>PyMem_Malloc(capacity * sizeof(int32_t))
        self.c.n_seq_id = <int32_t *>PyMem_Malloc(capacity * sizeof(int32_t))
        self.c.seq_id = <int32_t **>PyMem_Malloc(capacity * sizeof(int32_t *))
        self.c.logits = <int8_t *>PyMem_Malloc(capacity * sizeof(int8_t))
        self.seq_of = <int32_t *>PyMem_Malloc(capacity * sizeof(int32_t))
        if (self.c.token == NULL or self.c.pos == NULL or self.c.n_seq_id == NULL or self.c.seq_id == NULL
                or self.c.logits == NULL or self.seq_of == NULL):
            raise MemoryError(f"no memory for a batch of {capacity} tokens")
        cdef int i
        for i in range(capacity):
            self.c.n_seq_id[i] = 1
            self.c.seq_id[i] = &self.seq_of[i]

    def __dealloc__(self):
        PyMem_Free(self.c.token)
        PyMem_Free(self.c.pos)
        PyMem_Free(self.c.n_seq_id)
        PyMem_Free(self.c.seq_id)
        PyMem_Free(self.c.logits)
        PyMem_Free(self.seq_of)

    def __len__(self):
        return self.c.n_tokens

    def clear(self):
        self.c.n_tokens = 0

    def add(self, const int32_t[::1] tokens not None, Py_ssize_t start, Py_ssize_t count, int seq, Py_ssize_t outputs):
        """Appends ``tokens[start:start + count]`` of sequence ``seq``; a token's position is its index.

        The last ``outputs`` of them get logits. Returns the batch row of the last token.
        Raises ValueError when the batch is full or the slice is not inside ``tokens``.
        """
        if start < 0 or count < 1 or start + count > tokens.shape[0]:
            raise ValueError(f"slice {start}+{count} is outside of {tokens.shape[0]} tokens")
        if not 0 <= outputs <= count:
            raise ValueError(f"{outputs} of {count} tokens cannot get logits")
        if self.c.n_tokens + count > self.capacity:
            raise ValueError(f"{count} more tokens do not fit: {self.c.n_tokens} of {self.capacity} are taken")
        cdef int row = self.c.n_tokens
        cdef Py_ssize_t i
        for i in range(count):
            self.c.token[row] = tokens[start + i]
            self.c.pos[row] = <int32_t>(start + i)
            self.seq_of[row] = seq
            self.c.logits[row] = i >= count - outputs
            row += 1
        self.c.n_tokens = row
        return row - 1


# --- context ------------------------------------------------------------------------------------------------------


cdef class Context:
    """The hot calls on one ``llama_context``, by address. The caller keeps context and memory alive."""

    cdef void *ctx
    cdef void *memory

    def __cinit__(self, uintptr_t ctx, uintptr_t memory):
        if ctx == 0 or memory == 0:
            raise ValueError("a context and its memory are needed")
        self.ctx = <void *>ctx
        self.memory = <void *>memory

    def decode(self, Batch batch not None):
        """Runs the batch, without the GIL. llama.cpp's codes: 0 done, 1 no room in the KV, 2 aborted, < 0 failed."""
        cdef int32_t code
        with nogil:
            code = llama_decode(self.ctx, batch.c)
            if code == 0:
                llama_synchronize(self.ctx)
        return code

    def sample(self, list rows, list samplers, list masks=None):
        """One token for each (row, sampler): draws from the logits row in place and accepts what it drew.

        ``masks``: for each row the bits of the tokens that it may give, as in ``Sampler.sample``, or None for all.
        Returns the token ids; -1 where a row allows no token. Raises ValueError for a mask of another length.
        """
        cdef Py_ssize_t i, n = len(rows)
        cdef Sampler sampler
        cdef int32_t row, token
        cdef float *logits                  # IN/OUT: a draw writes into the row and puts it back
        cdef const uint32_t[::1] words
        cdef const uint32_t *allowed
        cdef list tokens = [-1] * n
        if masks is not None and len(masks) != n:
            raise ValueError(f"{len(masks)} masks for {n} rows")
        for i in range(n):
            sampler = samplers[i]
            row = rows[i]
            allowed = NULL
            if masks is not None and masks[i] is not None:
                words = masks[i]
                if words.shape[0] != (sampler.n_vocab + 31) // 32:
                    raise ValueError(f"a mask of {words.shape[0]} words for a vocabulary of {sampler.n_vocab} tokens")
                allowed = &words[0]
            with nogil:
                logits = llama_get_logits_ith(self.ctx, row)
                token = -1
                if logits != NULL:
                    token = sampler.draw(logits, allowed)
                    if token >= 0:
                        sampler.accept_token(token)
            tokens[i] = token
        return tokens

    def score(self, int32_t row, const int32_t[::1] tokens not None, Py_ssize_t start, Py_ssize_t count,
              Sampler sampler not None):
        """``sampler.logprobs()`` of each of ``tokens[start:start + count]``, the first on ``row``, the next on row + 1.

        Raises ValueError for a row without logits, a token outside of the vocabulary, a sampler without
        ``top_logprobs``, and a slice that is not inside ``tokens``.
        """
        cdef Py_ssize_t i
        cdef int32_t token
        cdef const float *logits
        cdef list found = []
        if start < 0 or count < 0 or start + count > tokens.shape[0]:
            raise ValueError(f"slice {start}+{count} is outside of {tokens.shape[0]} tokens")
        if sampler.top_logprobs < 0:
            raise ValueError("score needs top_logprobs to be set")
        for i in range(count):
            token = tokens[start + i]
            if not 0 <= token < sampler.n_vocab:
                raise ValueError(f"token {token} is not in the vocabulary of {sampler.n_vocab}")
            with nogil:
                logits = llama_get_logits_ith(self.ctx, <int32_t>(row + i))
                if logits != NULL:
                    sampler.score_token(logits, token)
            if logits == NULL:
                raise ValueError(f"batch row {row + i} has no logits")
            found.append(sampler.logprobs())
        return found

    def logits_address(self, int32_t row):
        """Address of the ``float[n_vocab]`` logits of a batch row, 0 if it has none. Valid until the next decode."""
        return <uintptr_t>llama_get_logits_ith(self.ctx, row)

    def seq_rm(self, int32_t seq, int32_t p0, int32_t p1):
        """Forgets positions [p0, p1) of a sequence (-1: open end). False: this kind of memory cannot remove a part."""
        cdef bint done
        with nogil:
            done = llama_memory_seq_rm(self.memory, seq, p0, p1)
        return done

    def seq_cp(self, int32_t src, int32_t dst, int32_t p0, int32_t p1):
        """Makes ``dst`` share positions [p0, p1) of ``src``."""
        with nogil:
            llama_memory_seq_cp(self.memory, src, dst, p0, p1)


# --- leaving off --------------------------------------------------------------------------------------------------


cdef int is_one(void *byte) noexcept nogil:
    return (<volatile const unsigned char *>byte)[0]


def abort_callback():
    """The address of a ``ggml_abort_callback`` that reads the byte at its data: anything but 0 ends the decode."""
    return <uintptr_t>&is_one


# --- vocabulary ---------------------------------------------------------------------------------------------------


def attributes(uintptr_t vocab, int32_t n_vocab):
    """``llama_token_attr`` of every token. ``vocab`` is a ``llama_vocab *``, here and below."""
    cdef int32_t token
    return [llama_vocab_get_attr(<const void *>vocab, token) for token in range(n_vocab)]


def eog_tokens(uintptr_t vocab, int32_t n_vocab):
    """The tokens that llama.cpp takes for an end, by their names also; see ``janflask/engine/ends.py``."""
    cdef int32_t token
    return frozenset([token for token in range(n_vocab) if llama_vocab_is_eog(<const void *>vocab, token)])


def pieces(uintptr_t vocab, int32_t n_vocab):
    """The bytes of every token, special ones as their text."""
    cdef char *buffer
    cdef int32_t size = 256, token, length
    cdef list out = []
    buffer = <char *>PyMem_Malloc(size)
    if buffer == NULL:
        raise MemoryError("no memory for a token's text")
    try:
        for token in range(n_vocab):
            length = llama_token_to_piece(<const void *>vocab, token, buffer, size, 0, True)
            if length < 0:
                PyMem_Free(buffer)
                size = -length
                buffer = <char *>PyMem_Malloc(size)
                if buffer == NULL:
                    raise MemoryError("no memory for a token's text")
                length = llama_token_to_piece(<const void *>vocab, token, buffer, size, 0, True)
                if length < 0:
                    raise ValueError(f"llama.cpp gives no text for token {token}")
            out.append(buffer[:length])
    finally:
        PyMem_Free(buffer)
    return out


def tokenize(uintptr_t vocab, bytes text not None, bint add_special, bint parse_special):
    """Token ids of UTF-8 ``text`` as an ``array('i')``. Runs without the GIL. ValueError when llama.cpp fails."""
    from array import array

    cdef int32_t capacity = <int32_t>len(text) + 8
    cdef int32_t count
    cdef const char *data = text
    cdef int32_t length = <int32_t>len(text)
    cdef int32_t[::1] view
    out = array("i", bytes(4 * capacity))
    view = out
    with nogil:
        count = llama_tokenize(<const void *>vocab, data, length, &view[0], capacity, add_special, parse_special)
    if count < 0:
        if count == -2147483648:
            raise ValueError("the text has too many tokens")
        capacity = -count
        out = array("i", bytes(4 * capacity))
        view = out
        with nogil:
            count = llama_tokenize(<const void *>vocab, data, length, &view[0], capacity, add_special, parse_special)
        if count < 0:
            raise ValueError("llama.cpp could not tokenize the text")
    del view
    return out[:count]
