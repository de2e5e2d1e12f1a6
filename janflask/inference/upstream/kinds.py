"""What each kind of server understands beside OpenAI's own fields, and by which names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from janflask.models.sampling import SamplingParams
from janflask.models.upstream import ServerKind

# Those of ``SamplingParams`` that are fields of OpenAI's; ``top_logprobs`` has a form of its own.
OPENAI_SAMPLING = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "logit_bias")
_FURTHER = tuple(name for name in SamplingParams.__dataclass_fields__ if name not in (*OPENAI_SAMPLING, "top_logprobs"))


class Continues(Enum):
    """How a server is told that the last message is the beginning of its answer."""

    NO = "no"
    BY_FLAG = "by flag"  # continue_final_message
    ALWAYS = "always"  # an assistant's message that comes last is always continued


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """``samplers``: our names of further sampling fields, and theirs.

    ``most_seed``: the greatest seed. ``template_fields``: ``chat_template_kwargs`` and ``add_generation_prompt`` are
    understood. ``many``: ``n`` may be more than 1. ``base64``, ``dimensions``: of embeddings.
    """

    samplers: Mapping[str, str] = field(default_factory=dict)
    top_k_off: int = 0  # as ``top_k``: all tokens
    most_seed: int = (1 << 63) - 1
    continues: Continues = Continues.NO
    template_fields: bool = False
    reasoning_field: bool = False  # an assistant's message may have reasoning_content
    developer_role: bool = True
    cache_prompt: bool = False
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
    ServerKind.OPENAI: Traits(),
    ServerKind.VLLM: Traits(
        samplers={**_same("top_k", "min_p", "ignore_eos"), "repeat_penalty": "repetition_penalty"},
        top_k_off=-1,  # what all of its versions take
        continues=Continues.BY_FLAG,
        template_fields=True,
        reasoning_field=True,
    ),
    ServerKind.LLAMA_SERVER: Traits(
        samplers=_same(*_FURTHER),
        most_seed=(1 << 32) - 2,  # the last one means: any
        continues=Continues.ALWAYS,
        template_fields=True,
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
        reasoning_field=True,
        cache_prompt=True,
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
