"""``settings`` that a client sends, of a model, a thread or an assistant: what a model is started with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from janflask.errors import InvalidRequestError
from janflask.models.catalog import MODEL_FILE
from janflask.models.engine_settings import JAN_SETTINGS, engine_settings
from janflask.settings import Settings
from janflask.settings.engine_table import FILES

# Settings that name files. In model.json they may be absolute paths, which a client must never be able to write.
FILE_SETTINGS = ("llama_model_path", *FILES)

_JAN_NUMBERS = frozenset({"grp_attn_n", "grp_attn_w"})
_MAX_NAME = 255  # characters of a file's


def checked_settings(settings: Settings, given: Mapping[str, Any], where: str = "settings") -> dict[str, Any]:
    """``given`` with numbers for numbers that are text, and without what is null.

    Raises InvalidRequestError, with ``param`` ``<where>.<name>``, for an unknown name or a value that cannot be used;
    where ``where`` is empty, ``given`` is the body itself.
    """
    try:
        parsed = engine_settings({}, settings, given)
    except InvalidRequestError as error:
        error.param = (where + (error.param or "").removeprefix("settings")).removeprefix(".")
        raise
    template = given.get("prompt_template")
    if template is not None and not (isinstance(template, str) and (not template or "{prompt}" in template)):
        raise _refused(where, "prompt_template", "must be text with {prompt} in it, or empty for the model's own")
    return {name: _value(parsed, name, value) for name, value in given.items() if value is not None}


def refuse_settings(model_id: str, given: Mapping[str, Any], where: str = "settings") -> None:
    """Raises InvalidRequestError, with ``param`` as ``checked_settings``, for a setting of a model of an upstream.

    null is none: it removes what stands in ``model.json``.
    """
    name = next((name for name, value in given.items() if value is not None), None)
    if name is not None:
        raise _refused(
            where,
            name,
            f"cannot be set: {model_id} is run by another server, which decides how. What is asked of that server "
            f"stands in the upstream table of {MODEL_FILE}",
        )


def check_file(name: str, value: object, folder: Path, where: str = "settings") -> None:
    """Raises InvalidRequestError unless ``value`` is the plain name of a file in a model's ``folder``."""
    if not _is_file_name(value) or not (folder / str(value)).is_file():
        raise _refused(
            where,
            name,
            "must be the plain name of a file in the model's own folder; other places can only be named in "
            f"{MODEL_FILE} itself",
        )


def _is_file_name(value: object) -> bool:
    plain = isinstance(value, str) and not value.startswith(".") and not set(value) & set('/\\:"\0')
    return plain and isinstance(value, str) and 0 < len(value) <= _MAX_NAME


def _refused(where: str, name: str, reason: str) -> InvalidRequestError:
    param = f"{where}.{name}".removeprefix(".")
    return InvalidRequestError(f"{param} {reason}", param=param, code="invalid_value")


def _value(parsed: object, name: str, value: Any) -> Any:
    if name not in JAN_SETTINGS:
        known = getattr(parsed, name)
        return value if known is None else known  # "auto" is parsed to None, and means something else than nothing
    if name in _JAN_NUMBERS and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return value
