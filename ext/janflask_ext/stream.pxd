# The C face of the token-to-text stream, for other modules of this package that hold no GIL.

cdef class Vocab:
    cdef readonly Py_ssize_t longest      # bytes of the longest piece
    cdef Py_ssize_t size                  # number of tokens
    cdef bytes blob                       # all pieces, one after the other
    cdef const unsigned char* data        # of blob
    cdef Py_ssize_t* offsets              # piece i is data[offsets[i]:offsets[i + 1]]
    cdef unsigned char* hidden            # 1: the token makes no text unless special tokens are rendered


cdef class StopMatcher:
    cdef readonly tuple strings           # as given
    cdef readonly Py_ssize_t longest      # bytes of the longest one
    cdef int size                         # nodes of the trie; node 0 is the root
    cdef int[256] root                    # the root's children by byte; 0: none
    cdef unsigned char* label             # the byte on the edge into a node
    cdef int* child                       # a node's first child; 0: none
    cdef int* sibling                     # the next child of the same parent; 0: none
    cdef int* fail                        # node of the longest proper suffix that is in the trie
    cdef int* depth                       # bytes from the root to the node
    cdef int* hold                        # bytes of the longest suffix that may become the stop string that wins
    cdef int* match                       # node of the longest stop string that ends here; 0: none
    cdef int* index                       # of the stop string that is this very node

    cdef int find(self, int node, unsigned char byte) noexcept nogil
    cdef int step(self, int node, unsigned char byte) noexcept nogil
    cdef int _allocate(self, Py_ssize_t nodes) except -1
    cdef int _insert(self, bytes string, int index) except -1
    cdef list _link(self)
    cdef int _mark(self, bytes string) except -1


cdef class TextStream:
    cdef readonly Vocab vocab
    cdef StopMatcher stops
    cdef bint render_special
    cdef bint finished
    cdef int matched                      # index of the stop string that was found; -1: none
    cdef int node                         # of the stop automaton, after all of the buffer
    cdef bint matching                    # there are stop strings
    cdef int need                         # continuation bytes that the half character still lacks
    cdef unsigned char low, high          # what the next one of them may be
    cdef unsigned char[4] half            # an incomplete character
    cdef int half_size
    cdef unsigned char* buffer            # complete characters, not yet emitted
    cdef Py_ssize_t length, capacity

    cdef int _check_open(self) except -1
    cdef void feed_token(self, int token) noexcept nogil
    cdef void feed(self, const unsigned char* data, Py_ssize_t size) noexcept nogil
    cdef void end(self) noexcept nogil
    cdef str take(self)
    cdef void _decode(self, unsigned char byte) noexcept nogil
    cdef void _begin_character(self, unsigned char byte) noexcept nogil
    cdef void _append(self, const unsigned char* data, Py_ssize_t size) noexcept nogil
    cdef void _append_replacement(self) noexcept nogil
    cdef int _reserve(self, Py_ssize_t size) except -1
