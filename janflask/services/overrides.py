"""``settings`` of a thread or an assistant: what a model is started with, over its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from janflask.catalog import JAN_SETTINGS, engine_settings
from janflask.errors import InvalidRequestError
from janflask.settings import Settings

_JAN_NUMBERS = frozenset({"grp_attn_n", "grp_attn_w"})


def checked_settings(settings: Settings, given: Mapping[str, Any], where: str = "settings") -> dict[str, Any]:
    """``given`` with numbers for numbers that are text, and without what is null.

    Raises InvalidRequestError, with ``param`` ``<where>.<name>``, for an unknown name or a value that cannot be used.
    """
    try:
        parsed = engine_settings({}, settings, given)
    except InvalidRequestError as error:
        error.param = where + (error.param or "").removeprefix("settings")
        raise
    return {name: _value(parsed, name, value) for name, value in given.items() if value is not None}


def _value(parsed: object, name: str, value: Any) -> Any:
    if name not in JAN_SETTINGS:
        known = getattr(parsed, name)
        return value if known is None else known  # "auto" is parsed to None, and means something else than nothing
    if name in _JAN_NUMBERS and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return value
