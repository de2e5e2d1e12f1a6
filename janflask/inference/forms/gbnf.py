"""llama.cpp's grammars (GBNF) in llguidance's dialect of Lark.

llguidance cuts a text into lexemes first, each as long as possible, where llama.cpp tries every way. So whatever of a
grammar is regular becomes one lexeme, as a whole: within a lexeme every way is tried here, too. The rules are those of
llama.cpp's ``grammars/README.md``; a grammar that it would refuse is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from janflask.errors import InvalidRequestError
from janflask.parsing.lark import code, literal

MAX_DEPTH = 64  # groups within groups
MAX_REPEAT = 2000
MAX_RULES = 1000

_TOKEN = re.compile(
    r"""(?P<space>[ \t]+|\#[^\r\n]*)|(?P<line>\r\n|\r|\n)|(?P<defines>::=)|(?P<name>[A-Za-z0-9_-]+)
    |(?P<text>"(?:[^"\\\r\n]|\\.)*")|(?P<set>\[(?:[^\]\\\r\n]|\\.)*\])|(?P<special>!?<[^>\r\n]*>)
    |(?P<repeat>[*+?]|\{[ ]*\d*[ ]*(?:,[ ]*\d*[ ]*)?\})|(?P<mark>[.()|])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r'\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([nrt"\\\[\]]))', re.DOTALL)
_LETTERS = {"n": "\n", "r": "\r", "t": "\t"}


def is_lark(text: str) -> bool:
    """Whether a grammar is Lark already."""
    return re.search(r"(?m)^\s*(?:%llguidance\b|start\s*(?:\[[^\]\n]*\]\s*)?:(?!:))", text) is not None


def lark_of(text: str, place: str) -> str:
    """The same grammar in Lark. Raises InvalidRequestError, which names ``place`` and the line."""
    rules = _Reader(text, place).rules()
    if "root" not in rules:
        raise InvalidRequestError(f"{place} has no rule named root", param=place, code="invalid_constraint")
    for name, rule in rules.items():
        for used in _names(rule):
            if used not in rules:
                raise InvalidRequestError(
                    f"{place}: the rule {name} uses {used}, which is not there", param=place, code="invalid_constraint"
                )
    return _Writer(rules).text()


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Node:
    """``kind``: lexeme (``text`` is Lark), name (``text``), sequence, choice, repeat (``text`` is Lark's operator)."""

    kind: str
    text: str = ""
    parts: tuple[Node, ...] = ()


def _names(node: Node) -> Iterator[str]:
    if node.kind == "name":
        yield node.text
    for part in node.parts:
        yield from _names(part)


class _Reader:
    def __init__(self, text: str, place: str) -> None:
        self._place = place
        self._tokens = list(self._cut(text))
        self._at = 0

    def _cut(self, text: str) -> Iterator[tuple[str, str, int]]:
        at, line = 0, 1
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise self._wrong(line, f"cannot be read from {text[at : at + 20]!r} on")
            kind = found.lastgroup or ""
            if kind != "space":
                yield kind, found.group(), line
            line += kind == "line"
            at = found.end()
        yield "end", "", line

    def _wrong(self, line: int, what: str) -> InvalidRequestError:
        return InvalidRequestError(f"{self._place} line {line}: {what}", param=self._place, code="invalid_constraint")

    def _peek(self) -> tuple[str, str, int]:
        return self._tokens[self._at]

    def _next(self) -> tuple[str, str, int]:
        self._at += 1
        return self._tokens[self._at - 1]

    def _skip_lines(self) -> None:
        while self._peek()[0] == "line":
            self._at += 1

    def rules(self) -> dict[str, Node]:
        found: dict[str, Node] = {}
        self._skip_lines()
        while self._peek()[0] != "end":
            kind, name, line = self._next()
            if kind != "name" or self._next()[0] != "defines":
                raise self._wrong(line, "must begin a rule, like name ::= ...")
            if name in found:
                raise self._wrong(line, f"defines {name} a second time")
            if len(found) == MAX_RULES:
                raise self._wrong(line, f"has too many rules: the limit is {MAX_RULES}")
            self._skip_lines()
            found[name] = self._choice(0)
            if self._peek()[0] not in ("line", "end"):
                raise self._wrong(self._peek()[2], f"does not go on with {self._peek()[1]!r}")
            self._skip_lines()
        return found

    def _choice(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._wrong(self._peek()[2], f"is nested too deep: the limit is {MAX_DEPTH} groups")
        parts = [self._sequence(depth)]
        while self._peek()[1] == "|":
            self._next()
            self._skip_lines()
            parts.append(self._sequence(depth))
        return parts[0] if len(parts) == 1 else Node("choice", parts=tuple(parts))

    def _sequence(self, depth: int) -> Node:
        parts: list[Node] = []
        while True:
            if depth:
                self._skip_lines()
            kind, text, line = self._peek()
            if kind in ("line", "end") or text in ("|", ")"):
                return Node("sequence", parts=tuple(parts))
            self._next()
            if kind == "repeat":
                if not parts:
                    raise self._wrong(line, f"has nothing that {text} could repeat")
                if parts[-1].kind == "repeat":
                    raise self._wrong(line, f"repeats what repeats already with {text}: put brackets around it")
                parts[-1] = Node("repeat", self._count(text, line), (parts[-1],))
            else:
                parts.append(self._item(kind, text, line, depth))

    def _item(self, kind: str, text: str, line: int, depth: int) -> Node:
        if kind == "name":
            return Node("name", text)
        if kind == "text":
            return Node("lexeme", literal(self._plain(text[1:-1], line)))
        if kind == "set":
            return Node("lexeme", self._set(text[1:-1], line))
        if text == ".":
            return Node("lexeme", r"/[\s\S]/")
        if text == "(":
            inner = self._choice(depth + 1)
            if self._next()[1] != ")":
                raise self._wrong(line, "has a group that does not end")
            return inner
        what = "names a token, which is not supported: write its text" if kind == "special" else "is no place for"
        raise self._wrong(line, f"{what} ({text})")

    def _plain(self, raw: str, line: int) -> str:
        return "".join(self._characters(raw, line))

    def _characters(self, raw: str, line: int) -> Iterator[str]:
        at = 0
        while at < len(raw):
            found = _ESCAPE.match(raw, at)
            if found is None and raw[at] == "\\":
                raise self._wrong(line, f"has an unknown escape {raw[at : at + 2]!r}")
            if found is None:
                yield raw[at]
                at += 1
                continue
            number = found[1] or found[2] or found[3]
            if number and (int(number, 16) > 0x10FFFF or 0xD800 <= int(number, 16) < 0xE000):
                raise self._wrong(line, f"has an escape that is no character: {found[0]}")
            yield chr(int(number, 16)) if number else _LETTERS.get(found[4], found[4])
            at = found.end()

    def _set(self, raw: str, line: int) -> str:
        negated = raw.startswith("^")
        characters = list(self._characters(raw.removeprefix("^"), line))
        if not characters:
            raise self._wrong(line, "has an empty set of characters")
        ranges, at = [], 0
        while at < len(characters):
            is_range = at + 2 < len(characters) and characters[at + 1] == "-"
            first, last = characters[at], characters[at + 2] if is_range else characters[at]
            if first > last:
                raise self._wrong(line, f"has a range that ends before it begins: {first}-{last}")
            ranges.append(code(first) if first == last else f"{code(first)}-{code(last)}")
            at += 3 if is_range else 1
        return f"/[{'^' * negated}{''.join(ranges)}]/"

    def _count(self, text: str, line: int) -> str:
        if text in ("*", "+", "?"):
            return text
        least, comma, most = text[1:-1].replace(" ", "").partition(",")
        if any(number and int(number) > MAX_REPEAT for number in (least, most)):
            raise self._wrong(line, f"repeats too often: the limit is {MAX_REPEAT} times")
        return f"{{{least or 0}{comma}{most}}}"


# --- writing ----------------------------------------------------------------------------------------------------------


class _Writer:
    def __init__(self, rules: dict[str, Node]) -> None:
        self._rules = rules
        self._regular = self._find_regular()
        self._names = {name: f"{'T' if name in self._regular else 'r'}{i}" for i, name in enumerate(rules)}
        self._lexemes: dict[str, str] = {}  # Lark's expression, and its name

    def _find_regular(self) -> set[str]:
        """The rules that lead to no rule that leads back to itself."""
        regular: set[str] = set()
        used = {name: set(_names(rule)) for name, rule in self._rules.items()}
        while found := {name for name in used if name not in regular and used[name] <= regular}:
            regular |= found
        return regular

    def text(self) -> str:
        lines = [f"{self._names[name]}: {self._expression(rule, name)}" for name, rule in self._rules.items()]
        lines += [f"{name}: {lexeme}" for lexeme, name in self._lexemes.items()]
        return "\n".join(["%llguidance {}", f"start: {self._names['root']}", *lines]) + "\n"

    def _expression(self, rule: Node, name: str) -> str:
        return self._lark(rule) if name in self._regular else self._rule(rule)

    def _is_regular(self, node: Node) -> bool:
        return all(name in self._regular for name in _names(node))

    def _lark(self, node: Node) -> str:
        if node.kind == "lexeme":
            return node.text
        if node.kind == "name":
            return self._names[node.text]
        if node.kind == "repeat":
            return f"({self._lark(node.parts[0])}){node.text}"
        if node.kind == "choice":
            return "(" + " | ".join(self._lark(part) for part in node.parts) + ")"
        return " ".join(self._grouped(part) for part in node.parts) or '""'

    def _grouped(self, node: Node) -> str:
        return f"({self._lark(node)})" if node.kind == "sequence" else self._lark(node)

    def _rule(self, node: Node) -> str:
        """Of what is not regular as a whole: the parts that are become lexemes."""
        if node.kind == "name":
            return self._names[node.text]
        if self._is_regular(node):
            return self._lexeme(node)
        if node.kind == "repeat":
            return f"({self._rule(node.parts[0])}){node.text}"
        if node.kind == "choice":
            return "(" + " | ".join(self._rule(part) for part in node.parts) + ")"
        out: list[str] = []
        run: list[Node] = []
        for part in node.parts:
            if self._is_regular(part):
                run.append(part)
                continue
            out += [self._lexeme(Node("sequence", parts=tuple(run)))] if run else []
            out.append(f"({self._rule(part)})")
            run = []
        out += [self._lexeme(Node("sequence", parts=tuple(run)))] if run else []
        return " ".join(out)

    def _lexeme(self, node: Node) -> str:
        lark = self._lark(node)
        if lark == '""' or (node.kind == "sequence" and len(node.parts) == 1 and node.parts[0].kind == "name"):
            return lark
        return self._lexemes.setdefault(lark, f"L{len(self._lexemes)}")
