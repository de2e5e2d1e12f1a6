"""The multiplication of Q4_1 weights, which llama.cpp unpacks again for each token of a step.

ggml has copies in a better layout (``use_extra_bufts``), or tiles, for other kinds of weights; of these it computes a
dot product for each row and each column. Ours takes up to eight columns at once. It stands in the table by which the
library calls its own multiplication; what is of another kind goes on to that. Its results are those of ggml's own dot
product, bit for bit, or it stays out.
"""

import ctypes
import sys

from libc.stdint cimport uint64_t, uintptr_t

from llama_cpp import llama_cpp as _library

F32 = 0  # ggml's numbers of the kinds, as are those that follow
Q4_1 = 3
Q8_1 = 9
NAMES = (
    "ggml_compute_forward_mul_mat",
    "ggml_barrier",
    "ggml_threadpool_chunk_set",
    "ggml_threadpool_chunk_add",
)

TRIED_WITH = ("ggml_init", "ggml_free", "ggml_new_tensor_2d", "ggml_get_data", "ggml_mul_mat")

cdef extern from "dots_kernels.h":
    bint jf_reads_q4_1(const void *product, const void *x, const void *y, const void *data)
    bint jf_install_q4_1(void *mul_mat, void *dot, void *quantize, void *barrier, void *chunk_set, void *chunk_add)
    uint64_t jf_used()

ctypedef struct Traits:  # ggml_type_traits_cpu
    void *from_float
    void *dot
    int dot_type


_installed = None


def install():
    """Puts the kernel in, once in a process, before anything is computed. False: llama.cpp's own stays."""
    global _installed
    if _installed is None:
        _installed = sys.platform == "linux" and _install()
    return _installed


def used():
    """How many matrices were multiplied by it so far."""
    return jf_used()


def _install():
    cdef uintptr_t weights = traits(Q4_1), columns = traits(Q8_1), mul_mat, barrier, chunk_set, chunk_add
    mul_mat, barrier, chunk_set, chunk_add = [address_of(name) for name in NAMES]
    if not (weights and columns and mul_mat and barrier and chunk_set and chunk_add):
        return False
    if (<Traits *>weights).dot_type != Q8_1 or not _reads():
        return False
    return jf_install_q4_1(
        <void *>mul_mat,
        (<Traits *>weights).dot,
        (<Traits *>columns).from_float,
        <void *>barrier,
        <void *>chunk_set,
        <void *>chunk_add,
    )


class Params(ctypes.Structure):
    """ggml_init_params"""

    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


def function(name, result, *arguments):
    """One of the library's functions, to be called from Python. Raises AttributeError where it shows none such."""
    found = _library._lib[name]  # an object of its own: the bindings' stays as it is
    found.restype, found.argtypes = result, arguments
    return found


def _reads():
    """Whether the kernel reads a tensor as this library has laid it out."""
    cdef uintptr_t x, y, data, product
    if not all(map(address_of, TRIED_WITH)):
        return False
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    context = function("ggml_init", pointer, Params)(Params(1 << 16, None, False))
    if not context:
        return False
    try:
        new = function("ggml_new_tensor_2d", pointer, pointer, ctypes.c_int, number, number)
        x, y = new(context, Q4_1, 64, 3), new(context, F32, 64, 5)
        data = function("ggml_get_data", pointer, pointer)(x)
        product = function("ggml_mul_mat", pointer, pointer, pointer, pointer)(context, x, y)
        return jf_reads_q4_1(<const void *>product, <const void *>x, <const void *>y, <const void *>data)
    finally:
        function("ggml_free", None, pointer)(context)


def address_of(name):
    """The address of one of the library's functions; 0 where it shows none of the name."""
    function = getattr(_library._lib, name, None)
    return 0 if function is None else ctypes.cast(function, ctypes.c_void_p).value


def traits(kind):
    """The address of a kind's entry in ggml's table (``ggml_type_traits_cpu``); 0 where the library shows none."""
    address = address_of("ggml_get_type_traits_cpu")
    if not address:
        return 0
    _library._lib.ggml_cpu_init()  # its kernels look half floats up in a table
    return ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int)(address)(kind) or 0
