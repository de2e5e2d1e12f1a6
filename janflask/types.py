"""The frozen dataclasses that processes and layers hand to each other. Standard library only.

Below ``janflask/api`` nobody sees a raw request body: a marshmallow schema turns it into one of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class FinishReason(StrEnum):
    """Why a choice ended, in OpenAI's words."""

    STOP = "stop"  # end-of-generation token or a stop string
    LENGTH = "length"  # max_tokens reached, or the context is full
    ERROR = "error"  # only inside the engine; clients get an error object instead


class ModelStatus(StrEnum):
    """The whole state machine of a model; see ``docs/architecture.md``."""

    NOT_DOWNLOADED = "not_downloaded"
    DOWNLOADING = "downloading"
    DOWNLOADED = "downloaded"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How a token is chosen from logits; llama.cpp's names, order and meaning.

    The chain is: logit bias, penalties, DRY, top-n-sigma, top-k, typical, top-p, min-p, XTC, temperature, draw.
    ``temperature <= 0`` is greedy: it takes the likeliest token of those that the samplers before it left. Not so with
    ``dynatemp_range`` > 0: the temperature then lies between max(0, temperature - range) and temperature + range, the
    higher the less sure the model is. ``mirostat`` 1 or 2 replaces the truncating samplers, as in llama.cpp.
    """

    temperature: float = 0.8
    dynatemp_range: float = 0.0  # <= 0: off
    dynatemp_exponent: float = 1.0
    top_k: int = 40  # <= 0: off
    top_p: float = 0.95  # >= 1: off
    min_p: float = 0.05  # <= 0: off
    typical_p: float = 1.0  # >= 1: off
    top_n_sigma: float = -1.0  # <= 0: off
    xtc_probability: float = 0.0  # <= 0: off
    xtc_threshold: float = 0.1  # > 0.5: off
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64  # tokens the penalties look back on; -1: the whole context, 0: off
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    dry_multiplier: float = 0.0  # 0: off
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1  # -1: the whole context, 0: off
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    mirostat: int = 0  # 0, 1 or 2
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    seed: int | None = None  # None: a fresh one for every request
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token id, added to its logit)
    ignore_eos: bool = False  # end-of-generation tokens get -inf
    top_logprobs: int | None = None  # None: no log-probabilities; 0: the chosen token's only; N: and the N likeliest


# The least and the greatest value of each numeric field of SamplingParams, wherever it comes from.
SAMPLING_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "dynatemp_range": (0, 2),
    "dynatemp_exponent": (0, 100),
    "top_k": (-1, 1_000_000),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "top_n_sigma": (-1, 100),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
    "repeat_penalty": (0.01, 10),
    "repeat_last_n": (-1, 1 << 24),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "dry_multiplier": (0, 100),
    "dry_base": (1, 100),
    "dry_allowed_length": (0, 1 << 24),
    "dry_penalty_last_n": (-1, 1 << 24),
    "mirostat": (0, 2),
    "mirostat_tau": (0, 100),
    "mirostat_eta": (0, 1),
    "seed": (-(1 << 63), (1 << 64) - 1),
    "top_logprobs": (0, 20),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """One generation: a prompt, and ``n`` continuations of it.

    ``prompt`` is text, or token ids that are taken as they are. ``add_special`` lets the tokenizer add BOS where the
    model wants one; ``parse_special`` turns text like ``<|im_end|>`` into its control token (true for a rendered chat
    template, false for a user's plain text).
    """

    prompt: str | tuple[int, ...]
    n: int = 1
    max_tokens: int | None = None  # None: until the context is full
    stop: tuple[str, ...] = ()
    sampling: SamplingParams = field(default_factory=SamplingParams)
    add_special: bool = True
    parse_special: bool = True
    cache_prompt: bool = True  # false: compute the whole prompt, use no cached prefix
    conversation: str | None = None  # whose prompt it is: its KV state is kept on disk, and looked for there
    echo: bool = False  # the prompt comes before its answer, with log-probabilities where ``sampling`` asks for them


@dataclass(frozen=True, slots=True)
class TopLogprob:
    """One candidate at one position: its text (with U+FFFD for a broken character), its bytes, its log-probability."""

    token: str
    raw: bytes
    logprob: float
    id: int


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The chosen token at one position, and the likeliest candidates there.

    Log-probabilities are natural logarithms of the softmax over the model's own logits, before any sampler. ``width``
    is how many characters of the text it stands for; None: those that its bytes complete.
    """

    token: str
    raw: bytes
    logprob: float | None  # None: a prompt's first token, which nothing predicts
    id: int
    top: tuple[TopLogprob, ...] = ()
    width: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one generation; ``completion_tokens`` counts all its choices."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int  # of the prompt, taken from the prefix cache

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Where a generation's time went. Milliseconds; ``prompt_n`` counts computed (not cached) prompt tokens."""

    cache_n: int
    prompt_n: int
    prompt_ms: float
    predicted_n: int
    predicted_ms: float
    queue_ms: float

    @property
    def prompt_per_second(self) -> float:
        return 1000.0 * self.prompt_n / self.prompt_ms if self.prompt_ms > 0 else 0.0

    @property
    def predicted_per_second(self) -> float:
        return 1000.0 * self.predicted_n / self.predicted_ms if self.predicted_ms > 0 else 0.0


@dataclass(frozen=True, slots=True)
class CacheType:
    """How the KV cache keeps its values."""

    ggml_type: int  # llama.cpp's number for it
    value_bytes: float  # of one value


CACHE_TYPES: Mapping[str, CacheType] = {
    "f32": CacheType(0, 4),
    "f16": CacheType(1, 2),
    "bf16": CacheType(30, 2),
    "q8_0": CacheType(8, 34 / 32),
    "q5_1": CacheType(7, 24 / 32),
    "q5_0": CacheType(6, 22 / 32),
    "q4_1": CacheType(3, 20 / 32),
    "q4_0": CacheType(2, 18 / 32),
    "iq4_nl": CacheType(20, 18 / 32),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What one engine is started with. None means: measured, or derived from model and machine, at start."""

    ctx_len: int | None = None  # tokens of one conversation; None: min(8192, trained for)
    n_parallel: int | None = None  # sequences generated at once; None: 8, fewer if memory says so
    cpu_threads: int | None = None  # None: measured, at most the physical cores
    ngl: int = -1  # layers on the GPU; -1: all that a GPU build can take
    flash_attn: bool | None = None  # None: measured
    kv_unified: bool | None = None  # None: measured
    slice_size: int | None = None  # prompt tokens of a step that also generates; None: measured
    kv_cells: int | None = None  # tokens in the KV cache over all sequences; None: n_parallel * ctx_len
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    mmap: bool = True  # weights stay in the page cache, shared with whoever reads the file
    mlock: bool = False  # weights are kept from being swapped out
    rope_freq_base: float | None = None  # None: the file's
    rope_freq_scale: float | None = None  # None: the file's
    rope_scaling: str | None = None  # none, linear, yarn; None: the file's
    lora: str | None = None  # path of an adapter's GGUF; a relative one counts from the model's folder
    lora_scale: float = 1.0
    mmproj: str | None = None  # path of a multimodal projector's GGUF, as ``lora``; images are not served yet
    embedding: bool | None = None  # serve embeddings, beside text if the file can; None: what it is made for
    prefix_cache: bool = True
    queue_limit: int = 64  # requests that may wait for a slot
    use_extra_bufts: bool = True  # llama.cpp's repacked CPU weights (AMX and others)
    start_timeout: float = 600.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """All that an engine process is told: which model, where to listen, how to run, where to remember measurements."""

    model_id: str
    model_path: str
    socket_path: str
    cache_dir: str  # measured knobs are remembered here
    settings: EngineSettings
    kv_limit: int | None = None  # bytes that the KV cache may take; None: what is free
    snapshot_bytes: int = 0  # of conversations' KV states on disk, in cache_dir; 0: none are kept
    prompt_template: str | None = None  # a layout of conversations that takes the place of the file's own


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
    generates: bool = True  # false: an embedding model, that serves no text
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


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadRequest:
    """A model to be fetched. ``source`` is an http(s) URL, ``hf:org/repo/file.gguf`` or ``hf:org/repo:Q4_K_M``.

    Everything was checked by who made it, but for the source itself.
    """

    source: str
    model_id: str | None = None  # None: from the source's own name
    name: str | None = None
    sha256: str | None = None  # of the (first) file, in hex
    settings: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadState:
    """How far a model's download is, over all its files."""

    source: str
    stage: str  # queued, resolving, downloading, verifying, failed
    transferred: int = 0  # bytes on this machine
    total: int | None = None  # bytes; None while nobody knows
    bytes_per_second: float = 0.0
    eta_seconds: float | None = None
    error: str | None = None
    started_at: int = 0  # when it was asked for, in seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """A model as the supervisor sees it."""

    model_id: str
    status: ModelStatus
    error: str | None = None
    socket: str | None = None  # where its engine listens, while it runs
    pid: int | None = None
    started_at: int | None = None  # seconds since the epoch
    restarts: int = 0  # after crashes, since the model was last started on request
    notes: tuple[str, ...] = ()  # what a user should know, e.g. "runs without repacked weights: ..."
    info: EngineInfo | None = None
    memory_bytes: int | None = None  # what it takes of the memory budget, while it has an engine
    download: DownloadState | None = None  # while there is one, and after it failed


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """A model on disk: ``models/<id>/model.json`` read leniently, with what Jan or a user wrote kept in ``raw``."""

    id: str
    name: str
    folder: str = ""  # below models/: Jan's id for it, which may be no legal one of ours; empty while there is none
    path: str | None  # the GGUF; None while there is none
    size_bytes: int
    created: int  # seconds since the epoch
    settings: dict[str, Any]
    parameters: dict[str, Any]
    metadata: dict[str, Any]
    raw: dict[str, Any]
    problem: str | None = None  # why it can't be used as it is


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One turn of a conversation; ``role`` is system, developer, user, assistant or tool."""

    role: str
    content: str
    name: str | None = None
    tool_call_id: str | None = None
    reasoning: str | None = None  # what an assistant thought before it answered


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceRequest:
    """What a chat and a completion request have in common. None means: the model's own default.

    ``sampling`` holds the fields of ``SamplingParams`` that the request sets, checked against their types and ranges.
    """

    model: str
    stream: bool = False
    include_usage: bool = False
    n: int = 1
    max_tokens: int | None = None  # -1: no limit, whatever the model's own is
    stop: tuple[str, ...] | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    cache_prompt: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest(InferenceRequest):
    """``template_kwargs`` are further variables for the model's chat template (``enable_thinking`` and the like).

    ``begun`` is the beginning of the answer: the model goes on behind it. With ``continue_final_message`` it goes on
    behind the last message's words, without ``add_generation_prompt`` behind the end of the last message.
    ``conversation``: see ``GenerateRequest``.
    """

    messages: tuple[ChatMessage, ...]
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    begun: str = ""
    conversation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizeRequest:
    """``with_pieces`` asks for each token's bytes, too; the other flags are those of ``GenerateRequest``."""

    model: str
    content: str
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """Texts, or token ids, to be made vectors; ``dimensions`` None leaves these whole."""

    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    base64: bool = False  # answer with the bytes of the numbers, not the numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class DetokenizeRequest:
    """Token ids to be made text."""

    model: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateRequest:
    """A conversation to be laid out as in a ``ChatRequest``, and with ``tokenize`` cut into tokens."""

    model: str
    messages: tuple[ChatMessage, ...]
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    tokenize: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest(InferenceRequest):
    """``prompts`` are texts or token ids; each gets ``n`` choices. ``echo`` puts the prompt before its answer."""

    prompts: tuple[str | tuple[int, ...], ...]
    echo: bool = False
