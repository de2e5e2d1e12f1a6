"""The multiplication of Q4_1 weights as llama.cpp computes it with ours in place, against its own dot product."""

from __future__ import annotations

import ctypes
import platform
import random
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_cpp import llama_cpp as library

from janflask_ext import dots
from tests.ext.other_library import printed
from tools.compiler import cpu_flags

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64" or not {"avx2", "fma", "f16c"}.issubset(cpu_flags()),
    reason="the kernel is for x86-64 with AVX2, FMA and F16C, on Linux",
)

BLOCK, F32, Q8_1_BLOCK = 32, 0, 36
POINTER, LONG = ctypes.c_void_p, ctypes.c_int64
DOT = ctypes.CFUNCTYPE(
    None, ctypes.c_int, POINTER, ctypes.c_size_t, POINTER, ctypes.c_size_t, POINTER, ctypes.c_size_t, ctypes.c_int
)
QUANTIZE = ctypes.CFUNCTYPE(None, POINTER, POINTER, LONG)


class Traits(ctypes.Structure):
    """ggml_type_traits_cpu"""

    _fields_ = (("from_float", POINTER), ("dot", POINTER))


class InitParams(ctypes.Structure):
    """ggml_init_params"""

    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", POINTER), ("no_alloc", ctypes.c_bool))


def ggml(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function of the library that llama-cpp-python has loaded."""
    return ctypes.CFUNCTYPE(result, *arguments)(ctypes.cast(getattr(library._lib, name), POINTER).value or 0)


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    assert dots.install(), "llama.cpp's own stayed, though this processor can have ours"


@pytest.fixture
def memory() -> Iterator[int]:
    context = ggml("ggml_init", POINTER, InitParams)(InitParams(64 << 20, None, False))
    yield context
    ggml("ggml_free", None, POINTER)(context)


def weights(rng: random.Random, blocks: int) -> bytes:
    """A row: scale, least, and four bits each."""
    return b"".join(struct.pack("<ee", rng.gauss(0, 1), rng.gauss(0, 1)) + rng.randbytes(16) for _ in range(blocks))


def product(memory: int, kind: int, rows: list[bytes], columns: list[bytes], threads: int) -> bytes:
    """What ggml computes, a column of floats after the other."""
    new = ggml("ggml_new_tensor_2d", POINTER, POINTER, ctypes.c_int, LONG, LONG)
    data = ggml("ggml_get_data", POINTER, POINTER)
    width = len(columns[0]) // 4
    x, y = new(memory, kind, width, len(rows)), new(memory, F32, width, len(columns))
    ctypes.memmove(data(x), b"".join(rows), sum(map(len, rows)))
    ctypes.memmove(data(y), b"".join(columns), sum(map(len, columns)))
    out = ggml("ggml_mul_mat", POINTER, POINTER, POINTER, POINTER)(memory, x, y)
    graph = ggml("ggml_new_graph", POINTER, POINTER)(memory)
    ggml("ggml_build_forward_expand", None, POINTER, POINTER)(graph, out)
    done = ggml("ggml_graph_compute_with_ctx", ctypes.c_int, POINTER, POINTER, ctypes.c_int)(memory, graph, threads)
    assert done == 0
    return ctypes.string_at(data(out), 4 * len(rows) * len(columns))


def one_by_one(rows: list[bytes], columns: list[bytes]) -> bytes:
    """The same by ggml's dot product."""
    quantize = QUANTIZE(Traits.from_address(dots.traits(dots.Q8_1)).from_float)
    dot = DOT(Traits.from_address(dots.traits(dots.Q4_1)).dot)
    width = len(columns[0]) // 4
    out = b""
    for column in columns:
        quantized = ctypes.create_string_buffer(width // BLOCK * Q8_1_BLOCK)
        quantize(column, ctypes.addressof(quantized), width)
        for row in rows:
            result = ctypes.c_float()
            dot(width, ctypes.addressof(result), 0, row, 0, ctypes.addressof(quantized), 0, 1)
            out += bytes(result)
    return out


@pytest.mark.parametrize("columns", [*range(1, 18), 63, 64, 65, 130])
@pytest.mark.parametrize(("rows", "blocks", "threads"), [(8, 2, 1), (70, 3, 2), (5, 18, 3), (192, 1, 4)])
def test_the_same_bits_as_a_dot_product_each(memory: int, rows: int, blocks: int, threads: int, columns: int) -> None:
    rng = random.Random(rows * 1000 + columns)
    x = [weights(rng, blocks) for _ in range(rows)]
    y = [struct.pack(f"<{blocks * BLOCK}f", *(rng.gauss(0, 1) for _ in range(blocks * BLOCK))) for _ in range(columns)]
    before = dots.used()
    assert product(memory, dots.Q4_1, x, y, threads) == one_by_one(x, y)
    assert dots.used() == before + 1


def test_what_is_of_another_kind_goes_on_to_ggml(memory: int) -> None:
    columns = [struct.pack("<32f", *range(32)), struct.pack("<32f", *([1.0] * 32))]
    before = dots.used()
    (a, b, c, d) = struct.unpack("<4f", product(memory, F32, columns, columns, 1))
    assert (a, b, c, d) == (sum(i * i for i in range(32)), sum(range(32)), sum(range(32)), 32)
    assert dots.used() == before


def test_a_library_that_multiplies_by_something_else_keeps_its_own() -> None:
    code = "from janflask_ext import dots; dots.Q8_1 = 0; print(dots.install(), dots.used())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "0"]


@pytest.mark.parametrize("instead", ["", "ggml_get_name"], ids=["missing", "elsewhere"])
def test_a_library_whose_tensors_are_laid_out_differently_keeps_its_own(instead: str) -> None:
    code = "from janflask_ext import dots; print(dots.install(), dots.used())"
    assert printed(code, "ggml_get_data", instead) == "False 0"
