"""Inference parameters as they are found: in ``model.json``, ``assistant.json``, ``thread.json``, a run, an import.

What can be meant is taken: numbers and flags as text, 3.0 for 3, one stop string for a list of one, another server's
name for ours. What cannot is a problem that names the field. Standard library only.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from janflask.models.known_fields import ALIASES, CONSTRAINTS, CONVERSATION, GENERATION, NEWER, THINKING
from janflask.models.sampling import SAMPLING_RANGES, SamplingParams

NO_LIMIT = -1  # as ``max_tokens``: until the context is full; as ``reasoning_budget``: as long as the model likes
MAX_TOKENS = 1 << 24  # of an answer; more than any context
MAX_STRINGS, MAX_LENGTH = 64, 1024  # stop strings, and characters of one
MAX_BREAKER = 40  # characters of a string that ends a sequence for DRY
MAX_BIAS, MAX_TOKEN = 100, (1 << 31) - 1
MAX_DEPTH = 32  # of ``chat_template_kwargs``
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")  # OpenAI's, and what templates know beside them

_REFUSED = (GENERATION, CONVERSATION, THINKING, CONSTRAINTS)
_NUMBER = re.compile(r"[+-]?([0-9]{1,30}\.?[0-9]{0,30}|\.[0-9]{1,30})([eE][+-]?[0-9]{1,3})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?[0-9]+", re.ASCII)
_FLAGS = {"true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that cannot be meant. ``field`` is the parameter's name or place (``stop.1``), empty for all of them.

    ``reason`` is to be read behind that name: ``must be a number from 0 to 2``, or, where the parameter is no good with
    any such value (``unsupported``), ``is not supported yet: ...``.
    """

    field: str
    value: Any
    reason: str
    unsupported: bool = False

    def told(self, where: str = "", prefix: str = "parameters") -> str:
        """``parameters.temperature in thread.json is "warm": must be a number from 0 to 2``."""
        name = f"{prefix}.{self.field}".strip(".") + (f" in {where}" if where else "")
        return f"{name} {self.reason}" if self.unsupported else f"{name} is {shown(self.value)}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Parameters:
    """What was understood, typed as ``SamplingParams`` has it, and what was not; both by our names.

    Besides its fields ``values`` may hold ``max_tokens`` (NO_LIMIT or from 1), ``stop`` (a tuple of texts),
    ``cache_prompt``, and what ``template_kwargs`` and ``thought_tokens`` read.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    problems: Mapping[str, Problem] = field(default_factory=dict)


class _OddError(ValueError):
    """Why a value cannot be meant; ``at`` is the place inside it."""

    def __init__(self, reason: str, at: str = "", value: Any = None) -> None:
        super().__init__(reason)
        self.reason, self.at, self.value = reason, at, value


def read_parameters(given: object, *, jan: bool = False) -> Parameters:
    """Everything that ``given`` says. Null is the same as nothing; names without a meaning here are passed over.

    Where a parameter has two of its names, both must say the same, but that OpenAI's newer one wins. ``jan``: read what
    Jan keeps there and what changes no answer, too.
    """
    readers = _READERS | _OF_JAN if jan else _READERS
    if given is None:
        return Parameters()
    if not isinstance(given, Mapping):
        return Parameters(problems={"": Problem("", given, "must be an object")})
    values: dict[str, Any] = {}
    problems: dict[str, Problem] = {}
    for alias in sorted(given, key=lambda name: (name in ALIASES, name in NEWER)):
        name, value = ALIASES.get(alias, alias), given[alias]
        problem = None if value is None else objection(alias, value)
        if problem is None and value is not None and name in readers:
            try:
                understood = readers[name](value)
            except _OddError as odd:
                problem = Problem(f"{alias}.{odd.at}".removesuffix("."), odd.value if odd.at else value, odd.reason)
            else:
                if alias not in NEWER and values.get(name, understood) != understood:
                    problem = Problem(alias, value, f"must be the same as `{name}`, or left out")
                values[name] = understood
        if problem is not None:
            problems.setdefault(name, problem)
    return Parameters({name: value for name, value in values.items() if name not in problems}, problems)


def objection(name: str, value: object) -> Problem | None:
    """The problem of a parameter that other servers know and that cannot be had here; none for a harmless value."""
    known = next((table[name] for table in _REFUSED if name in table), None)
    reason = known.objection(value) if known is not None else None
    return None if reason is None else Problem(name, value, reason, unsupported=True)


def template_kwargs(values: Mapping[str, Any]) -> dict[str, Any]:
    """The chat template's further variables: ``chat_template_kwargs`` with what has a field of its own.

    ``reasoning_effort`` ``none`` is the template's ``enable_thinking`` false, as llama-server has it.
    """
    kwargs = dict(values.get("chat_template_kwargs") or {})
    effort, thinking = values.get("reasoning_effort"), values.get("enable_thinking")
    if effort is not None:
        kwargs |= {"enable_thinking": False} if effort == "none" else {"reasoning_effort": effort}
    return kwargs if thinking is None else kwargs | {"enable_thinking": thinking}


def thought_tokens(values: Mapping[str, Any]) -> int | None:
    """The most tokens to think, NO_LIMIT or from 0; None: not said.

    ``reasoning_budget``, else what the chat template is told to tell the model, as Seed-OSS has it.
    """
    if values.get("reasoning_budget") is not None:
        return int(values["reasoning_budget"])
    told = (values.get("chat_template_kwargs") or {}).get("thinking_budget")
    if not isinstance(told, int) or isinstance(told, bool):
        return None
    return told if NO_LIMIT <= told <= MAX_TOKENS else None


def is_parameter(name: str) -> bool:
    """Whether this is the name, or another server's name, of a parameter that is understood here."""
    return ALIASES.get(name, name) in _READERS


def is_known(name: str) -> bool:
    """Whether this is a name that has a meaning here, be it that it cannot be had."""
    return is_parameter(name) or name in _OF_JAN or any(name in table for table in _REFUSED)


def shown(value: object) -> str:
    """A value as JSON, not too long."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 80 else f"{text[:79]}…"


def is_storable(value: object, max_depth: int = MAX_DEPTH) -> bool:
    """Whether a JSON value can be sent between processes: not too deep, and no whole number beyond 64 bits."""
    pending = [(value, 0)]
    while pending:
        item, level = pending.pop()
        if isinstance(item, int) and not -(1 << 63) <= item < 1 << 64:
            return False
        inner = item.values() if isinstance(item, Mapping) else item if isinstance(item, list | tuple) else None
        if inner is not None:
            if level == max_depth:
                return False
            pending.extend((part, level + 1) for part in inner)
    return True


# --- values -----------------------------------------------------------------------------------------------------------


def _number(value: object, kind: str) -> int | float:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        text = value.strip()
        value = int(text) if _WHOLE.fullmatch(text) else float(text)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _OddError(f"must be {kind}")
    if isinstance(value, float) and not math.isfinite(value):
        raise _OddError(f"must be {kind}")
    return value


def _ranged(low: float, high: float, *, whole: bool) -> Callable[[object], float]:
    limits = f"from {_plain(low)} to {_plain(high)}"
    kind = f"a {'whole ' * whole}number {limits}"

    def read(value: object) -> float:
        number = _number(value, kind)
        if whole and number != int(number):
            raise _OddError(f"must be {kind}")
        if not low <= number <= high:
            raise _OddError(f"must be {limits}")
        return int(number) if whole else float(number)

    return read


def _plain(limit: float) -> str:
    return f"{limit:g}" if isinstance(limit, float) else str(limit)


def _max_tokens(value: object) -> int:
    number = _any_whole(value)
    return NO_LIMIT if number <= 0 else min(number, MAX_TOKENS)


def _flag(value: object) -> bool:
    text = str(value).strip().lower() if isinstance(value, str | bool | int) else ""
    if text not in _FLAGS:
        raise _OddError("must be true or false")
    return _FLAGS[text]


def _strings(most: int) -> Callable[[object], tuple[str, ...]]:
    """Reads a string or a list of them, of at most ``most`` characters; empty ones say nothing."""

    def read(value: object) -> tuple[str, ...]:
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list | tuple):
            raise _OddError("must be a string or a list of strings")
        if len(listed) > MAX_STRINGS:
            raise _OddError(f"must hold at most {MAX_STRINGS} strings")
        for number, text in enumerate(listed):
            if not isinstance(text, str):
                raise _OddError("must be a string", str(number), text)
            if len(text) > most:
                raise _OddError(f"must be at most {most} characters", str(number), text)
        return tuple(text for text in listed if text)

    return read


def listed_breakers(value: str) -> list[str]:
    """Breakers that came as one text: a JSON list, with or without its brackets, or just one."""
    text = value.strip()
    try:
        told = json.loads(text if text.startswith("[") else f"[{text}]")
    except (ValueError, RecursionError):
        told = None
    return told if told and all(isinstance(item, str) for item in told) else [value]


def _breakers(value: object) -> tuple[str, ...]:
    return _strings(MAX_BREAKER)(listed_breakers(value) if isinstance(value, str) else value)


def _mirostat(value: object) -> float:
    return _MIROSTAT(0 if value is False else value)  # llama.cpp's model files have it as a flag, too


def _logit_bias(value: object) -> tuple[tuple[int, float], ...]:
    """Reads ``{"token id": bias}`` or ``[[token id, bias], ...]``."""
    listed = list(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(listed, list | tuple):
        raise _OddError('must be an object like {"1234": -100}')
    pairs: dict[int, float] = {}
    for item in listed:
        if not isinstance(item, list | tuple) or len(item) != 2:
            raise _OddError('must be an object like {"1234": -100}')
        try:
            token = _TOKEN(item[0])
        except _OddError:
            raise _OddError("its key must be a token id, a whole number from 0", str(item[0])[:40], item[0]) from None
        try:
            pairs[int(token)] = _BIAS(item[1])
        except _OddError as odd:
            raise _OddError(odd.reason, str(item[0])[:40], item[1]) from None
    return tuple(sorted(pairs.items()))


def _template_kwargs(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _OddError("must be an object")
    if not is_storable(value):
        raise _OddError(f"must be nested at most {MAX_DEPTH} deep, and hold no whole number beyond 64 bits")
    return dict(value)


def _any_whole(value: object) -> int:
    number = _number(value, "a whole number")
    if number != int(number):
        raise _OddError("must be a whole number")
    return int(number)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _OddError("must be a string")
    return value


def _effort(value: object) -> str:
    if value not in EFFORTS:
        raise _OddError(f"must be one of {', '.join(EFFORTS)}")
    return str(value)


_TOKEN = _ranged(0, MAX_TOKEN, whole=True)
_BIAS = _ranged(-MAX_BIAS, MAX_BIAS, whole=False)
_MIROSTAT = _ranged(*SAMPLING_RANGES["mirostat"], whole=True)
_DEFAULTS = SamplingParams()
_BY_REQUEST_ONLY = frozenset({"top_logprobs"})

_READERS: dict[str, Callable[[Any], Any]] = {
    **{
        item.name: _ranged(*SAMPLING_RANGES[item.name], whole=isinstance(getattr(_DEFAULTS, item.name), int | None))
        for item in fields(SamplingParams)
        if item.name in SAMPLING_RANGES and item.name not in _BY_REQUEST_ONLY
    },
    "max_tokens": _max_tokens,
    "stop": _strings(MAX_LENGTH),
    "dry_sequence_breakers": _breakers,
    "mirostat": _mirostat,
    "logit_bias": _logit_bias,
    "ignore_eos": _flag,
    "cache_prompt": _flag,
    "chat_template_kwargs": _template_kwargs,
    "reasoning_budget": _ranged(NO_LIMIT, MAX_TOKENS, whole=True),
    "reasoning_effort": _effort,
    "enable_thinking": _flag,
}

# Jan keeps these there, too; they change no answer.
_OF_JAN: dict[str, Callable[[Any], Any]] = {"stream": _flag, "token_limit": _any_whole, "engine": _text}

NAMES = tuple(sorted({*_READERS, *_OF_JAN}))
