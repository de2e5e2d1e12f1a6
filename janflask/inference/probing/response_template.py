"""``response_template`` of model.json: how a model's answers are to be read, instead of what its chat template shows.

Two forms are taken: Hugging Face's, which tokenizers have beside their chat template (``fields`` with ``open``,
``close`` and a content parser), and ours (``reasoning`` and ``calls``). Hugging Face's parsers read an answer that is
finished; ours tell it as it grows, so that a template is turned into rules, and one that is more than rules is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

import msgspec

from janflask.decoding import convert
from janflask.errors import ConflictError
from janflask.inference.forms.simple_patterns import Part, Pieces, alternatives, expression, marker
from janflask.parsing.calls import CallRules, Kind
from janflask.parsing.rules import AnswerRules, Reasoning

T = TypeVar("T")

NAME = "response_template"
MAX_PATTERN = 2000  # characters
REASONING = ("reasoning_content", "reasoning", "thinking")  # names of the field for it
GEMMA_TEXT = [['<|"|>', '<|"|>']]
_PLACE = re.compile(r"\{(?:content\.)?(\w+)\}")
# What a template may have that changes nothing here: who speaks, where an answer begins, whether a field comes again.
_TEMPLATE = {"version", "defaults", "fields", "start_anchor", "start_anchor_pattern"}
_FIELD = {"open", "open_pattern", "close", "close_pattern", "content", "content_args", "transform", "transform_each"}
_FIELD |= {"repeats", "join", "optional"}
_PATTERNS = ("name_end", "key_end")  # of our own form
_OWN = {"reasoning", "calls", "wraps", "ends"}


class _TemplateError(ValueError):
    """What of a template cannot be turned into rules, with its place."""


def overruled(rules: AnswerRules, given: object) -> AnswerRules:
    """``rules`` with what a model's ``response_template`` says. Raises ConflictError, which names what cannot be."""
    try:
        if not isinstance(given, Mapping):
            raise _TemplateError("it is no object")
        return _hugging_face(given) if "fields" in given else _own(rules, given)
    except _TemplateError as error:
        raise ConflictError(f"the {NAME} in the model's model.json cannot be used: {error}") from None


# --- ours -------------------------------------------------------------------------------------------------------------


def _own(rules: AnswerRules, given: Mapping[str, Any]) -> AnswerRules:
    """What it names; the rest stays as the chat template shows it. A null is none."""
    _known(given, _OWN | {"version"}, "")
    _version(given)
    found: dict[str, Any] = {}
    if "reasoning" in given:
        found["reasoning"] = None if given["reasoning"] is None else _struct(given, "reasoning", Reasoning)
        if found["reasoning"] and not (found["reasoning"].start.strip() and found["reasoning"].end.strip()):
            raise _TemplateError("reasoning.start and reasoning.end must be texts")
    if "calls" in given:
        calls = _whole(_struct(given, "calls", CallRules))
        ends: dict[str, Any] = {
            name: _expression(_one(getattr(calls, name), f"calls.{name}"), f"calls.{name}") for name in _PATTERNS
        }
        found["calls"] = replace(calls, **ends)
    for name in {"wraps", "ends"} & set(given):
        found[name] = _texts(given[name], name)
    return replace(rules, **found)


def _struct(given: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = given[name]
    if not isinstance(value, Mapping):
        raise _TemplateError(f"{name} must be an object")
    _known(value, {field.name for field in fields(kind)}, f"{name}.")  # type: ignore[arg-type]
    try:
        made = convert(value, kind)
    except msgspec.ValidationError as error:
        raise _TemplateError(f"{name}: {error}") from None
    return made


def _whole(rules: CallRules) -> CallRules:
    """The same, if what the kind needs is there."""
    needed = {
        Kind.JSON: ("arguments_key",) if rules.name_key else (),
        Kind.NAMED: ("start",),
        Kind.PYTHON: ("start", "end"),
        Kind.GEMMA: ("start", "end"),
    }.get(rules.kind, ("start", "key", "key_end", "value_end"))
    missing = [name for name in needed if not getattr(rules, name)]
    if missing:
        raise _TemplateError(f"calls.{missing[0]} must be there for the kind {rules.kind.value}")
    if rules.kind in (Kind.TAGGED, Kind.ELEMENTS) and not (rules.end or rules.section_end):
        raise _TemplateError(f"calls.end or calls.section_end must be there for the kind {rules.kind.value}")
    return rules


# --- Hugging Face's ---------------------------------------------------------------------------------------------------


def _hugging_face(given: Mapping[str, Any]) -> AnswerRules:
    _known(given, _TEMPLATE, "")
    _version(given)
    listed = given["fields"]
    if not isinstance(listed, Mapping) or not listed:
        raise _TemplateError("fields must be an object with one field or more")
    rules = AnswerRules()
    for name, field in listed.items():
        where = f"fields.{name}"
        if not isinstance(field, Mapping):
            raise _TemplateError(f"{where} must be an object")
        _known(field, _FIELD, f"{where}.")
        if name in REASONING:
            rules = replace(rules, reasoning=_thoughts(field, where))
        elif name == "content":
            _plain(field, where)
            wraps, ends = _markers(field, "open", where), _markers(field, "close", where)
            rules = replace(rules, wraps=wraps, ends=ends)
        elif name == "tool_calls":
            rules = replace(rules, calls=_calls(field, where))
        else:
            raise _TemplateError(f"{where} has no place in an answer: there are {REASONING[0]}, content and tool_calls")
    return rules


def _version(given: Mapping[str, Any]) -> None:
    if given.get("version", 1) != 1:
        raise _TemplateError(f"version {given['version']!r} is not known: there is 1")


def _thoughts(field: Mapping[str, Any], where: str) -> Reasoning:
    _plain(field, where)
    starts, ends = _markers(field, "open", where), _markers(field, "close", where)
    if len(starts) != 1 or len(ends) != 1:
        raise _TemplateError(f"{where} must have one text in open and one in close")
    return Reasoning(starts[0], ends[0], _written(field, "open"), _written(field, "close"))


def _written(field: Mapping[str, Any], name: str) -> str:
    """A marker with its blanks, where it is given as a text."""
    value = field.get(name)
    return value if isinstance(value, str) else ""


def _plain(field: Mapping[str, Any], where: str) -> None:
    if field.get("content", "text") != "text" or field.get("transform") is not None:
        raise _TemplateError(f"{where}.content must be text, without a transform: it is told as it grows")


def _calls(field: Mapping[str, Any], where: str) -> CallRules:
    args = field.get("content_args") or {}
    if not isinstance(args, Mapping):
        raise _TemplateError(f"{where}.content_args must be an object")
    opens, end = _anchors(field, "open", where), _last(_markers(field, "close", where), where)
    if not opens:
        raise _TemplateError(f"{where} must have open or open_pattern")
    match field.get("content", "text"):
        case "json" if any(piece.part is Part.NAMED and piece.text == "name" for piece in opens[0]):
            return _named(opens, end, args, where)
        case "json":
            _known(args, set(), f"{where}.content_args.")
            starts = [_marker(pieces, f"{where}.open") for pieces in opens]
            name_key, arguments_key = _keys(field, where)
            others = tuple(starts[1:])
            return CallRules(
                Kind.JSON, start=starts[0], others=others, end=end, name_key=name_key, arguments_key=arguments_key
            )
        case "xml-inline":
            return _tagged(opens, end, args, where)
        case "python-call-list":
            _known(args, set(), f"{where}.content_args.")
            start = _marker(_single(opens, f"{where}.open"), f"{where}.open")
            return _whole(CallRules(Kind.PYTHON, start=start, end=end))
        case other:
            raise _TemplateError(f"{where}.content {other!r} cannot be read: json, xml-inline and python-call-list can")


def _named(opens: tuple[Pieces, ...], end: str, args: Mapping[str, Any], where: str) -> CallRules:
    start, name_end = _around_name(opens, where)
    if args.get("string_delims") == GEMMA_TEXT and args.get("unquoted_keys") and len(args) == 2:
        return _whole(CallRules(Kind.GEMMA, start=start, end=end))
    _known(args, set(), f"{where}.content_args.")
    return CallRules(Kind.NAMED, start=start, end=end, name_end=name_end)


def _around_name(opens: tuple[Pieces, ...], where: str) -> tuple[str, str]:
    """What stands before a call's name, and an expression for what stands behind it."""
    pieces = _single(opens, f"{where}.open_pattern")
    place = next((n for n, piece in enumerate(pieces) if piece.part is Part.NAMED and piece.text == "name"), None)
    if place is None:
        raise _TemplateError(f"{where}.open_pattern must have the tool's name in it, as (?P<name>...)")
    behind = _expression(pieces[place + 1 :], f"{where}.open_pattern")
    return _marker(pieces[:place], f"{where}.open_pattern before the name"), behind


def _tagged(opens: tuple[Pieces, ...], end: str, args: Mapping[str, Any], where: str) -> CallRules:
    _known(args, {"tag_pattern", "value_parser"}, f"{where}.content_args.")
    start, name_end = _around_name(opens, where)
    place = f"{where}.content_args.tag_pattern"
    pieces = _one(args.get("tag_pattern"), place)
    named = {piece.text: n for n, piece in enumerate(pieces) if piece.part is Part.NAMED}
    if set(named) != {"key", "value"} or named["key"] > named["value"]:
        raise _TemplateError(f"{place} must have a key and then a value, as (?P<key>...) and (?P<value>...)")
    behind = pieces[named["value"] + 1 :]
    rules = CallRules(
        Kind.TAGGED,
        start=start,
        end=end,
        name_end=name_end,
        key=_marker(pieces[: named["key"]], place),
        key_end=_expression(_without_last_blank(pieces[named["key"] + 1 : named["value"]]), place),
        value_end=_marker(behind, place),
        is_framed=bool(behind) and behind[0].part is Part.BLANK,
    )
    return _whole(rules)


def _keys(field: Mapping[str, Any], where: str) -> tuple[str, str]:
    """Where in a call's object its name and its arguments are."""
    transform = field.get("transform")
    function = transform.get("function", transform) if isinstance(transform, Mapping) else transform
    if function is None or function == "{content}":
        return "name", "arguments"
    found = []
    for name in ("name", "arguments"):
        said = function.get(name) if isinstance(function, Mapping) else None
        place = _PLACE.fullmatch(said) if isinstance(said, str) else None
        if place is None:
            raise _TemplateError(f"{where}.transform must say where {name} is, as {{content.{name}}} or {{{name}}}")
        found.append(place[1])
    return found[0], found[1]


# --- parts of both ----------------------------------------------------------------------------------------------------


def _known(given: object, names: set[str], where: str) -> None:
    if not isinstance(given, Mapping):
        raise _TemplateError(f"{where.rstrip('.')} must be an object")
    unknown = sorted(set(given) - names)
    if unknown:
        raise _TemplateError(f"{where}{unknown[0]} is not known here")


def _anchors(field: Mapping[str, Any], name: str, where: str) -> tuple[Pieces, ...]:
    """Each way in which a field opens or closes; none: it does not say."""
    text, pattern = field.get(name), field.get(f"{name}_pattern")
    if text is not None and pattern is not None:
        raise _TemplateError(f"{where} has both {name} and {name}_pattern")
    if text is not None:
        written = [text] if isinstance(text, str) else text
        return tuple(_pieces(re.escape(one), f"{where}.{name}")[0] for one in _texts(written, f"{where}.{name}"))
    return () if pattern is None else _pieces(pattern, f"{where}.{name}_pattern")


def _markers(field: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    return tuple(_marker(pieces, f"{where}.{name}") for pieces in _anchors(field, name, where))


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(text, str) and text.strip() for text in value):
        raise _TemplateError(f"{where} must be a list of texts")
    return tuple(value)


def _pieces(pattern: object, where: str) -> tuple[Pieces, ...]:
    if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN:
        raise _TemplateError(f"{where} must be a text of at most {MAX_PATTERN} characters")
    try:
        return alternatives(pattern)
    except ValueError as error:
        raise _TemplateError(f"{where}: {error}") from None


def _one(pattern: object, where: str) -> Pieces:
    found = _pieces(pattern, where)
    return _single(found, where) if found else ()


def _single(found: tuple[Pieces, ...], where: str) -> Pieces:
    if len(found) != 1:
        raise _TemplateError(f"{where} must have one form, and no choice of some")
    return found[0]


def _last(ends: tuple[str, ...], where: str) -> str:
    if len(ends) > 1:
        raise _TemplateError(f"{where}.close must have one form, and no choice of some")
    return ends[0] if ends else ""


def _marker(pieces: Pieces, where: str) -> str:
    try:
        return marker(pieces)
    except ValueError as error:
        raise _TemplateError(f"{where}: {error}") from None


def _expression(pieces: Pieces, where: str) -> str:
    try:
        return expression(pieces)
    except ValueError as error:
        raise _TemplateError(f"{where}: {error}") from None


def _without_last_blank(pieces: Pieces) -> Pieces:
    return pieces[:-1] if pieces and pieces[-1].part is Part.BLANK else pieces
