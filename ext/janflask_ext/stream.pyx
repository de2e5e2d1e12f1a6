"""From token ids to text, as it comes.

Design
------
Three stages, byte by byte, without the GIL and without an allocation except for the ``str`` that is returned::

    token --Vocab--> bytes --UTF-8 decoder--> complete characters --stop automaton--> buffer --take--> str

1. ``Vocab`` keeps every token's bytes in one blob. Control and unknown tokens make no text unless asked for.
2. The decoder holds back an incomplete character, and replaces what is not UTF-8 by U+FFFD the way Python does with
   ``errors="replace"``: one for each maximal part of an ill-formed sequence (Unicode 16, section 3.9, table 3-7 and
   "U+FFFD Substitution of Maximal Subparts"). Only whole, valid characters go on, so a stop string is searched in the
   very text that a client sees. A character that lacks bytes when the tokens end (``max_tokens`` cut it, as a rule) is
   not ill-formed but unfinished: it makes no text, and no U+FFFD that nobody wrote.
3. The automaton (Aho and Corasick, "Efficient string matching", CACM 18(6), 1975) is, after each byte, in the node of
   the longest suffix of the text that a stop string may begin with. That suffix, and no more, stays in the buffer.

The stop string that ends first wins; of several that end together, the longest.

Without the GIL a field is changed by ``self.x = self.x + 1``: with ``JANFLASK_CYTHON_DEBUG=1`` Cython wants the GIL for
the None check of ``self.x += 1``.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memmove

# llama.cpp's token attributes (llama_token_attr) that matter here.
ATTR_UNKNOWN = 1 << 0
ATTR_CONTROL = 1 << 3

cdef int HIDDEN_ATTRS = ATTR_UNKNOWN | ATTR_CONTROL
cdef Py_ssize_t REPLACEMENT_SIZE = 3  # bytes of U+FFFD


cdef class Vocab:
    def __cinit__(self, pieces, attrs):
        self.size = len(pieces)
        if len(attrs) != self.size:
            raise ValueError(f"{self.size} pieces need as many attributes, not {len(attrs)}")
        self.blob = b"".join(pieces)
        self.data = <const unsigned char*> PyBytes_AS_STRING(self.blob)
        self.offsets = <Py_ssize_t*> calloc(self.size + 1, sizeof(Py_ssize_t))
        self.hidden = <unsigned char*> calloc(self.size + 1, 1)
        if self.offsets == NULL or self.hidden == NULL:
            raise MemoryError
        cdef Py_ssize_t i = 0
        cdef Py_ssize_t length
        cdef bytes piece
        cdef int attr
        for i in range(self.size):
            piece, attr = pieces[i], attrs[i]
            length = len(piece)
            self.longest = max(self.longest, length)
            self.offsets[i + 1] = self.offsets[i] + length
            self.hidden[i] = (attr & HIDDEN_ATTRS) != 0

    def __dealloc__(self):
        free(self.offsets)
        free(self.hidden)

    def __len__(self):
        return self.size

    def piece(self, Py_ssize_t token):
        if not 0 <= token < self.size:
            raise IndexError(f"token {token} is not in the vocabulary of {self.size}")
        return self.blob[self.offsets[token]:self.offsets[token + 1]]

    def hides(self, Py_ssize_t token):
        if not 0 <= token < self.size:
            raise IndexError(f"token {token} is not in the vocabulary of {self.size}")
        return self.hidden[token] != 0

    def text(self, Py_ssize_t token):
        return self.piece(token).decode("utf-8", "replace")


cdef class StopMatcher:
    def __cinit__(self, strings):
        if isinstance(strings, str):
            raise TypeError("stop strings are a sequence of str, not one str")
        self.strings = tuple(strings)
        encoded = [string.encode("utf-8") for string in self.strings]
        if b"" in encoded:
            raise ValueError("a stop string must not be empty")
        self.longest = max((len(string) for string in encoded), default=0)
        self._allocate(1 + sum(len(string) for string in encoded))
        for index, string in enumerate(encoded):
            self._insert(string, index)
        cdef int node
        order = self._link()
        for string in encoded:
            self._mark(string)
        for node in order:
            if self.hold[node] == 0:
                self.hold[node] = self.hold[self.fail[node]]

    def __dealloc__(self):
        free(self.label)
        free(self.child)
        free(self.sibling)
        free(self.fail)
        free(self.depth)
        free(self.hold)
        free(self.match)
        free(self.index)

    cdef int _allocate(self, Py_ssize_t nodes) except -1:
        self.label = <unsigned char*> calloc(nodes, 1)
        self.child = <int*> calloc(nodes, sizeof(int))
        self.sibling = <int*> calloc(nodes, sizeof(int))
        self.fail = <int*> calloc(nodes, sizeof(int))
        self.depth = <int*> calloc(nodes, sizeof(int))
        self.hold = <int*> calloc(nodes, sizeof(int))
        self.match = <int*> calloc(nodes, sizeof(int))
        self.index = <int*> calloc(nodes, sizeof(int))
        if (self.label == NULL or self.child == NULL or self.sibling == NULL or self.fail == NULL
                or self.depth == NULL or self.hold == NULL or self.match == NULL or self.index == NULL):
            raise MemoryError
        self.size = 1
        return 0

    cdef int find(self, int node, unsigned char byte) noexcept nogil:
        """The node's child by this byte; 0 when there is none."""
        if node == 0:
            return self.root[byte]
        cdef int child = self.child[node]
        while child != 0 and self.label[child] != byte:
            child = self.sibling[child]
        return child

    cdef int step(self, int node, unsigned char byte) noexcept nogil:
        """The node after one more byte."""
        cdef int child = self.find(node, byte)
        while child == 0 and node != 0:
            node = self.fail[node]
            child = self.find(node, byte)
        return child

    cdef int _insert(self, bytes string, int index) except -1:
        cdef int node = 0
        cdef int child
        cdef unsigned char byte
        for byte in string:
            child = self.find(node, byte)
            if child == 0:
                child = self.size
                self.size += 1
                self.label[child] = byte
                self.depth[child] = self.depth[node] + 1
                self.sibling[child] = self.child[node]
                self.child[node] = child
                if node == 0:
                    self.root[byte] = child
            node = child
        if self.match[node] == 0:  # of a repeated stop string the first one counts
            self.match[node] = node
            self.index[node] = index
        return 0

    cdef list _link(self):
        """Failure links; a node that is no stop string takes the longest of its suffixes that is one.

        Gives the nodes breadth first.
        """
        cdef int node, child
        queue = [0]
        for node in queue:
            child = self.child[node]
            while child != 0:
                if node != 0:
                    self.fail[child] = self.step(self.fail[node], self.label[child])
                if self.match[child] == 0:
                    self.match[child] = self.match[self.fail[child]]
                queue.append(child)
                child = self.sibling[child]
        return queue

    cdef int _mark(self, bytes string) except -1:
        """The beginnings of a stop string are worth holding back, unless another one always ends before it does."""
        cdef Py_ssize_t last = len(string) - 1
        cdef Py_ssize_t i
        cdef int node = 0
        cdef const unsigned char* data = <const unsigned char*> PyBytes_AS_STRING(string)
        for i in range(last):
            node = self.find(node, data[i])
            if self.match[node] != 0:
                return 0
        node = 0
        for i in range(last):
            node = self.find(node, data[i])
            self.hold[node] = self.depth[node]
        return 0


cdef class TextStream:
    def __cinit__(self, Vocab vocab not None, stop=(), *, bint render_special=False):
        self.vocab = vocab
        self.stops = StopMatcher(stop)
        self.matching = len(self.stops.strings) > 0
        self.render_special = render_special
        self.matched = -1
        self._reserve(vocab.longest)

    def __dealloc__(self):
        free(self.buffer)

    @property
    def stopped(self):
        return self.matched >= 0

    @property
    def stop_index(self):
        return self.matched if self.matched >= 0 else None

    @property
    def stop(self):
        return self.stops.strings[self.matched] if self.matched >= 0 else None

    @property
    def held(self):
        return self.buffer[:self.length] + self.half[:self.half_size]

    def push(self, int token):
        if not 0 <= token < self.vocab.size:
            raise IndexError(f"token {token} is not in the vocabulary of {self.vocab.size}")
        self._check_open()
        self.feed_token(token)
        return self.take()

    def push_bytes(self, bytes data not None):
        self._check_open()
        self._reserve(PyBytes_GET_SIZE(data))
        self.feed(<const unsigned char*> PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return self.take()

    def finish(self):
        self.end()
        return self.take()

    cdef inline int _check_open(self) except -1:
        if self.matched >= 0:
            raise RuntimeError("the stream has met a stop string and takes no more tokens")
        if self.finished:
            raise RuntimeError("the stream is finished and takes no more tokens")
        return 0

    cdef int _reserve(self, Py_ssize_t size) except -1:
        """Room for ``size`` more bytes of input, each of which may become a U+FFFD, behind all that may be held."""
        cdef Py_ssize_t capacity = self.stops.longest + REPLACEMENT_SIZE * (size + 4)
        if capacity > self.capacity:
            buffer = <unsigned char*> realloc(self.buffer, capacity)
            if buffer == NULL:
                raise MemoryError
            self.buffer = buffer
            self.capacity = capacity
        return 0

    cdef void feed_token(self, int token) noexcept nogil:
        """Takes one token of the vocabulary. The caller has checked that it is one and that nothing stopped."""
        cdef Py_ssize_t start = self.vocab.offsets[token]
        if self.render_special or not self.vocab.hidden[token]:
            self.feed(self.vocab.data + start, self.vocab.offsets[token + 1] - start)

    cdef void feed(self, const unsigned char* data, Py_ssize_t size) noexcept nogil:
        """Takes bytes for which room was reserved; what lies behind a stop string is dropped."""
        cdef Py_ssize_t i
        for i in range(size):
            if self.matched >= 0:
                return
            self._decode(data[i])

    cdef void end(self) noexcept nogil:
        """No more input: the beginning of a stop string is text now, that of a character is dropped."""
        self.half_size = self.need = self.node = 0
        self.finished = True

    cdef str take(self):
        """The text that is certain by now."""
        cdef Py_ssize_t held = 0 if self.matched >= 0 else self.stops.hold[self.node]
        cdef Py_ssize_t ready = self.length - held
        text = PyUnicode_DecodeUTF8(<const char*> self.buffer, ready, NULL)
        if ready > 0:
            memmove(self.buffer, self.buffer + ready, held)
        self.length = held
        return text

    cdef void _decode(self, unsigned char byte) noexcept nogil:
        if self.need > 0:
            if self.low <= byte <= self.high:
                self.half[self.half_size] = byte
                self.half_size = self.half_size + 1
                self.need = self.need - 1
                self.low, self.high = 0x80, 0xBF
                if self.need == 0:
                    self._append(self.half, self.half_size)
                    self.half_size = 0
                return
            self.need = self.half_size = 0
            self._append_replacement()
            if self.matched >= 0:
                return
        self._begin_character(byte)

    cdef void _begin_character(self, unsigned char byte) noexcept nogil:
        """Unicode's table 3-7: no overlong forms, no surrogates, nothing above U+10FFFF."""
        if byte < 0x80:
            self._append(&byte, 1)
            return
        self.low, self.high = 0x80, 0xBF
        if 0xC2 <= byte <= 0xDF:
            self.need = 1
        elif 0xE0 <= byte <= 0xEF:
            self.need = 2
            if byte == 0xE0:
                self.low = 0xA0
            elif byte == 0xED:
                self.high = 0x9F
        elif 0xF0 <= byte <= 0xF4:
            self.need = 3
            if byte == 0xF0:
                self.low = 0x90
            elif byte == 0xF4:
                self.high = 0x8F
        else:
            self._append_replacement()
            return
        self.half[0] = byte
        self.half_size = 1

    cdef void _append_replacement(self) noexcept nogil:
        cdef unsigned char[3] replacement = [0xEF, 0xBF, 0xBD]
        self._append(replacement, REPLACEMENT_SIZE)

    cdef void _append(self, const unsigned char* data, Py_ssize_t size) noexcept nogil:
        """Complete characters into the buffer and through the automaton; at a stop string the buffer ends before it."""
        cdef Py_ssize_t i
        cdef int node
        memcpy(self.buffer + self.length, data, size)
        self.length = self.length + size
        if not self.matching:
            return
        for i in range(size):
            node = self.node = self.stops.step(self.node, data[i])
            if self.stops.match[node] != 0:
                self.matched = self.stops.index[self.stops.match[node]]
                self.length = self.length - self.stops.depth[self.stops.match[node]]
                return
