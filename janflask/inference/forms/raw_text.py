"""Texts that stand in a call as they are, without quotes: what they may be under a schema, as a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from janflask.inference.forms.lark import Lark
from janflask.inference.forms.schema_forms import Schema, has_type
from janflask.parsing.lark import escaped, expression, literal

MOST = 2000  # characters that are counted: longer texts are checked only
_LONG, _SHORT = r"(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])", r"(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
_DAY = rf"[0-9]{{4}}-(?:{_LONG}|{_SHORT}|02-(?:0[1-9]|1[0-9]|2[0-8]))"
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?(?:Z|[+\-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9\-]{0,61}[a-zA-Z0-9])?"
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
FORMATS: Mapping[str, str] = {
    "date": _DAY,
    "time": _TIME,
    "date-time": f"{_DAY}T{_TIME}",
    "duration": r"P(?:[0-9]{1,4}W|[0-9]{1,4}D|(?:[0-9]{1,4}D)?T[0-9]{1,4}[HMS])",
    "email": rf"[a-zA-Z0-9_+\-]{{1,32}}(?:\.[a-zA-Z0-9_+\-]{{1,32}}){{0,3}}@{_LABEL}(?:\.{_LABEL}){{1,3}}",
    "hostname": rf"{_LABEL}(?:\.{_LABEL}){{0,3}}",
    "ipv4": rf"{_BYTE}(?:\.{_BYTE}){{3}}",
    "ipv6": r"[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){7}",
    "uuid": r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
    "uri": r"[a-z][a-z0-9+.\-]{0,15}:(?://)?[a-zA-Z0-9_.~/?=&#:@!$'()*+,;\-]{1,500}",
}
_ANY = r"/(?s:.*)/"


def raw_text(lark: Lark, form: Schema, without: Iterable[str]) -> str | None:
    """A terminal's expression for a string that has none of ``without`` in it; None: there is no such string."""
    without = tuple(without)
    values = [form["const"]] if "const" in form else form.get("enum")
    if values is not None:
        texts = [value for value in values if has_type(value, ["string"]) and not any(map(value.__contains__, without))]
        return " | ".join(map(literal, texts)) or None
    wanted = [lark.terminal(expression(part)) for part in _parts(form)] or [lark.terminal(_ANY)]
    banned = [lark.terminal(rf"/(?s:.*){escaped(text)}(?s:.*)/") for text in without]
    return " & ".join([*wanted, *(f"~{name}" for name in banned)])


def is_free(form: Schema) -> bool:
    """Whether any text will do."""
    return not ({"enum", "const"} & form.keys()) and not list(_parts(form))


def _parts(form: Schema) -> Iterable[str]:
    least, most = form.get("minLength", 0), form.get("maxLength")
    most = most if isinstance(most, int) and most <= MOST else None
    if least or most is not None:
        yield f"(?s:.){{{min(least, MOST)},{'' if most is None else most}}}"
    if form.get("format") in FORMATS:
        yield FORMATS[form["format"]]
    pattern = whole(form.get("pattern"))
    if pattern is not None:
        yield pattern


def whole(pattern: Any) -> str | None:
    """A pattern of which a text has to hold a part, as an expression for the whole text; None: it cannot be had so."""
    if not isinstance(pattern, str):
        return None
    start = pattern.startswith("^")
    end = pattern.endswith("$") and not re.search(r"(?<!\\)(?:\\\\)*\\\$$", pattern)
    body = pattern[start : len(pattern) - end]
    bare = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "", body, flags=re.DOTALL)
    if re.search(r"[\^$]", bare) or ((start or end) and _has_alternatives(bare)):
        return None
    lead, rest = "" if start else "(?s:.*)", "" if end else "(?s:.*)"
    return f"{lead}(?:{body}){rest}"


def _has_alternatives(bare: str) -> bool:
    """Outside of all groups."""
    depth = 0
    for character in bare:
        depth += (character == "(") - (character == ")")
        if character == "|" and depth == 0:
            return True
    return False
