"""What an engine tells of itself: how it runs, and how busy it is."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """The settings that decide speed, as an engine runs with them."""

    flash_attn: bool
    kv_unified: bool
    slice_size: int
    cpu_threads: int
    source: str  # "measured", "remembered", "provisional" (on a busy machine), "pinned" (by the user), "fixed"
    measurements: dict[str, float] = field(default_factory=dict)  # what decided: name -> milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What an engine tells of itself and its model once it answers."""

    model_id: str
    model_path: str
    description: str  # llama.cpp's: "llama 135M Q4_1"
    architecture: str
    n_params: int
    size_bytes: int
    n_vocab: int
    ctx_train: int
    ctx_len: int
    n_parallel: int
    kv_cells: int
    chat_template: str | None
    bos_token: str
    eos_token: str
    add_bos: bool
    can_share_prefix: bool  # false: recurrent or sliding-window memory, prompts are computed again
    use_extra_bufts: bool
    knobs: Knobs
    load_seconds: float
    llama_version: str
    metadata: dict[str, str] = field(default_factory=dict)  # the GGUF's own short key/value pairs
    embedding_width: int | None = None  # of the vectors that it makes; None: it serves no embeddings
    knows_chatml: bool = False  # whether ChatML's words are tokens of its vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """An engine's load at one moment."""

    slots: int
    busy: int  # sequences being computed
    waiting: int  # requests in the queue
    kv_cells: int
    kv_used: int
    requests: int  # since start
    prompt_tokens: int  # computed since start
    cached_tokens: int  # taken from the prefix cache since start
    generated_tokens: int  # since start
    preempted: int  # sequences put back because KV ran short, since start
    cancelled: int  # since start
    steps: int  # llama_decode calls since start
    idle_seconds: float = 0.0  # since the last request ended; 0 while there is one
    forced_tokens: int = 0  # of those generated: not drawn, since nothing else could come; since start
    mask_seconds: float = 0.0  # that everybody's answers were held up by constraints, since start
