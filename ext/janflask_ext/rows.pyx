"""Rows computed to the same bits alone and among others: hooks into ggml's library for CPUs.

What ggml calls goes through a table of its library; ours are put there (``rows_kernels.h`` has which). The originals
are called for all that is not to be alike, and nothing changes before ``set_mode``. A self-test at ``install`` runs
products and attention through the loaded library: other layouts of its structures, other signatures, a compiler that
left the table out, or bits that still differ, and nothing is put there, or what was is never used.
"""

import ctypes
import threading

from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from llama_cpp import llama_cpp as _library

from . import dots


cdef extern from "rows_kernels.h":
    cdef enum:
        JF_AS_IT_IS, JF_FEW_ALIKE, JF_ALL_ALIKE, JF_MANY
        JF_F32, JF_F16, JF_Q5_0, JF_Q8_0

    ctypedef void (*jf_vec_dot)(
        int n, float *s, size_t bs, const void *x, size_t bx, const void *y, size_t by, int nrc) noexcept

    ctypedef struct jf_seen:
        int64_t products, declined, own, passed_on
        int64_t m, n, k
        int64_t attentions, rows
        int ith, nth
        bint use_ref

    const char *jf_rows_install(const void *inside)
    bint jf_rows_take(int type, jf_vec_dot dot)
    void jf_rows_set(int mode)
    int jf_rows_mode()
    void jf_rows_watch(jf_seen *seen)


AS_IT_IS = JF_AS_IT_IS
FEW_ALIKE = JF_FEW_ALIKE
ALL_ALIKE = JF_ALL_ALIKE
MANY = JF_MANY

KERNELS = (JF_F16, JF_Q8_0, JF_Q5_0)
SOME = 5  # rows of the self-test that are few
CELLS, HEADS, WIDTH, OUT = 600, 2, 128, 24  # enough cells for ggml to compute a row of attention in pieces

_lock = threading.Lock()
_installed = None  # what keeps it from being used: a text, "" if nothing does


def install():
    """Puts the hooks in, once in a process, and tries them. Returns what keeps them from being used, or None."""
    global _installed
    with _lock:
        if _installed is None:
            _installed = _install() or ""
    return _installed or None


def set_mode(int mode):
    """``AS_IT_IS``, ``FEW_ALIKE`` (steps of less than ``MANY`` rows), ``ALL_ALIKE``: for the whole process.

    Only while nothing is computed; without effect where ``install`` says why not. Returns the mode as it is now. For
    ``AS_IT_IS`` nothing is installed: it is for those who have reason to fear the hooks.
    """
    if mode == AS_IT_IS or install() is None:
        jf_rows_set(mode)
    return jf_rows_mode()


def mode():
    """The mode as it is now."""
    return jf_rows_mode()


def _install():
    inside = dots.address_of("ggml_cpu_init")
    if not inside:
        return "the loaded llama.cpp has no CPU library"
    _library._lib.ggml_cpu_init()
    try:
        test = _Test()
    except AttributeError as error:
        return f"the loaded llama.cpp cannot be tried: {error}"
    failure = jf_rows_install(<const void *><uintptr_t>inside)
    if failure != NULL:
        return failure.decode()
    for kind in KERNELS:
        if dots.traits(kind):
            jf_rows_take(kind, dot_of(kind))
    try:
        return test.run()
    finally:
        jf_rows_watch(NULL)
        jf_rows_set(JF_AS_IT_IS)


cdef jf_vec_dot dot_of(int kind):
    """ggml's own dot product of a type: the second entry of its line in ``ggml_type_traits_cpu``."""
    return (<jf_vec_dot *><uintptr_t>dots.traits(kind))[1]


# --- the self-test --------------------------------------------------------------------------------------------------


class _Test:
    """Products and attention of one row, of some, and of many, with one thread."""

    def __init__(self):
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self.init = dots.function("ggml_init", pointer, dots.Params)
        self.free = dots.function("ggml_free", None, pointer)
        self.tensor = dots.function("ggml_new_tensor_4d", pointer, pointer, ctypes.c_int, *([number] * 4))
        self.data = dots.function("ggml_get_data", pointer, pointer)
        self.bytes = dots.function("ggml_nbytes", ctypes.c_size_t, pointer)
        self.product = dots.function("ggml_mul_mat", pointer, pointer, pointer, pointer)
        self.attention = dots.function(
            "ggml_flash_attn_ext", pointer, pointer, pointer, pointer, pointer, pointer, *([ctypes.c_float] * 3))
        self.graph = dots.function("ggml_new_graph", pointer, pointer)
        self.expand = dots.function("ggml_build_forward_expand", None, pointer, pointer)
        self.backend = dots.function("ggml_backend_cpu_init", pointer)
        self.threads = dots.function("ggml_backend_cpu_set_n_threads", None, pointer, ctypes.c_int)
        self.use_ref = dots.function("ggml_backend_cpu_set_use_ref", None, pointer, ctypes.c_bool)
        self.compute = dots.function("ggml_backend_graph_compute", ctypes.c_int, pointer, pointer)
        self.close = dots.function("ggml_backend_free", None, pointer)

    def run(self):
        """What is not as expected."""
        cpu = self.backend()
        if not cpu:
            return "ggml made no backend"
        self.cpu = cpu
        try:
            self.threads(cpu, 1)
            return self.try_products() or self.try_attention()
        finally:
            self.close(cpu)

    def try_products(self):
        cdef jf_seen seen
        memset(&seen, 0, sizeof(seen))
        jf_rows_watch(&seen)
        many = self.rows_of(self.one_product, JF_MANY, JF_FEW_ALIKE)
        if seen.products == 0 or (seen.m, seen.n, seen.k) != (OUT, JF_MANY, WIDTH):
            return "ggml multiplies otherwise"
        if many is None or seen.passed_on != seen.products:
            return "many rows are not multiplied by ggml's own code"
        for mode in (JF_FEW_ALIKE, JF_ALL_ALIKE):
            alone = [self.rows_of(self.one_product, 1, mode, row)[0] for row in range(SOME)]
            memset(&seen, 0, sizeof(seen))
            some = self.rows_of(self.one_product, SOME, mode)
            if (mode == JF_ALL_ALIKE or seen.own) and some != alone:
                return "a product's bits depend on the number of rows"
        return None

    def try_attention(self):
        cdef jf_seen seen
        for plain in (False, True):
            self.use_ref(self.cpu, plain)
            memset(&seen, 0, sizeof(seen))
            jf_rows_watch(&seen)
            alone = [self.rows_of(self.one_attention, 1, JF_FEW_ALIKE, row)[0] for row in range(SOME)]
            some = self.rows_of(self.one_attention, SOME, JF_FEW_ALIKE)
            if seen.attentions != SOME + 1 or (seen.rows, seen.ith, seen.nth) != (SOME, 0, 1) or seen.use_ref != plain:
                return "ggml computes attention otherwise"
            if some != alone:
                return "attention's bits depend on the number of rows"
        many = self.rows_of(self.one_attention, 64, JF_ALL_ALIKE)
        return None if many[:SOME] == alone else "attention's bits depend on the number of rows"

    def rows_of(self, make, rows, mode, first=0):
        """The bytes of each row's result, of ``rows`` from the ``first`` on."""
        jf_rows_set(mode)
        context = self.init(dots.Params(16 << 20, None, False))
        if not context:
            raise MemoryError
        try:
            result, per_row = make(context, rows, first)
            graph = self.graph(context)
            self.expand(graph, result)
            if self.compute(self.cpu, graph) != 0:
                return None
            whole = ctypes.string_at(self.data(result), self.bytes(result))
            return [whole[row * per_row : (row + 1) * per_row] for row in range(rows)]
        finally:
            self.free(context)

    def one_product(self, context, rows, first):
        weights = self.filled(context, JF_F16, (WIDTH, OUT, 1, 1))
        inputs = self.filled(context, JF_F32, (WIDTH, rows, 1, 1), first * WIDTH)
        return self.product(context, weights, inputs), 4 * OUT

    def one_attention(self, context, rows, first):
        width = WIDTH // HEADS
        queries = self.filled(context, JF_F32, (width, rows, 1, 1), first * width)
        keys, values = (self.filled(context, JF_F16, (width, CELLS, 1, 1), seed) for seed in (3, 5))
        return self.attention(context, queries, keys, values, None, 0.125, 0.0, 0.0), 4 * width

    def filled(self, context, kind, shape, first=0):
        """A tensor of numbers between -1 and 1, those of a row the same wherever it stands."""
        tensor = self.tensor(context, kind, *shape)
        count = shape[0] * shape[1]
        fill(<uintptr_t>self.data(tensor), kind, count, first)
        return tensor


cdef void fill(uintptr_t address, int kind, int64_t count, int64_t first):
    cdef float *floats = <float *>address
    cdef unsigned short *halves = <unsigned short *>address
    cdef int64_t i, number
    for i in range(count):
        number = ((first + i) * 7919 + ((first + i) * (first + i)) % 1237) % 2048
        if kind == JF_F32:
            floats[i] = number / 1024.0 - 1.0
        else:
            halves[i] = <unsigned short>(0x2800 + number * 2 + ((number & 1) << 15))  # up to 0.5 in size
