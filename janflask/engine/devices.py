"""What memory llama.cpp's GPUs have: ``python -m janflask.engine.devices`` prints it as JSON.

A process of its own, so that the supervisor never loads llama.cpp. The functions are ggml's; llama-cpp-python has no
names for them.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

from llama_cpp import llama_cpp as lib

GPU = 1  # GGML_BACKEND_DEVICE_TYPE_GPU


def gpus(ggml: Any) -> list[dict[str, Any]]:
    """Name, kind and bytes of each GPU that ``ggml``, the loaded library, can use."""
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    ggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    ggml.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    ggml.ggml_backend_dev_name.argtypes = [ctypes.c_void_p]
    ggml.ggml_backend_dev_name.restype = ctypes.c_char_p
    ggml.ggml_backend_dev_description.argtypes = [ctypes.c_void_p]
    ggml.ggml_backend_dev_description.restype = ctypes.c_char_p
    ggml.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, *[ctypes.POINTER(ctypes.c_size_t)] * 2]
    ggml.ggml_backend_dev_memory.restype = None
    found = []
    for number in range(ggml.ggml_backend_dev_count()):
        device = ggml.ggml_backend_dev_get(number)
        if ggml.ggml_backend_dev_type(device) != GPU:
            continue
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        ggml.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        name = ggml.ggml_backend_dev_name(device).decode("utf-8", "replace")
        description = ggml.ggml_backend_dev_description(device).decode("utf-8", "replace")
        found.append({"name": name, "description": description, "free": free.value, "total": total.value})
    return found


def main() -> int:
    """Prints a list of objects with ``name``, ``description``, ``free`` and ``total``."""
    lib.llama_backend_init()
    json.dump(gpus(lib._lib), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
