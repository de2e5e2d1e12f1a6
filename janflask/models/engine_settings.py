"""What an engine is started with: a request's settings over the model's over the server's, checked and typed.

The settings themselves are in ``janflask.settings.engine_table``. Names that files have in a request are plain names of
the model's own folder: only who writes ``model.json`` may name a place elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from janflask.errors import InvalidRequestError
from janflask.settings.engine_table import CACHE_TYPES, FILES, EngineDefaults, EngineSettings

__all__ = ["CACHE_TYPES", "JAN_SETTINGS", "EngineSettings", "engine_settings", "read_settings"]

_PARSERS: Mapping[str, Callable[[str], Any]] = {item.name: item.metadata["parse"] for item in fields(EngineSettings)}

# Jan writes these into a model's settings and sends them back with a start; they are not the engine's.
JAN_SETTINGS = frozenset(
    {
        *("ai_prompt", "caching_enabled", "cont_batching", "engine", "grp_attn_n", "grp_attn_w", "llama_model_path"),
        *("pre_prompt", "prompt_template", "system_prompt", "text_model", "user_prompt", "vision_model"),
    }
)


def engine_settings(
    card_settings: Mapping[str, Any], defaults: EngineDefaults, overrides: Mapping[str, Any] | None = None
) -> EngineSettings:
    """``overrides`` over the model's ``settings`` over the server's. Numbers may be text; ``"auto"`` means: decide.

    An override that is null counts as not given. Raises InvalidRequestError, with ``param`` ``settings.<name>``, for a
    value that cannot be used and for an override of an unknown name; unknown names in ``model.json`` are Jan's own.
    """
    overrides = overrides or {}
    for name in overrides:
        if name not in _PARSERS and name not in JAN_SETTINGS:
            raise InvalidRequestError(
                f"there is no setting {str(name)[:80]!r}; known are {', '.join(sorted(_PARSERS))}",
                param=f"settings.{str(name)[:80]}",
            )
    values: dict[str, Any] = {item.name: getattr(defaults, item.name) for item in fields(EngineDefaults)}
    for source, where in ((card_settings, "in model.json"), (overrides, "in the request")):
        for name in _PARSERS.keys() & source.keys():
            if source[name] is not None:
                values[name] = _value(name, source[name], _PARSERS[name], where)
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
    usable: dict[str, Any] = {}
    odd: dict[str, str] = {}
    for name in _PARSERS.keys() & given.keys():
        if given[name] is None:
            continue
        try:
            _parsed(given[name], _PARSERS[name])
        except ValueError as error:
            odd[name] = f"is {str(given[name])[:80]!r}: {error}"
        else:
            usable[name] = given[name]
    return usable, odd


def _check_files(card_settings: Mapping[str, Any], overrides: Mapping[str, Any], values: dict[str, Any]) -> None:
    """A request names no file but in the model's own folder, or the very one that ``model.json`` names."""
    for name in FILES:
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
