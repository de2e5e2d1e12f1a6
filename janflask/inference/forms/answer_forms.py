"""What an answer must look like, as requests, runs, assistants and threads say it: a constraint, or refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from janflask.errors import InvalidRequestError
from janflask.inference.forms import constrained
from janflask.inference.forms.constrained import Constrained
from janflask.models.json_words import kind

MAX_NAME = 64
_NAME = re.compile(rf"[a-zA-Z0-9_-]{{1,{MAX_NAME}}}")
TYPES = ("text", "json_object", "json_schema")
AUTO = "auto"  # of a run or an assistant: text
KINDS = ("json", "regex", "choice", "grammar")  # of constraints, by vLLM's names
FIELDS = ("json_schema", "grammar", "regex", "structured_outputs", *(f"guided_{what}" for what in KINDS))
_MODIFIERS = {  # what vLLM takes beside its constraints, and what asks for nothing of it here
    "disable_any_whitespace": (True,),
    "disable_additional_properties": (True, False),
    "disable_fallback": (True, False),
    "whitespace_pattern": ("",),
}

Make = Callable[[], Constrained]


def constraint_of(data: Mapping[str, Any]) -> Constrained | None:
    """The one constraint in ``response_format`` and ``FIELDS``. Raises InvalidRequestError, also for two of them."""
    found = list(_found(data))
    if len(found) > 1:
        names = " and ".join(name for name, _ in found)
        raise InvalidRequestError(f"{names} cannot be had together: send one of them", param=found[1][0])
    return found[0][1]() if found else None


def asked_for(data: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``FIELDS`` that say something, as they are. Raises InvalidRequestError."""
    given = {name: data[name] for name in FIELDS if name in data}
    return {name: value for name, value in given.items() if any(_found({name: value}))}


def answer_form(form: object, place: str = "response_format") -> Constrained | None:
    """Of a run's ``response_format``, which may be a word. Raises what ``of_format`` does."""
    make = None if not form or form == "text" else of_format(form, place)
    return None if make is None else make()


def _found(data: Mapping[str, Any]) -> Iterator[tuple[str, Make]]:
    form = data.get("response_format")
    if form is not None and (make := of_format(form, "response_format")) is not None:
        yield "response_format", make
    for name, what in (("json_schema", "json"), ("grammar", "grammar"), ("regex", "regex")):
        if data.get(name) not in (None, ""):
            yield name, maker(what, data[name], name)
    outputs = data.get("structured_outputs")
    if outputs is not None:
        yield from _outputs(outputs)
    for what in KINDS:
        if data.get(f"guided_{what}") not in (None, "", []):
            yield f"guided_{what}", maker(what, data[f"guided_{what}"], f"guided_{what}")


def _outputs(outputs: object) -> Iterator[tuple[str, Make]]:
    if not isinstance(outputs, Mapping):
        raise InvalidRequestError("structured_outputs must be an object", param="structured_outputs")
    for name, value in outputs.items():
        place = f"structured_outputs.{name}"
        if value is None or value is False or value in _MODIFIERS.get(name, ()):
            continue
        if name not in (*KINDS, "json_object"):
            raise InvalidRequestError(f"{place} is not supported: leave it out", param=place)
        yield place, maker(name, value, place)


def of_format(form: object, place: str) -> Make | None:
    """What a ``response_format`` asks for; None: text. Raises InvalidRequestError for what it cannot ask for."""
    if form == AUTO:
        return None
    if not isinstance(form, Mapping):
        raise InvalidRequestError(f'{place} must be "{AUTO}" or an object with a type', param=place)
    name = form.get("type")
    if name == "text":
        return None
    if name == "json_object":
        schema = form.get("schema")  # llama.cpp's
        return maker("json_object", True, place) if schema is None else maker("json", schema, f"{place}.schema")
    if name != "json_schema":
        raise InvalidRequestError(
            f"{place}.type must be one of {', '.join(TYPES)}, not {str(name)[:40]!r}", param=f"{place}.type"
        )
    return _of_named(form.get("json_schema"), f"{place}.json_schema")


def _of_named(named: object, place: str) -> Make:
    if not isinstance(named, Mapping):
        raise InvalidRequestError(f"{place} must be an object with name and schema, not {kind(named)}", param=place)
    name = named.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidRequestError(
            f"{place}.name must be a name of 1 to {MAX_NAME} letters, digits, _ and -", param=f"{place}.name"
        )
    if not isinstance(named.get("strict"), bool | None):
        raise InvalidRequestError(f"{place}.strict must be true or false", param=f"{place}.strict")
    if named.get("schema") is None:
        raise InvalidRequestError(f"{place}.schema is required", param=f"{place}.schema")
    beside = {name: named[name] for name in ("name", "description", "strict") if named.get(name) is not None}
    return lambda: constrained.of_schema(_parsed(named["schema"], f"{place}.schema"), f"{place}.schema", beside)


def maker(what: str, value: Any, place: str) -> Make:
    """Makes the constraint when it is known to be the only one."""
    if what == "json_object":
        return lambda: constrained.of_any_object(place)
    if what == "json":
        return lambda: constrained.of_schema(_parsed(value, place), place)
    if what == "choice":
        return lambda: constrained.of_choice(_texts(value, place), place)
    if not isinstance(value, str):
        raise InvalidRequestError(f"{place} must be a string, not {kind(value)}", param=place)
    return lambda: (constrained.of_regex if what == "regex" else constrained.of_grammar)(value, place)


def _parsed(value: Any, place: str) -> Any:
    """A schema may come as JSON within a string."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"{place} must be a JSON schema: {error}", param=place) from error


def _texts(value: Any, place: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidRequestError(f"{place} must be a list of strings", param=place)
    return value
