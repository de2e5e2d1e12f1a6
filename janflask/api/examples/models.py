"""Examples of models for the OpenAPI document, as in ``examples``."""

from __future__ import annotations

import json
from typing import Any

from janflask.api.examples.inference import CREATED, MODEL_ID

_LISTED_MODEL: dict[str, Any] = {
    "id": MODEL_ID,
    "folder": MODEL_ID,
    "object": "model",
    "type": "model",
    "name": "SmolLM2 135M Instruct",
    "version": "1.0",
    "description": "A small model for a first try.",
    "created": CREATED,
    "owned_by": "HuggingFaceTB",
    "source_url": None,
    "format": "gguf",
    "state": "ready",
    "status": "running",
    "error": None,
    "notes": [],
    "settings": {"ctx_len": 4096},
    "parameters": {"temperature": 0.7},
    "metadata": {"author": "HuggingFaceTB", "size": 98362432, "tags": ["instruct"]},
    "assets": [],
    "engine": "janflask",
    "upstream": None,
    "download": None,
}
MODEL_LIST = {"object": "list", "data": [_LISTED_MODEL]}
MODEL = {
    **_LISTED_MODEL,
    "state": "running",
    "metadata": {
        **_LISTED_MODEL["metadata"],
        "description": "llama 135M Q4_1",
        "architecture": "llama",
        "parameter_count": 134515008,
        "context_length": 8192,
        "vocabulary_size": 49152,
        "gguf": {"general.name": "Smollm2 135M 8k Lc100K Mix1 Ep2"},
    },
    "runtime": {
        "ctx_len": 4096,
        "n_parallel": 8,
        "kv_cells": 32768,
        "prefix_sharing": True,
        "use_extra_bufts": True,
        "knobs": {
            "flash_attn": False,
            "kv_unified": False,
            "slice_size": 64,
            "cpu_threads": 2,
            "source": "measured",
            "measurements": {"flash_attn=0: decode 1, shallow": 7.1, "flash_attn=1: decode 1, shallow": 9.4},
            "sure": 1.0,
        },
        "load_seconds": 0.4,
        "memory_bytes": 482_344_960,
        "used_bytes": 171_966_464,
        "embedding_width": None,
        "pid": 4242,
        "started_at": CREATED,
        "restarts": 0,
        "llama_version": "0.3.36",
    },
    "stats": {
        "slots": 8,
        "busy": 1,
        "waiting": 0,
        "kv_cells": 32768,
        "kv_used": 412,
        "kv_bytes": 29_360_128,
        "requests": 17,
        "prompt_tokens": 1290,
        "cached_tokens": 840,
        "generated_tokens": 2140,
        "preempted": 0,
        "cancelled": 1,
        "steps": 2201,
        "idle_seconds": 0.0,
        "kv_busy": 96,
        "asked_tokens": 1024,
        "looked_up_tokens": 1024,
        "stalled_seconds": 0.004,
        "longest_step_seconds": 0.6,
        "forced_tokens": 0,
        "drafted_tokens": 96,
        "accepted_tokens": 71,
        "mask_seconds": 0.0,
        "states_restored": 3,
        "states_refused": 0,
    },
}
START_SETTINGS = {"ctx_len": 4096, "n_parallel": 4}
MODEL_RUNNING = {"id": MODEL_ID, "object": "model", "state": "running"}
MODEL_STOPPED = {"id": MODEL_ID, "object": "model", "state": "stopped"}

NEW_MODEL: dict[str, Any] = {
    "source_url": "hf:bartowski/SmolLM2-360M-Instruct-GGUF:Q4_K_M",
    "id": "smollm2-360m-instruct",
    "settings": {"ctx_len": 4096},
    "parameters": {"temperature": 0.7},
}
MODEL_DOWNLOADING = {"id": "smollm2-360m-instruct", "object": "model", "state": "downloading"}
MODEL_CHANGES: dict[str, Any] = {"description": "For a first try.", "settings": {"ctx_len": "2048", "ngl": None}}
MODEL_DELETED = {"id": MODEL_ID, "object": "model", "deleted": True}


def _event(status: str, transferred: int, bytes_per_second: float, eta_seconds: float | None) -> str:
    total = 270_590_880
    download = {
        "stage": "downloading",
        "transferred": transferred,
        "total": total,
        "percent": round(100.0 * transferred / total, 1),
        "bytes_per_second": bytes_per_second,
        "eta_seconds": eta_seconds,
        "error": None,
    }
    event = {
        "id": "smollm2-360m-instruct",
        "object": "model",
        "state": status,
        "status": status,
        "error": None,
        "download": download if status == "downloading" else None,
    }
    return f"data: {json.dumps(event)}\n\n"


MODEL_EVENTS = (
    _event("downloading", 0, 0.0, None)
    + _event("downloading", 131_072_000, 52_428_800.0, 2.7)
    + _event("downloaded", 270_590_880, 0.0, None)
)
