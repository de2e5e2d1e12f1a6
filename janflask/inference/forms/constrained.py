"""What an answer must look like, from a request's fields to what an engine is asked, and by what the answer is checked.

An answer under a schema is checked when it is finished: llguidance holds the model to less than the schema where it
has to (``json_schema.py``), and differs from a validator in a few places even where it does not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import jsonschema_rs

from janflask.errors import InvalidRequestError
from janflask.inference.apart import remembered_apart
from janflask.inference.deltas import Event, Events, Finished, RefusalDelta, TextDelta
from janflask.inference.forms.gbnf import is_lark, lark_of
from janflask.inference.forms.json_schema import MAX_BYTES, prepare
from janflask.inference.forms.schema_formats import CHECKS
from janflask.ipc.messages.constraint import Constraint, ConstraintKind
from janflask.ipc.messages.generation import FinishReason

MAX_RULES = 2000  # of a grammar: one that leads to the next is followed by recursion
MAX_CHOICES = 10_000
_RULE = re.compile(r"(?m)^[ \t]*[?!]?\w[\w.-]*\s*(?:\[[^\]\n]*\]\s*)?:")  # what begins one in Lark
LOOSE_SPACE = r"[ \t]{1,4}|\r?\n[ \t]{0,16}"  # in a free JSON object: a model may indent, and not go on for ever
_BACKTRACKING = 100_000  # steps that a pattern may take over an answer


class FormKind(Enum):
    """What an answer is to look like; the values are for error messages."""

    JSON_OBJECT = "a JSON object as the form of an answer"
    JSON_SCHEMA = "a JSON schema for the answer"
    REGEX = "a regular expression for the answer"
    CHOICE = "a choice of answers"
    GBNF = "a grammar for the answer"
    LARK = "a grammar in Lark for the answer"


@dataclass(frozen=True, slots=True)
class Form:
    """What an answer must look like in the client's own words, for servers that have a way of their own to see to it.

    ``value`` is a schema, a pattern, the texts of a choice, a grammar, or None. ``named`` is what stands beside the
    schema in ``response_format.json_schema``.
    """

    kind: FormKind
    value: Any = None
    named: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Constrained:
    """``schema`` is JSON's, as text: a finished answer is checked by it. None: the answer needs no check."""

    constraint: Constraint
    form: Form
    schema: str | None = None


def of_schema(schema: object, place: str, named: Mapping[str, Any] | None = None) -> Constrained:
    """Raises InvalidRequestError for a schema that is none, or that answers cannot be held to. ``named``: see Form."""
    text = json_text(schema, place)
    _check_size(text, place)
    prepared = prepare(schema, place)
    checked = json.dumps(prepared.checked)
    _check_schema(checked, place)
    constraint = Constraint(kind=ConstraintKind.JSON_SCHEMA, text=json.dumps(prepared.held), name=place)
    return Constrained(constraint, Form(FormKind.JSON_SCHEMA, schema, named or {}), checked)


def of_any_object(place: str) -> Constrained:
    """A JSON object with anything in it."""
    schema = '{"type": "object"}'
    constraint = Constraint(kind=ConstraintKind.JSON_SCHEMA, text=schema, whitespace=LOOSE_SPACE, name=place)
    return Constrained(constraint, Form(FormKind.JSON_OBJECT), schema)


def of_regex(pattern: str, place: str) -> Constrained:
    """The whole answer matches."""
    return _of_regex(pattern, place, Form(FormKind.REGEX, pattern))


def of_choice(choices: Sequence[str], place: str) -> Constrained:
    """The answer is one of ``choices``."""
    if not choices or len(choices) > MAX_CHOICES:
        raise InvalidRequestError(f"{place} must hold from 1 to {MAX_CHOICES} texts", param=place)
    return _of_regex("|".join(re.escape(choice) for choice in choices), place, Form(FormKind.CHOICE, tuple(choices)))


def of_grammar(text: str, place: str) -> Constrained:
    """llama.cpp's GBNF, or llguidance's Lark. Raises InvalidRequestError for GBNF that is wrong."""
    _check_size(text, place)
    form = Form(FormKind.LARK if is_lark(text) else FormKind.GBNF, text)
    lark = text if form.kind is FormKind.LARK else lark_of(text, place)
    if len(_RULE.findall(lark)) > MAX_RULES:
        raise InvalidRequestError(f"{place} has too many rules: the limit is {MAX_RULES}", param=place)
    return Constrained(Constraint(kind=ConstraintKind.GRAMMAR, text=lark, name=place), form)


def _of_regex(pattern: str, place: str, form: Form) -> Constrained:
    _check_size(pattern, place)
    return Constrained(Constraint(kind=ConstraintKind.REGEX, text=pattern, name=place), form)


def json_text(schema: object, place: str) -> str:
    """A schema as text. Raises InvalidRequestError for what is no JSON."""
    try:
        return json.dumps(schema, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"{place} must be JSON: {error}", param=place) from error


def _check_size(text: str, place: str) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise InvalidRequestError(f"{place} is too long: {size} bytes, the limit is {MAX_BYTES}", param=place)


# --- the check of an answer -------------------------------------------------------------------------------------------


@remembered_apart(256)  # an agent has some 60 tools
def _validator(schema: str) -> jsonschema_rs.Validator:
    """Nothing is fetched, and no pattern runs for long."""
    return jsonschema_rs.Draft202012Validator(
        json.loads(schema),
        validate_formats=True,
        formats=dict(CHECKS),
        offline=True,
        pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACKING),
    )


def _check_schema(schema: str, place: str) -> None:
    try:
        _validator(schema)
    except (jsonschema_rs.ValidationError, ValueError) as error:
        path = getattr(error, "instance_path", [])
        param = ".".join([place, *map(str, path)])
        raise InvalidRequestError(
            f"{param} is no valid JSON schema: {str(getattr(error, 'message', error))[:500]}",
            param=param,
            code="invalid_schema",
        ) from error


def objection(schema: str, answer: str, what: str = "the answer") -> str | None:
    """Why a finished answer does not meet the schema; None: it does. ``what`` it is called."""
    try:
        document: Any = json.loads(answer)
    except (ValueError, RecursionError) as error:
        return f"{what} is not the JSON that was asked for: {error}"
    found = next(_validator(schema).iter_errors(document), None)
    if found is None:
        return None
    place = "/".join(map(str, found.instance_path))
    return f"{what} does not meet the schema: {found.message[:300]}" + (f" (at {place})" if place else "")


def checked(events: Events, constrained: Constrained | None, begun: Callable[[], str] = str) -> Events:
    """The same events, with a ``RefusalDelta`` in front of the end of an answer that is not what was asked for.

    An answer that its limit has cut is not finished, and is not checked; neither is one that says itself that it is
    none. What was ``begun`` of it, asked for at its end, may be a part of what was asked for, or stand before it.
    """
    if constrained is None or constrained.schema is None:
        yield from events
        return
    texts: dict[int, list[str]] = {}
    refused: set[int] = set()
    with closing(events):
        for batch in events:
            out: list[Event] = []
            for event in batch:
                if isinstance(event, TextDelta):
                    texts.setdefault(event.index, []).append(event.text)
                elif isinstance(event, RefusalDelta):
                    refused.add(event.index)
                elif isinstance(event, Finished) and event.reason == FinishReason.STOP and event.index not in refused:
                    said = "".join(texts.pop(event.index, []))
                    reason = objection(constrained.schema, said)
                    if reason is not None and (before := begun()):
                        reason = objection(constrained.schema, before + said)
                    if reason is not None:
                        yield out  # what was said before is out, whatever becomes of the refusal
                        out = [RefusalDelta(event.index, reason)]
                out.append(event)
            yield out
