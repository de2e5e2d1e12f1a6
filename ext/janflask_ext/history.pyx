"""What was said before, and the samplers that punish saying it again: penalties and DRY.

PenaltyWindow: llama.cpp's repeat, frequency and presence penalties over the last tokens. DryWindow: "Don't Repeat
Yourself" by p-e-w (oobabooga/text-generation-webui pull request 5677) in the form that llama.cpp has: for every earlier
position, the longest suffix of the context that ends there as well. The Z algorithm finds them (D. Gusfield,
"Algorithms on Strings, Trees and Sequences", 1997, section 1.4), on the tokens read backwards.

Both change only the logits of tokens they know, and note what stood there before.
"""

from libc.math cimport log, pow
from libc.stdint cimport int32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memmove

from bisect import bisect_right
from itertools import accumulate

MAX_BREAKER_BYTES = 40      # llama.cpp's limits: longer breakers are cut
MAX_TAIL_TOKENS = 20


cdef void* allocate(size_t count, size_t size) except NULL:
    cdef void* memory = calloc(count + 1, size)
    if memory == NULL:
        raise MemoryError
    return memory


cdef class PenaltyWindow:
    """The last `size` tokens and how often each occurs among them."""

    def __cinit__(self, int32_t n_vocab, int32_t size, float repeat, float frequency, float presence):
        self.n_vocab = n_vocab
        self.size = size
        self.repeat = repeat
        self.frequency = frequency
        self.presence = presence
        self.tokens = <int32_t*>allocate(size, sizeof(int32_t))
        self.counts = <int32_t*>allocate(n_vocab, sizeof(int32_t))

    def __dealloc__(self):
        free(self.tokens)
        free(self.counts)

    cdef void push(self, int32_t token) noexcept nogil:
        # Written out: an augmented assignment to a field has a None check that needs the GIL in a debug build.
        cdef int32_t* counts = self.counts
        if self.filled == self.size:
            counts[self.tokens[self.oldest]] -= 1
            self.tokens[self.oldest] = token
            self.oldest = self.oldest + 1 if self.oldest + 1 < self.size else 0
        else:
            self.tokens[self.filled] = token
            self.filled = self.filled + 1
        counts[token] += 1

    cdef void apply(self, float* row, Patch* patches, int32_t* n) noexcept nogil:
        cdef int32_t i, token, count
        cdef float x
        for i in range(self.filled):
            token = self.tokens[i]
            count = self.counts[token]
            if count <= 0:
                continue
            x = row[token]
            x = x * self.repeat if x <= 0 else x / self.repeat
            patch(row, token, x - (count * self.frequency + self.presence), patches, n)
            self.counts[token] = -count         # seen: the token may stand in the window again
        for i in range(self.filled):
            token = self.tokens[i]
            if self.counts[token] < 0:
                self.counts[token] = -self.counts[token]


cdef class DryBreakers:
    """Token sequences that end a repeat, as `process_dry_breakers` finds them. Can be shared by many samplers."""

    def __cinit__(self, dict sequences):
        cdef int32_t n_tails = 0, n_tokens = 0, i = 0
        self.n_heads = len(sequences)
        self.heads = <int32_t*>allocate(self.n_heads, sizeof(int32_t))
        self.first_tail = <int32_t*>allocate(self.n_heads + 1, sizeof(int32_t))
        self.tail_begin = <int32_t*>allocate(sum(map(len, sequences.values())) + 1, sizeof(int32_t))
        self.tail_tokens = <int32_t*>allocate(
            sum(len(tail) for tails in sequences.values() for tail in tails), sizeof(int32_t)
        )
        for i, head in enumerate(sorted(sequences)):
            self.heads[i] = head
            for tail in sequences[head]:
                for token in tail:
                    self.tail_tokens[n_tokens] = token
                    n_tokens += 1
                n_tails += 1
                self.tail_begin[n_tails] = n_tokens
            self.first_tail[i + 1] = n_tails

    def __dealloc__(self):
        free(self.heads)
        free(self.first_tail)
        free(self.tail_begin)
        free(self.tail_tokens)

    def __len__(self):
        return self.n_heads

    cdef int32_t find(self, int32_t token) noexcept nogil:
        """Index of the token among the heads; -1: it begins no breaker."""
        cdef int32_t lo = 0, hi = self.n_heads - 1, middle
        while lo <= hi:
            middle = (lo + hi) >> 1
            if self.heads[middle] == token:
                return middle
            if self.heads[middle] < token:
                lo = middle + 1
            else:
                hi = middle - 1
        return -1

    cdef bint is_single(self, int32_t token) noexcept nogil:
        """Whether the token alone is a breaker."""
        cdef int32_t head = self.find(token), j
        if head >= 0:
            for j in range(self.first_tail[head], self.first_tail[head + 1]):
                if self.tail_begin[j] == self.tail_begin[j + 1]:
                    return True
        return False

    cdef int32_t longest_match(self, const int32_t* newest, int32_t back) noexcept nogil:
        """Tokens after the one at newest[-back] that belong to a breaker which begins there; -1: none does."""
        cdef int32_t head = self.find((newest - back)[0])
        cdef int32_t longest = -1, j, length, offset
        if head < 0:
            return -1
        for j in range(self.first_tail[head], self.first_tail[head + 1]):
            length = self.tail_begin[j + 1] - self.tail_begin[j]
            if length <= longest or length > back:
                continue
            for offset in range(length):
                if self.tail_tokens[self.tail_begin[j] + offset] != (newest - back + 1 + offset)[0]:
                    break
            else:
                longest = length
        return longest


cdef class DryWindow:
    """The last tokens, and what each token would repeat if it came next."""

    def __cinit__(
        self,
        int32_t n_vocab,
        int32_t size,
        float multiplier,
        float base,
        int32_t allowed,
        DryBreakers breakers not None,
    ):
        self.n_vocab = n_vocab
        self.size = size
        self.multiplier = multiplier
        self.base = base
        self.allowed = allowed
        self.breakers = breakers
        self.tokens = <int32_t*>allocate(2 * <size_t>size, sizeof(int32_t))
        self.z = <int32_t*>allocate(size, sizeof(int32_t))
        self.longest = <int32_t*>allocate(n_vocab, sizeof(int32_t))
        self.touched = <int32_t*>allocate(min(size, n_vocab), sizeof(int32_t))

    def __dealloc__(self):
        free(self.tokens)
        free(self.z)
        free(self.longest)
        free(self.touched)

    cdef void push(self, int32_t token) noexcept nogil:
        if self.end == 2 * self.size:
            memmove(self.tokens, self.tokens + self.size, self.size * sizeof(int32_t))
            self.end = self.size
        self.tokens[self.end] = token
        self.end = self.end + 1

    cdef int32_t repeat_limit(self, const int32_t* newest, int32_t n) noexcept nogil:
        """How long a repeat can count: up to the newest breaker."""
        cdef int32_t back, length
        for back in range(n):
            length = self.breakers.longest_match(newest, back)
            if length >= 0:
                return back - length
        return n

    cdef void apply(self, float* row, Patch* patches, int32_t* n_patches) noexcept nogil:
        cdef int32_t n = min(self.end, self.size)
        cdef int32_t limit, k, length, token, n_touched = 0
        cdef int32_t most = 0
        cdef const int32_t* newest = self.tokens + self.end - 1
        if n <= self.allowed:
            return
        limit = self.repeat_limit(newest, n)
        if limit < self.allowed:
            return
        z_function(newest, n, self.z)
        for k in range(1, n):
            length = min(self.z[k], limit)
            if length < self.allowed:
                continue
            token = (newest - k + 1)[0]         # it followed the repeated tokens then
            if self.longest[token] == 0:
                self.touched[n_touched] = token
                n_touched += 1
            self.longest[token] = max(self.longest[token], length + 1)
        if self.base > <float>1.000001:
            most = <int32_t>(88.7228391 / log(self.base))   # log of the largest float
        for k in range(n_touched):
            token = self.touched[k]
            length = self.longest[token] - 1 - self.allowed
            self.longest[token] = 0
            if not self.breakers.is_single(token):
                length = min(length, most) if most > 0 else length
                patch(row, token, row[token] - <float>(self.multiplier * pow(self.base, length)), patches, n_patches)


cdef void z_function(const int32_t* newest, int32_t n, int32_t* z) noexcept nogil:
    """z[k]: how many tokens, read backwards, the context that ends k tokens ago has in common with the whole one."""
    cdef int32_t k, length, left = 0, right = 0     # [left, right): the match that reaches furthest back
    for k in range(1, n):
        length = min(z[k - left], right - k) if k < right else 0
        while k + length < n and (newest - length)[0] == (newest - k - length)[0]:
            length += 1
        z[k] = length
        if k + length > right:
            left = k
            right = k + length


def process_dry_breakers(breakers, pieces, tokenize):
    """Finds the token sequences in which a breaker can show up; see history.pyi."""
    blob = b"".join(pieces)
    offsets = list(accumulate(map(len, pieces), initial=0))
    sequences = {}
    tails = {}
    for breaker in breakers:
        text = (breaker.encode() if isinstance(breaker, str) else bytes(breaker))[:MAX_BREAKER_BYTES]
        if not text:
            continue
        position = blob.find(text[:1])
        while position >= 0:
            token = bisect_right(offsets, position) - 1
            known = sequences.setdefault(token, [])
            if text in pieces[token]:
                known.append(())
                position = offsets[token + 1] - 1
            elif text.startswith(pieces[token][position - offsets[token]:]):
                # The piece ends in the breaker's beginning: the rest must come as the tokens after it.
                rest = text[offsets[token + 1] - position:]
                if rest not in tails:
                    tails[rest] = tuple(tokenize(rest))[:MAX_TAIL_TOKENS]
                if tails[rest] not in known:
                    known.append(tails[rest])
            position = blob.find(text[:1], position + 1)
    return DryBreakers({token: known for token, known in sequences.items() if known})
