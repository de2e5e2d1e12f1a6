"""All that an engine process is told at its birth."""

from __future__ import annotations

from dataclasses import dataclass

from janflask.models.engine_settings import EngineSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """All that an engine process is told: which model, where to listen, how to run, where to remember measurements."""

    model_id: str
    model_path: str
    socket_path: str
    cache_dir: str  # measured knobs are remembered here
    settings: EngineSettings
    kv_bytes: int | None = None  # what the KV cache takes, as admission counts it; None: nothing is known of it
    snapshot_bytes: int = 0  # of conversations' KV states on disk, in cache_dir; 0: none are kept
    state_bytes: int = 0  # of KV states in the engine's memory beside those of its slots; 0: none
    prompt_template: str | None = None  # a layout of conversations that takes the place of the file's own
