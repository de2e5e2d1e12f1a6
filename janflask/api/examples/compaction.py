"""Examples of compactions for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from janflask.api.examples.inference import CREATED, MODEL_ID
from janflask.api.examples.responses import SAID

REQUEST: dict[str, Any] = {
    "model": MODEL_ID,
    "input": [
        {"role": "user", "content": "Why is the sky blue?"},
        {"role": "assistant", "content": "The air scatters blue light the most."},
    ],
}
COMPACTION: dict[str, Any] = {
    "id": "resp_01hf7yat00n3x8k2d5v7w9c4bm",
    "object": "response.compaction",
    "created_at": CREATED,
    "output": [
        SAID,
        {"id": "cmp_01hf7yat00k7r2s5v9a3z6h8jp", "type": "compaction", "encrypted_content": "jf1.kX3v..."},
    ],
    "usage": {
        "input_tokens": 160,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 24,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 184,
    },
}
