"""KV memory that is resident only where it is used: contexts whose buffers are cleared by giving pages back.

llama.cpp writes zeros to all of a new KV cache, so that 8 x 8,192 tokens take 1.5 GB before the first one is computed.
While a context is made here, ggml's allocation of buffers in RAM is replaced by one whose buffers clear themselves by
``madvise(MADV_DONTNEED)`` (``pages_kernels.h`` has how), and the KV tensors' places are noted: a sequence's part can be
given back when it is given up. ``llama_memory_clear`` with ``data`` gives everything back.

The struct layouts are compared with what the loaded library does in a self-test at import. ``why_not`` says what is
wrong where it fails, or where the platform is not Linux; contexts are made as llama.cpp makes them then.
"""

import ctypes
import threading

from libc.stddef cimport ptrdiff_t, size_t
from libc.stdint cimport uint8_t, uintptr_t
from libc.stdlib cimport free
from libc.string cimport memset, strcmp

from . import dots


cdef extern from "pages_kernels.h" nogil:
    ctypedef struct jf_buffer_type:
        const char *(*get_name)(void *type) noexcept nogil
        jf_buffer *(*alloc_buffer)(void *type, size_t size) noexcept nogil
        size_t (*get_alignment)(void *type) noexcept nogil

    ctypedef struct jf_buffer:
        void (*free_buffer)()
        void *(*get_base)(jf_buffer *buffer) noexcept nogil
        int (*init_tensor)(jf_buffer *buffer, void *tensor) noexcept nogil
        void (*clear)(jf_buffer *buffer, uint8_t value) noexcept nogil
        jf_buffer_type *type
        void *context
        size_t size

    ctypedef struct jf_ggml:
        jf_buffer_type *(*cpu_buffer_type)() noexcept nogil
        const char *(*get_name)(const void *tensor) noexcept nogil
        void *(*get_data)(const void *tensor) noexcept nogil
        size_t (*nbytes)(const void *tensor) noexcept nogil

    ctypedef struct jf_note:
        char *name
        uintptr_t address
        size_t bytes

    ctypedef struct jf_notes:
        jf_note *items
        size_t count
        size_t buffers
        bint out_of_memory

    bint jf_pages_supported()
    uintptr_t jf_library_of(const void *address)
    void jf_pages_begin(const jf_ggml *ggml, jf_notes *notes)
    void jf_pages_end(const jf_ggml *ggml)
    size_t jf_pages_zero(void *address, size_t bytes)
    ptrdiff_t jf_pages_resident(const void *address, size_t bytes)


ctypedef jf_buffer *(*alloc_buffer_fn)(void *type, size_t size) noexcept nogil
ctypedef void (*buffer_fn)(jf_buffer *buffer) noexcept nogil
ctypedef void *(*base_fn)(jf_buffer *buffer) noexcept nogil
ctypedef size_t (*size_fn)(jf_buffer *buffer) noexcept nogil
ctypedef void (*clear_fn)(jf_buffer *buffer, uint8_t value) noexcept nogil

TEST_BYTES = (4 << 20) + 100  # of the self-test's buffer: a mapping of its own for malloc, and no whole number of pages

TAKEN = ("ggml_backend_cpu_buffer_type", "ggml_get_name", "ggml_get_data", "ggml_nbytes")
TRIED_WITH = (  # the self-test's
    "ggml_backend_buft_alloc_buffer",
    "ggml_backend_buffer_clear",
    "ggml_backend_buffer_free",
    "ggml_backend_buffer_get_base",
    "ggml_backend_buffer_get_size",
    "ggml_backend_tensor_alloc",
    "ggml_free",
    "ggml_init",
    "ggml_new_tensor_1d",
    "ggml_set_name",
    "ggml_tensor_overhead",
)

cdef jf_ggml ggml
_lock = threading.Lock()


# --- making contexts ----------------------------------------------------------------------------------------------


def lazily(make):
    """What ``make()`` returns, and ``(name, address, bytes)`` of each KV tensor that llama.cpp made in RAM meanwhile.

    A sequence's own part of a tensor follows it by the name of a view, in the order of the sequences. ``make`` has to
    call llama.cpp in this very thread. Where ``why_not`` says something: no tensors. Raises what ``make`` raises.
    """
    cdef jf_notes notes
    cdef size_t i
    if why_not is not None:
        return make(), []
    memset(&notes, 0, sizeof(notes))
    try:
        with _lock:
            jf_pages_begin(&ggml, &notes)
            try:
                made = make()
            finally:
                jf_pages_end(&ggml)
        if notes.out_of_memory:
            return made, []
        return made, [
            (notes.items[i].name.decode("utf-8", "replace"), notes.items[i].address, notes.items[i].bytes)
            for i in range(notes.count)
        ]
    finally:
        free(notes.items)


def zero(uintptr_t address, size_t bytes):
    """Makes this part of a KV tensor zero by giving its whole pages back. Returns the bytes that were given back."""
    cdef size_t given
    with nogil:
        given = jf_pages_zero(<void *>address, bytes)
    return given


def resident(uintptr_t address, size_t bytes):
    """Bytes of it that are in RAM now; pages that were only read count too. -1 where the system does not say."""
    cdef ptrdiff_t found
    with nogil:
        found = jf_pages_resident(<const void *>address, bytes)
    return found


# --- binding, and the self-test -------------------------------------------------------------------------------------


cdef uintptr_t address_of(str name) except? 0:
    return dots.address_of(name)


cdef str bind():
    """Takes the functions. Returns what is missing."""
    for name in (*TAKEN, *TRIED_WITH):
        if address_of(name) == 0:
            return f"the loaded llama.cpp has no {name}"
    ggml.cpu_buffer_type = <jf_buffer_type *(*)() noexcept nogil>address_of("ggml_backend_cpu_buffer_type")
    ggml.get_name = <const char *(*)(const void *) noexcept nogil>address_of("ggml_get_name")
    ggml.get_data = <void *(*)(const void *) noexcept nogil>address_of("ggml_get_data")
    ggml.nbytes = <size_t (*)(const void *) noexcept nogil>address_of("ggml_nbytes")
    return None


cdef str try_it():
    """Runs a buffer through it all. Returns what is not as expected; only what is seen to be ggml's is called."""
    cdef jf_buffer_type *type = ggml.cpu_buffer_type()
    cdef uintptr_t home = jf_library_of(<const void *>address_of("ggml_backend_cpu_buffer_type"))
    cdef jf_notes notes
    cdef jf_buffer *buffer
    if home == 0 or jf_library_of(<const void *>type) != home:
        return "the CPU's buffer type does not lie in ggml's library"
    for pointer in (<uintptr_t>type.get_name, <uintptr_t>type.alloc_buffer, <uintptr_t>type.get_alignment):
        if jf_library_of(<const void *><uintptr_t>pointer) != home:
            return "the CPU's buffer type is laid out differently"
    if strcmp(type.get_name(type), b"CPU") != 0:
        return "the CPU's buffer type has another name"
    memset(&notes, 0, sizeof(notes))
    jf_pages_begin(&ggml, &notes)
    buffer = (<alloc_buffer_fn>address_of("ggml_backend_buft_alloc_buffer"))(type, TEST_BYTES)
    try:
        return "a buffer could not be made" if buffer == NULL else try_buffer(buffer, &notes)
    finally:
        jf_pages_end(&ggml)
        if buffer != NULL:
            (<buffer_fn>address_of("ggml_backend_buffer_free"))(buffer)
        free(notes.items)


cdef str try_buffer(jf_buffer *buffer, jf_notes *notes):
    """The self-test's buffer, which went through ``lazy_alloc``."""
    cdef char *start = <char *>(<base_fn>address_of("ggml_backend_buffer_get_base"))(buffer)
    cdef clear_fn clear = <clear_fn>address_of("ggml_backend_buffer_clear")
    cdef size_t size = (<size_fn>address_of("ggml_backend_buffer_get_size"))(buffer)
    cdef size_t i
    if notes.buffers != 1:
        return "ggml did not make its buffer through the buffer type"
    if size != <size_t>TEST_BYTES or buffer.size != size or buffer.context != <void *>start:
        return "a buffer is laid out differently"
    failure = try_tensor(<uintptr_t>buffer, <uintptr_t>start, notes)
    if failure is not None:
        return failure
    for value in (7, 0):
        clear(buffer, value)
        for i in range(size):
            if start[i] != value:
                return f"a buffer that was cleared with {value} holds something else"
    return None


cdef str try_tensor(uintptr_t buffer, uintptr_t start, jf_notes *notes):
    """A tensor that is placed in the buffer has to be noted, by its name and its place."""
    pointer = ctypes.c_void_p

    overhead = dots.function("ggml_tensor_overhead", ctypes.c_size_t)
    make = dots.function("ggml_new_tensor_1d", pointer, pointer, ctypes.c_int, ctypes.c_int64)
    call_it = dots.function("ggml_set_name", pointer, pointer, ctypes.c_char_p)
    place = dots.function("ggml_backend_tensor_alloc", ctypes.c_int, pointer, pointer, pointer)
    context = dots.function("ggml_init", pointer, dots.Params)(dots.Params(4 * overhead(), None, True))
    if not context:
        return "no tensor could be made"
    try:
        for name, offset in ((b"other", 0), (b"cache_k_l0", 4096)):
            tensor = make(context, 0, 1000)  # of floats
            call_it(tensor, name)
            place(buffer, tensor, start + offset)
    finally:
        dots.function("ggml_free", None, pointer)(context)
    if notes.count != 1 or notes.items[0].name != b"cache_k_l0":
        return "a KV tensor was not noted"
    if notes.items[0].address != start + 4096 or notes.items[0].bytes != 4000:
        return "a KV tensor was noted at the wrong place"
    return None


def _examine():
    """What keeps it from being used, or None."""
    if not jf_pages_supported():
        return "only on Linux"
    return bind() or try_it()


why_not = _examine()
