"""The one table of what an engine is started with.

Each setting stands here once, with its type, its default, its parser and its help. Those of ``EngineDefaults`` are the
server's too: each has a variable in the environment, which is what a model has that says nothing else. All may stand in
``model.json`` and in a request; of those that name a file a request may only give a plain name. The checks of both, the
OpenAPI document and ``docs/settings.md`` are made from this table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from types import NoneType
from typing import Any, get_args, get_type_hints

from janflask.settings.fields import Choice, Integer, Number, OrAuto, boolean, seconds, setting

MAX_PATH = 4096  # characters


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


_CACHE_TYPE = Choice(tuple(CACHE_TYPES))


def _file(text: str) -> str | None:
    if "\0" in text or len(text) > MAX_PATH:
        raise ValueError("must be a file's path")
    return text if text.strip() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineDefaults:
    """The engine's settings that the server has, too, as defaults for every model."""

    ctx_len: int | None = setting(
        None,
        OrAuto(Integer(16, 1 << 24)),
        "tokens of one conversation",
        auto="what the model was trained for, as far as memory allows",
    )
    n_parallel: int | None = setting(
        None, OrAuto(Integer(1, 256)), "sequences generated at once", auto="8, fewer if memory says so"
    )
    cpu_threads: int | None = setting(
        None,
        OrAuto(Integer(1, 1024)),
        "CPU threads of an engine",
        auto="the physical cores, fewer if that is quicker",
    )
    ngl: int = setting(-1, Integer(-1, 100000), "layers on the GPU; -1: as many as this build can place there")
    flash_attn: bool | None = setting(
        None, OrAuto(boolean), "flash attention: in one pass, with less memory", auto="guessed, then measured"
    )
    kv_unified: bool | None = setting(
        None,
        OrAuto(boolean),
        "one KV buffer for all sequences, not one for each",
        auto="where they have to share cells",
    )
    slice_size: int | None = setting(
        None, OrAuto(Integer(1, 8192)), "prompt tokens of a step that also generates", auto="guessed, then measured"
    )
    reproducible: bool = setting(
        False,
        boolean,
        "the same seed gives the same text alone and beside others, before and after a restart; slower",
    )
    kv_cells: int | None = setting(
        None, OrAuto(Integer(16, 1 << 28)), "tokens in the KV cache over all sequences", auto="n_parallel * ctx_len"
    )
    drafts: int | None = setting(
        None,
        OrAuto(Integer(0, 64)),
        "tokens of an answer that are guessed ahead and computed at once, at most; 0: none",
        auto="16, of which a step computes as many as change no bit",
    )
    prefix_cache: bool = setting(True, boolean, "reuse computed prompt prefixes")
    use_extra_bufts: bool = setting(
        True, boolean, "repacked CPU weights of llama.cpp (AMX and others); our Q4_1 kernel"
    )
    queue_limit: int = setting(64, Integer(0, 100000), "requests that may wait for a model; the next one gets 429")
    start_timeout: float = setting(
        600.0, seconds, "longest time for loading a model and proving that it works, in seconds"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings(EngineDefaults):
    """What one engine is started with. None means: derived from model and machine, or measured."""

    cache_type_k: str = setting("f16", _CACHE_TYPE, f"type of the cached keys: {', '.join(CACHE_TYPES)}")
    cache_type_v: str = setting("f16", _CACHE_TYPE, f"type of the cached values: {', '.join(CACHE_TYPES)}")
    mmap: bool = setting(True, boolean, "weights stay in the page cache, shared with whoever reads the file")
    mlock: bool = setting(False, boolean, "weights are kept from being swapped out")
    rope_freq_base: float | None = setting(
        None, OrAuto(Number(1, 1e10)), "base frequency of the rotary positions", auto="the file's"
    )
    rope_freq_scale: float | None = setting(
        None, OrAuto(Number(1e-4, 100)), "scale of the rotary positions' frequencies", auto="the file's"
    )
    rope_scaling: str | None = setting(
        None,
        OrAuto(Choice(("none", "linear", "yarn"))),
        "how rotary positions are scaled: none, linear or yarn",
        auto="the file's",
    )
    lora: str | None = setting(None, _file, "a GGUF file, an adapter for the weights", auto="none", names_file=True)
    lora_scale: float = setting(1.0, Number(-100, 100), "how strongly the adapter works")
    mmproj: str | None = setting(
        None, _file, "a GGUF file, the projector for images, which are not served yet", auto="none", names_file=True
    )
    embedding: bool | None = setting(
        None,
        OrAuto(boolean),
        "serve embeddings; a model that generates text serves them beside it",
        auto="what the file is made for",
    )


FILES = tuple(item.name for item in fields(EngineSettings) if item.metadata["names_file"])
_JSON = {int: "integer", bool: "boolean", float: "number", str: "string"}


@dataclass(frozen=True, slots=True)
class Described:
    """A setting as the documents tell it."""

    name: str
    json_type: str
    help: str
    default: Any  # None: ``auto`` says what it comes to
    auto: str | None
    names_file: bool
    in_environment: bool
    range: tuple[float, float] | None  # the least and the greatest value, of a number that has these
    choices: tuple[str, ...]  # the words that it may be; none: any


def described() -> Iterator[Described]:
    """Every setting, in order."""
    types, of_server = get_type_hints(EngineSettings), {item.name for item in fields(EngineDefaults)}
    for item in fields(EngineSettings):
        (kind,) = set(get_args(types[item.name]) or (types[item.name],)) - {NoneType}
        about = item.metadata
        parse = about["parse"].parse if isinstance(about["parse"], OrAuto) else about["parse"]
        yield Described(
            name=item.name,
            json_type=_JSON[kind],
            help=about["help"],
            default=item.default,
            auto=about["auto"],
            names_file=about["names_file"],
            in_environment=item.name in of_server,
            range=(parse.low, parse.high) if isinstance(parse, Integer | Number) else None,
            choices=parse.words if isinstance(parse, Choice) else (),
        )
