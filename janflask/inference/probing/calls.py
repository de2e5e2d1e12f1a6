"""How a chat template's model writes its calls, found out by rendering an answer with calls in it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from janflask.inference.probing.texts import prefix, suffix
from janflask.parsing.call_parser import CallParser
from janflask.parsing.calls import ANY, CallRules, Kind
from janflask.parsing.markers import TAG

NAMES = ("Qz7first7zQ", "Qz8second8zQ")
IDS = ("call00001", "call00002")  # of nine letters and digits: some templates take no others
KEYS = ("Qz7karg7zQ", "Qz8knum8zQ")
VALUES = ("Qz7value7zQ", 4277)
ARGUMENTS = {KEYS[0]: VALUES[0], KEYS[1]: VALUES[1]}
_PROPERTIES = {KEYS[0]: {"type": "string", "description": "It."}, KEYS[1]: {"type": "integer", "description": "It."}}
SCHEMA = {"type": "object", "properties": _PROPERTIES}
SCHEMAS = dict.fromkeys(NAMES, SCHEMA)

_OBJECT = re.compile(rf'\{{\s*"{KEYS[0]}":\s*"{VALUES[0]}",\s*"{KEYS[1]}":\s*{VALUES[1]}\s*\}}')
_NAME_KEY = re.compile(r'\{\s*(?:"\w+":\s*"[^"]*",\s*)*"(\w+)":\s*"$')
_ARGUMENTS_KEY = re.compile(r'^",\s*"(\w+)":\s*$')
_IN_LIST = re.compile(r"^(.*?)\s*(?:```json\s*)?\[?\s*$", re.DOTALL)
_OUT_OF_LIST = re.compile(r"^(?:,\s*\"\w+\":\s*\"[^\"]*\")*\s*\}\s*\]?\s*(?:```)?\s*")
_TAG_START, _TAG_END = re.compile(r"[<\[]"), re.compile(r"[>\]]")


@dataclass(frozen=True, slots=True)
class Shown:
    """Answers as a template writes them, from what asks for one on: one call, two calls, and words alone."""

    one: str
    two: str
    turn_end: str  # what follows the words


def call_rules(shown: Shown) -> CallRules | None:
    """None: they are written in a way that is not known here."""
    anonymous = Shown(_without_ids(shown.one), _without_ids(shown.two), shown.turn_end)
    for find in (_json, _named, _tagged):
        rules = find(anonymous)
        if rules is not None and _holds(rules, shown):
            return rules
    return None


def _without_ids(text: str) -> str:
    return text.replace(IDS[0], ANY).replace(IDS[1], ANY)


def _holds(rules: CallRules, shown: Shown) -> bool:
    """Whether calls that the template wrote are found by ``rules``: the one, and both of the two if it shows two."""
    if any(name in marker for name in NAMES for marker in rules.markers):
        return False
    expected = [(name, ARGUMENTS) for name in NAMES]
    return parsed(rules, shown.one) == expected[:1] and parsed(rules, shown.two) in (expected, expected[:1], [])


def parsed(rules: CallRules, text: str) -> list[tuple[str, object]]:
    """The names and arguments of the calls that a text holds from its first trigger on."""
    start = min((place for word in rules.triggers or ("{",) if (place := text.find(word)) >= 0), default=-1)
    calls: list[tuple[str, list[str]]] = []
    while start >= 0:
        parser = CallParser(rules, SCHEMAS, 0, len(calls), set())
        deltas, rest = parser.feed(text[start:], closed=True)
        for delta in deltas:
            if delta.name is not None:
                calls.append((delta.name, []))
            else:
                calls[-1][1].append(delta.arguments)
        again = rest is not None and parser.kept > 0 and rest.strip().startswith(rules.triggers or ("{",))
        text, start = (rest or "").strip(), 0 if again else -1
    return [(name, _loaded("".join(pieces))) for name, pieces in calls]


def _loaded(arguments: str) -> object:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _found(text: str) -> tuple[str, str, re.Match[str]] | None:
    """What stands before a call's name, what between it and the arguments, and these, as one object."""
    arguments = _OBJECT.search(text)
    name = text.rfind(NAMES[0], 0, arguments.start()) if arguments else -1
    if arguments is None or name < 0:
        return None
    return text[:name], text[name + len(NAMES[0]) : arguments.start()], arguments


def _json(shown: Shown) -> CallRules | None:
    found = _found(shown.one)
    if found is None:
        return None
    before, between, arguments = found
    named, keyed = _NAME_KEY.search(before), _ARGUMENTS_KEY.match(between)
    if named and keyed:
        keys, place = (named[1], keyed[1]), named.start()
    elif before.rstrip().endswith('{"') and re.fullmatch(r'":\s*', between):
        keys, place = ("", ""), before.rindex("{")
    else:
        return None
    lead = _IN_LIST.match(before[:place])
    start = lead[1].strip() if lead else ""
    rest = _OUT_OF_LIST.sub("", shown.one[arguments.end() :], count=1)
    end = _first_tag(_without_turn_end(rest, shown.turn_end))
    return CallRules(Kind.JSON, start=start, end=end, name_key=keys[0], arguments_key=keys[1])


def _named(shown: Shown) -> CallRules | None:
    found = _found(shown.one)
    if found is None:
        return None
    start, name_end, arguments = found
    between = _between(shown.two, arguments.group())
    last = shown.two if between else shown.one  # some templates end the calls only where there are several
    after = _without_turn_end(last.rpartition(arguments.group())[2], shown.turn_end)
    section, start, end, section_end = _sections(start, after, between)
    return CallRules(
        Kind.NAMED, section=section, section_end=section_end, start=start, end=end, name_end=_pattern(name_end)
    )


def _tagged(shown: Shown) -> CallRules | None:
    places = [shown.one.find(text) for text in (*KEYS, str(VALUES[0]), str(VALUES[1]))]
    key, other_key, value, other_value = places
    name = shown.one.rfind(NAMES[0], 0, max(key, 0))
    if min(places) < 0 or name < 0 or shown.one.count(KEYS[0]) > 1 or not key < value < other_key < other_value:
        return None
    lead = shown.one[name + len(NAMES[0]) : key]
    gap = shown.one[value + len(str(VALUES[0])) : other_key]
    key_mark = _from_tag(suffix(lead, gap))
    value_end = gap.removesuffix(key_mark).strip()
    name_end = lead.removesuffix(key_mark)
    key_ends = shown.one[key + len(KEYS[0]) : value], shown.one[other_key + len(KEYS[1]) : other_value]
    rest = shown.one[other_value + len(str(VALUES[1])) :].lstrip()
    if not key_mark or not value_end or not rest.startswith(value_end):
        return None
    after = _without_turn_end(rest.removeprefix(value_end), shown.turn_end)
    between = _between(shown.two, f"{VALUES[1]}", value_end)
    section, start, end, section_end = _sections(shown.one[:name], after, between)
    return CallRules(
        Kind.TAGGED,
        section=section,
        section_end=section_end,
        start=start,
        end=end,
        name_end=_pattern(name_end),
        key=key_mark,
        key_end=_either(*key_ends),
        value_end=value_end,
        is_framed=key_ends[0].endswith("\n") and gap.startswith("\n"),
    )


def _between(two: str, last: str, value_end: str = "") -> str:
    """What stands between the first call's end and the second one's name."""
    name = two.find(NAMES[1])
    place = two.rfind(last, 0, name) if name >= 0 else -1
    return two[place + len(last) : name].lstrip().removeprefix(value_end) if place >= 0 else ""


def _sections(start: str, after: str, between: str) -> tuple[str, str, str, str]:
    """What begins all calls, what each one, what ends each one, and what all."""
    start, after = start.strip(), after.strip()
    if not between:
        return "", start, after, ""
    each = _from_tag(suffix(start, between))
    end = between.removesuffix(each).strip()
    section = start.removesuffix(each).strip()
    section_end = after.removeprefix(end).strip() if after.startswith(end) else after
    return section, each.strip(), end, _first_tag(section_end) if section else ""


def _first_tag(text: str) -> str:
    found = TAG.match(text)
    return found.group() if found else ""


def _without_turn_end(text: str, turn_end: str) -> str:
    same = suffix(text.rstrip(), turn_end.rstrip())
    tag = _TAG_START.search(same)
    return text.rstrip().removesuffix(same[tag.start() :] if tag else "").strip()


def _from_tag(text: str) -> str:
    """Without half a tag at its beginning."""
    tag, closing = _TAG_START.search(text), _TAG_END.search(text)
    if tag is None:
        return text.lstrip()
    is_half = closing is not None and closing.start() < tag.start()
    return text[tag.start() :] if is_half or not text[: tag.start()].strip() else text


def _pattern(text: str) -> str:
    """A regular expression for what stands behind a name: ids and numbers in it change."""
    pieces = [_escaped(piece) for piece in text.strip().split(ANY)]
    return re.sub(r"(?<![\w.\\])\d+(?!\w)", r"\\d+", r"(?P<id>[\w.\-]+)".join(pieces))


def _escaped(text: str) -> str:
    """Blanks are of no account."""
    return r"\s*".join(re.escape(word) for word in re.split(r"\s+", text))


def _either(one: str, other: str) -> str:
    """A regular expression for what stands behind a key, which may tell the value's type."""
    if one == other:
        return r"\s*" + _escaped(one.strip())
    before = prefix(one, other)
    after = suffix(one[len(before) :], other[len(before) :])
    return _escaped(before.lstrip()) + r"[^<>]{0,40}?" + _escaped(after.rstrip())
