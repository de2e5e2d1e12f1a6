"""What an engine is started with: a request's settings over the model's over the server's, checked and typed.

Every setting of ``EngineSettings`` has its parser here, or in the table of ``Settings`` if the server has one of that
name too. Names that files have in a request are plain names of the model's own folder: only who writes ``model.json``
may name a place elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from janflask.errors import InvalidRequestError
from janflask.settings import Settings, boolean, choice, or_auto


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


# Jan writes these into a model's settings and sends them back with a start; they are not the engine's.
JAN_SETTINGS = frozenset(
    {
        *("ai_prompt", "caching_enabled", "cont_batching", "engine", "grp_attn_n", "grp_attn_w", "llama_model_path"),
        *("pre_prompt", "prompt_template", "system_prompt", "text_model", "user_prompt", "vision_model"),
    }
)

MAX_PATH = 4096  # characters


def engine_settings(
    card_settings: Mapping[str, Any], defaults: Settings, overrides: Mapping[str, Any] | None = None
) -> EngineSettings:
    """``overrides`` over the model's ``settings`` over the server's. Numbers may be text; ``"auto"`` means: decide.

    An override that is null counts as not given. Raises InvalidRequestError, with ``param`` ``settings.<name>``, for a
    value that cannot be used and for an override of an unknown name; unknown names in ``model.json`` are Jan's own.
    """
    overrides = overrides or {}
    known = {item.name for item in fields(EngineSettings)}
    for name in overrides:
        if name not in known and name not in JAN_SETTINGS:
            raise InvalidRequestError(
                f"there is no setting {str(name)[:80]!r}; known are {', '.join(sorted(known))}",
                param=f"settings.{str(name)[:80]}",
            )
    parsers = _parsers()
    values: dict[str, Any] = {name: getattr(defaults, name) for name in parsers.keys() - _PARSERS.keys()}
    for source, where in ((card_settings, "in model.json"), (overrides, "in the request")):
        for name in known & source.keys():
            if source[name] is not None:
                values[name] = _value(name, source[name], parsers[name], where)
    _check_files(card_settings, overrides, values)
    return EngineSettings(**values)


def read_settings(given: object) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings in ``given``, which lay on a disk, that an engine can be started with; the others with the reason.

    As in ``model.json`` unknown names are Jan's own, and null counts as not given. The reasons are to be read behind
    the name: ``is "x": must be ...``; the name is empty where ``given`` is no object.
    """
    if given is None:
        return {}, {}
    if not isinstance(given, Mapping):
        return {}, {"": "must be an object"}
    parsers = _parsers()
    usable: dict[str, Any] = {}
    odd: dict[str, str] = {}
    for name in parsers.keys() & given.keys():
        if given[name] is None:
            continue
        try:
            _parsed(given[name], parsers[name])
        except ValueError as error:
            odd[name] = f"is {str(given[name])[:80]!r}: {error}"
        else:
            usable[name] = given[name]
    return usable, odd


def _parsers() -> dict[str, Callable[[str], Any]]:
    """By the names of ``EngineSettings``."""
    known = {item.name for item in fields(EngineSettings)}
    of_server = {item.name: item.metadata["parse"] for item in fields(Settings) if item.name in known}
    return {**of_server, **_PARSERS}


def _check_files(card_settings: Mapping[str, Any], overrides: Mapping[str, Any], values: dict[str, Any]) -> None:
    """A request names no file but in the model's own folder, or the very one that ``model.json`` names."""
    for name in ("lora", "mmproj"):
        place = overrides.get(name)
        if not place or place == card_settings.get(name) or _is_plain(str(place)):
            continue
        if name == "mmproj":  # Jan sends it with a start, wherever the file lies; it is not opened yet
            values[name] = card_settings.get(name)
            continue
        raise InvalidRequestError(
            f"settings.{name} in the request is {str(place)[:80]!r}: must be the plain name of a file in the model's "
            "own folder; other places can only be named in model.json itself",
            param=f"settings.{name}",
        )


def _is_plain(name: str) -> bool:
    return not name.startswith(".") and not set(name) & set('/\\:"')


def _parsed(value: object, parse: Callable[[str], Any]) -> Any:
    """Raises ValueError."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, (str, int, float)):
        raise ValueError(f"must be a number or text, not {type(value).__name__}")
    return parse(str(value))


def _value(name: str, value: object, parse: Callable[[str], Any], where: str) -> Any:
    try:
        return _parsed(value, parse)
    except ValueError as error:
        raise InvalidRequestError(
            f"settings.{name} {where} is {str(value)[:80]!r}: {error}", param=f"settings.{name}"
        ) from None


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return value

    return parse


def _file(text: str) -> str | None:
    if "\0" in text or len(text) > MAX_PATH:
        raise ValueError("must be a file's path")
    return text if text.strip() else None


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "cache_type_k": choice(*CACHE_TYPES),
    "cache_type_v": choice(*CACHE_TYPES),
    "mmap": boolean,
    "mlock": boolean,
    "rope_freq_base": or_auto(_number(1, 1e10)),
    "rope_freq_scale": or_auto(_number(1e-4, 100)),
    "rope_scaling": or_auto(choice("none", "linear", "yarn")),
    "lora": _file,
    "lora_scale": _number(-100, 100),
    "mmproj": _file,
    "embedding": or_auto(boolean),
}
