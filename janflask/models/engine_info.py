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
    source: str  # "guessed", "measured", "remembered" (from an earlier start), "pinned" (by the user), "fixed"
    measurements: dict[str, float] = field(default_factory=dict)  # what decided: name -> milliseconds
    sure: float = 1.0  # which part of what is to be measured is known for sure


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
    can_share_prefix: bool  # at any token; false: recurrent or sliding-window memory, at checkpoints only
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
    stalled_seconds: float = 0.0  # since its loop came round, while there is work; 0 while there is none
    longest_step_seconds: float = 0.0  # that the step under way may take without being a hang
    kv_busy: int = 0  # of the cells in use, those of sequences being computed
    asked_tokens: int = 0  # of all prompts, computed or cached; since start
    looked_up_tokens: int = 0  # of them, those that were looked for in the prefix cache; since start
    forced_tokens: int = 0  # of those generated: not drawn, since nothing else could come; since start
    kv_bytes: int | None = None  # of the KV cache, what is in RAM now; None where that cannot be told
    drafted_tokens: int = 0  # guessed ahead, and computed; since start
    accepted_tokens: int = 0  # of those drafted: they came true; since start
    mask_seconds: float = 0.0  # that everybody's answers were held up by constraints, since start
    states_restored: int = 0  # KV states and checkpoints that were taken up instead of computing, since start
    states_refused: int = 0  # ... that llama.cpp did not take or hand out: their tokens were computed; since start


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAnswer:
    """An answer that an engine owes somebody, as it is at one moment: each choice of a request is one."""

    request_id: str | None  # of who asks for it
    conversation: str | None  # which one it goes on with
    state: str  # "waiting" for a place, in its "prompt", "answering"
    age_seconds: float
    prompt_tokens: int
    cached_tokens: int  # of the prompt, those taken from the prefix cache
    computed_tokens: int  # of the prompt, those computed so far
    answer_tokens: int
    tokens_per_second: float  # since its first token
