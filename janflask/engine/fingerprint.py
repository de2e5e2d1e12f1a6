"""What a KV state depends on: under another fingerprint it is of no use."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from janflask.engine.backend import LLAMA_VERSION, ContextOptions
from janflask.engine.gguf_files import model_parts
from janflask.types import EngineSettings

_CONTEXT = (
    *("ctx_len", "n_seq", "kv_cells", "flash_attn", "kv_unified", "cache_type_k", "cache_type_v"),
    *("rope_freq_base", "rope_freq_scale", "rope_scaling"),
)
_MODEL = ("ngl", "use_extra_bufts", "lora", "lora_scale")


def fingerprint(path: Path, settings: EngineSettings, options: ContextOptions) -> str:
    """Of the library, the model's files as they are now, and the settings that numbers depend on. Raises OSError."""
    files = [*model_parts(path), *([Path(settings.lora)] if settings.lora else [])]
    facts = {
        "llama": LLAMA_VERSION,
        "files": [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files],
        "context": {name: asdict(options)[name] for name in _CONTEXT},
        "model": {name: getattr(settings, name) for name in _MODEL},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
