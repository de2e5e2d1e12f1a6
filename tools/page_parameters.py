"""Writes what the page knows of settings, parameters and the starter model, from the server's own tables.

``make ui`` runs it. Below ``ui/src/parts``, ``parameters/known.json`` has each setting and parameter with its group,
type, meaning, range and default, in the order in which the page shows them, and ``models/starter.json`` what the first
start offers. A test holds the files and the tables together: who adds a parameter gives it a group here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from janflask.downloads.starter import SMOLLM2
from janflask.models.parameters import EFFORTS, MAX_TOKENS, NAMES, NO_LIMIT
from janflask.models.sampling import SAMPLING_RANGES, SamplingParams
from janflask.schemas.chat import ChatRequestSchema
from janflask.schemas.models import JAN_DESCRIBED
from janflask.settings.engine_table import Described, described

PARTS = Path(__file__).resolve().parent.parent / "ui" / "src" / "parts"
KNOWN, STARTER = PARTS / "parameters" / "known.json", PARTS / "models" / "starter.json"

PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "Answer": ("temperature", "top_p", "top_k", "min_p", "max_tokens", "stop", "seed"),
    "Thinking": ("reasoning_effort", "enable_thinking", "reasoning_budget"),
    "Repetition": (
        *("repeat_penalty", "repeat_last_n", "frequency_penalty", "presence_penalty", "dry_multiplier", "dry_base"),
        *("dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers"),
    ),
    "More samplers": (
        *("typical_p", "top_n_sigma", "xtc_probability", "xtc_threshold", "dynatemp_range", "dynatemp_exponent"),
        *("mirostat", "mirostat_tau", "mirostat_eta"),
    ),
    "Special": ("logit_bias", "ignore_eos", "cache_prompt", "chat_template_kwargs"),
}
SETTINGS: Mapping[str, tuple[str, ...]] = {
    "Memory": (
        *("ctx_len", "n_parallel", "kv_cells", "kv_unified", "cache_type_k", "cache_type_v", "ngl", "mmap", "mlock"),
    ),
    "Speed": (
        *("cpu_threads", "flash_attn", "slice_size", "drafts", "prefix_cache", "use_extra_bufts", "queue_limit"),
        "start_timeout",
    ),
    "Answers": ("reproducible", "embedding", "prompt_template"),
    "Weights": ("lora", "lora_scale", "mmproj", "rope_scaling", "rope_freq_base", "rope_freq_scale"),
}
# Jan's, which change no answer; and where a model's own file lies, which is nothing to choose.
LEFT_OUT = frozenset({"stream", "token_limit", "engine", "llama_model_path"})

TITLES: Mapping[str, str] = {
    "max_tokens": "Longest answer",
    "stop": "Stop at",
    "reasoning_effort": "Effort",
    "enable_thinking": "Think first",
    "reasoning_budget": "Most tokens to think",
    "repeat_last_n": "Looks back",
    "dry_multiplier": "DRY multiplier",
    "dry_base": "DRY base",
    "dry_allowed_length": "DRY allowed length",
    "dry_penalty_last_n": "DRY looks back",
    "dry_sequence_breakers": "DRY breakers",
    "xtc_probability": "XTC probability",
    "xtc_threshold": "XTC threshold",
    "dynatemp_range": "Temperature range",
    "dynatemp_exponent": "Temperature exponent",
    "ignore_eos": "Never end by itself",
    "cache_prompt": "Use cached prompts",
    "chat_template_kwargs": "Template variables",
    "ctx_len": "Context length",
    "n_parallel": "Conversations at once",
    "kv_cells": "KV cells",
    "kv_unified": "One KV buffer",
    "cache_type_k": "Type of keys",
    "cache_type_v": "Type of values",
    "ngl": "Layers on the GPU",
    "mmap": "Map the file",
    "mlock": "Keep in memory",
    "cpu_threads": "CPU threads",
    "flash_attn": "Flash attention",
    "slice_size": "Prompt slice",
    "drafts": "Guess ahead",
    "use_extra_bufts": "Repacked weights",
    "queue_limit": "Longest queue",
    "start_timeout": "Time to start",
    "embedding": "Embeddings",
    "lora": "LoRA adapter",
    "lora_scale": "LoRA scale",
    "mmproj": "Projector",
    "rope_scaling": "RoPE scaling",
    "rope_freq_base": "RoPE base",
    "rope_freq_scale": "RoPE scale",
}
# What it comes to where nobody says anything and the server's table has no value.
OTHERWISE: Mapping[str, str] = {
    "max_tokens": "no limit",
    "stop": "nothing",
    "seed": "a new one for each answer",
    "logit_bias": "none",
    "chat_template_kwargs": "none",
    "reasoning_effort": "the model's",
    "enable_thinking": "the model's",
    "reasoning_budget": "the model's",
}
TYPES: Mapping[str, str] = {
    **dict.fromkeys(("stop", "dry_sequence_breakers"), "strings"),
    **dict.fromkeys(("logit_bias", "chat_template_kwargs"), "object"),
    **dict.fromkeys(("max_tokens", "reasoning_budget", "seed"), "integer"),
    **dict.fromkeys(("ignore_eos", "cache_prompt", "enable_thinking"), "boolean"),
    "reasoning_effort": "string",
    "prompt_template": "text",
}
RANGES: Mapping[str, tuple[float, float]] = {
    **SAMPLING_RANGES,
    **dict.fromkeys(("max_tokens", "reasoning_budget"), (NO_LIMIT, MAX_TOKENS)),
}


def render() -> dict[Path, str]:
    """The files and their contents."""
    return {KNOWN: _json(_tables()), STARTER: _json(_starter())}


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _starter() -> dict[str, Any]:
    facts = {name: getattr(SMOLLM2, name) for name in ("id", "name", "description", "size")}
    return {**facts, "license": SMOLLM2.metadata["license"]}


def _tables() -> dict[str, Any]:
    fields = ChatRequestSchema().fields
    parameters = [_parameter(name, group, fields) for group, name in _grouped(PARAMETERS)]
    by_name = {setting.name: setting for setting in described()}
    settings = [_setting(name, group, by_name.get(name)) for group, name in _grouped(SETTINGS)]
    return {"parameters": parameters, "settings": settings}


def missing() -> set[str]:
    """The names in the server's tables that have no group here."""
    named = {name for groups in (PARAMETERS, SETTINGS) for names in groups.values() for name in names}
    return {*NAMES, *JAN_DESCRIBED, *(setting.name for setting in described())} - named - LEFT_OUT


def _grouped(groups: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, str]]:
    for group, names in groups.items():
        for name in names:
            yield group, name


def _parameter(name: str, group: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    default = getattr(SamplingParams(), name, True if name == "cache_prompt" else None)
    kind = "integer" if isinstance(default, int) and not isinstance(default, bool) else "number"
    help = fields[name].metadata["description"] + (" -1: no limit." if name == "max_tokens" else "")
    known = _known(name, group, TYPES.get(name, kind), help, None if default == () else default, OTHERWISE.get(name))
    return known | _limits(RANGES.get(name), EFFORTS if name == "reasoning_effort" else ())


def _setting(name: str, group: str, setting: Described | None) -> dict[str, Any]:
    if setting is None:
        help, otherwise = JAN_DESCRIBED[name]
        return _known(name, group, TYPES[name], help, None, otherwise)
    help = f"{setting.help[0].upper()}{setting.help[1:]}."
    known = _known(name, group, setting.json_type, help, setting.default, setting.auto)
    return known | _limits(setting.range, setting.choices)


def _known(name: str, group: str, kind: str, help: str, default: Any, otherwise: str | None) -> dict[str, Any]:
    title = TITLES.get(name, name.replace("_", " ").capitalize())
    known = {"name": name, "title": title, "group": group, "type": kind, "help": help, "default": default}
    return known if otherwise is None else {**known, "otherwise": otherwise}


def _limits(limits: tuple[float, float] | None, choices: tuple[str, ...]) -> dict[str, Any]:
    # A seed may be any whole number of 64 bits, which JavaScript's numbers do not hold and nobody wants to read.
    shown = limits if limits is not None and max(map(abs, limits)) <= 1 << 53 else None
    return {**({} if shown is None else {"range": shown}), **({"choices": choices} if choices else {})}


def main() -> int:
    """Writes the files."""
    for target, content in render().items():
        target.parent.mkdir(exist_ok=True)
        target.write_text(content)
        print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
