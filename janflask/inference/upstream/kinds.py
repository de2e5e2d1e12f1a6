"""What each kind of server understands beside OpenAI's own fields, and by which names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from janflask.inference.forms.constrained import FormKind
from janflask.inference.upstream import forms
from janflask.inference.upstream.forms import Spelling
from janflask.models.sampling import SamplingParams
from janflask.models.upstream import ServerKind

# Those of ``SamplingParams`` that are fields of OpenAI's; ``top_logprobs`` has a form of its own.
OPENAI_SAMPLING = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "logit_bias")
_FURTHER = tuple(name for name in SamplingParams.__dataclass_fields__ if name not in (*OPENAI_SAMPLING, "top_logprobs"))

THOUGHT_LIMIT = "reasoning_budget"  # our own name of the field


class Continues(Enum):
    """How a server is told that the last message is the beginning of its answer."""

    NO = "no"
    BY_FLAG = "by flag"  # continue_final_message
    ALWAYS = "always"  # an assistant's message that comes last is always continued


class Calling(Enum):
    """What a server can be told of the tools that are to be called; each knows what comes before it, but NAMED."""

    NAMED = "named"  # one function alone, and that it has to be called
    REQUIRED = "required"  # auto or required
    ONE = "one"  # the function that has to be called, too
    ALLOWED = "allowed"  # some of them, too: allowed_tools


class Unsplit(Enum):
    """Whether a server leaves a model's thoughts in the text of its answer."""

    NO = "no"
    BY_FIELD = "by field"  # reasoning_format
    ALWAYS = "always"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """``samplers``: our names of further sampling fields, and theirs.

    ``most_seed``: the greatest seed. ``template_fields``: ``chat_template_kwargs`` and ``add_generation_prompt`` are
    understood. ``effort_field``: so is ``reasoning_effort``. ``thought_limit``: the field for the most tokens of
    thought. ``many``: ``n`` may be more than 1. ``base64``, ``dimensions``: of embeddings.

    ``forms`` are those that an answer can be held to, ``text_forms`` those of the legacy completions. ``form_or_call``:
    an answer may have a form where it does not call tools.
    """

    samplers: Mapping[str, str] = field(default_factory=dict)
    top_k_off: int = 0  # as ``top_k``: all tokens
    most_seed: int = (1 << 63) - 1
    continues: Continues = Continues.NO
    template_fields: bool = False
    effort_field: bool = False
    thought_limit: str | None = None
    unsplit: Unsplit = Unsplit.NO
    reasoning_field: bool = False  # an assistant's message may have reasoning_content
    calling: Calling = Calling.REQUIRED
    null_content: bool = True  # of an assistant's message that only calls
    hides_length: bool = False  # a call that max_tokens has cut is told as one that is whole
    forms: Mapping[FormKind, Spelling] = field(default_factory=dict)
    text_forms: Mapping[FormKind, Spelling] = field(default_factory=dict)
    form_or_call: bool = False
    developer_role: bool = True
    cache_prompt: bool = False
    beside_prediction: frozenset[str] | None = None  # fields with which it refuses a prediction; None: it knows none
    bias_pairs: bool = False  # logit_bias is [[token id, bias], ...]
    many: bool = True
    one_at_a_time: bool = False  # a second request would break off the first
    stream_usage: bool = True
    token_prompts: bool = True
    echo: bool = True
    base64: bool = True
    dimensions: bool = True


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


TRAITS: Mapping[ServerKind, Traits] = {
    ServerKind.OPENAI: Traits(
        effort_field=True,
        calling=Calling.ONE,
        forms=forms.OPENAI,
        form_or_call=True,
        beside_prediction=frozenset({"n", "logprobs", "max_tokens", "presence_penalty", "frequency_penalty", "tools"}),
    ),
    ServerKind.VLLM: Traits(
        samplers={**_same("top_k", "min_p", "ignore_eos"), "repeat_penalty": "repetition_penalty"},
        top_k_off=-1,  # what all of its versions take
        continues=Continues.BY_FLAG,
        template_fields=True,
        effort_field=True,
        thought_limit="thinking_token_budget",
        reasoning_field=True,
        calling=Calling.ONE,
        forms=forms.VLLM,
        text_forms=forms.VLLM,
    ),
    ServerKind.LLAMA_SERVER: Traits(
        samplers=_same(*_FURTHER),
        most_seed=(1 << 32) - 2,  # the last one means: any
        continues=Continues.ALWAYS,
        template_fields=True,
        thought_limit="thinking_budget_tokens",  # older ones know no other name
        unsplit=Unsplit.BY_FIELD,
        forms=forms.LLAMA_SERVER,
        text_forms=forms.LLAMA_SERVER,
        reasoning_field=True,
        developer_role=False,
        cache_prompt=True,
        bias_pairs=True,  # older ones know no other form
        echo=False,
        dimensions=False,
    ),
    ServerKind.LLAMA_CPP_PYTHON: Traits(
        samplers={
            **_same("top_k", "min_p", "repeat_penalty", "mirostat_tau", "mirostat_eta"),
            "mirostat": "mirostat_mode",
        },
        most_seed=(1 << 32) - 2,
        unsplit=Unsplit.ALWAYS,
        calling=Calling.NAMED,
        null_content=False,
        hides_length=True,
        forms=forms.LLAMA_CPP_PYTHON,
        text_forms=forms.LLAMA_CPP_PYTHON_TEXT,
        developer_role=False,
        one_at_a_time=True,
        many=False,  # it takes the field and gives one answer
        stream_usage=False,
        token_prompts=False,
        echo=False,  # not in a stream
        base64=False,
        dimensions=False,
    ),
    ServerKind.JANFLASK: Traits(
        samplers=_same(*_FURTHER),
        most_seed=(1 << 64) - 1,
        continues=Continues.BY_FLAG,
        template_fields=True,
        thought_limit=THOUGHT_LIMIT,
        unsplit=Unsplit.BY_FIELD,
        reasoning_field=True,
        calling=Calling.ALLOWED,
        forms=forms.VLLM,
        text_forms=forms.VLLM,
        form_or_call=True,
        cache_prompt=True,
        beside_prediction=frozenset(),
    ),
}

# Values that ask for nothing: a server that does not know the field does just that.
_OFF: Mapping[str, tuple[float, float]] = {  # from, to
    "dynatemp_range": (float("-inf"), 0),
    "top_k": (float("-inf"), 0),
    "min_p": (float("-inf"), 0),
    "typical_p": (1, float("inf")),
    "top_n_sigma": (float("-inf"), 0),
    "xtc_probability": (float("-inf"), 0),
    "repeat_penalty": (1, 1),
    "frequency_penalty": (0, 0),
    "presence_penalty": (0, 0),
    "dry_multiplier": (0, 0),
    "mirostat": (0, 0),
    "ignore_eos": (0, 0),
}

# Fields that say how another one works: without any of these they ask for nothing either.
_DETAILS: Mapping[str, tuple[str, ...]] = {
    "dynatemp_exponent": ("dynatemp_range",),
    "xtc_threshold": ("xtc_probability",),
    "repeat_last_n": ("repeat_penalty", "frequency_penalty", "presence_penalty"),
    **dict.fromkeys(
        ("dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers"), ("dry_multiplier",)
    ),
    "mirostat_tau": ("mirostat",),
    "mirostat_eta": ("mirostat",),
}


def asks_nothing(name: str, values: Mapping[str, object]) -> bool:
    """Whether the sampling field ``name`` of ``values`` changes nothing, and need not be understood."""
    if name in _DETAILS:
        return all(main not in values or asks_nothing(main, values) for main in _DETAILS[name])
    low, high = _OFF.get(name, (1, 0))
    value = values[name]
    return isinstance(value, int | float) and low <= value <= high
