"""Calls in other notations than JSON: names, and arguments as JSON."""

from __future__ import annotations

import ast
import json
import re

QUOTE = '<|"|>'  # Gemma's, which no text holds

_KEY = re.compile(r"([{,]\s*)([^\s{}\[\],:]+)\s*:")
_NONE = re.compile(r"(?<=[:,\[])\s*None(?=\s*[,\]}])")  # its template writes null as Python has it
_GEMMA = re.compile(r"\s*([\w.\-]{1,128})\s*(\{.*\})\s*", re.DOTALL)

Calls = list[tuple[str, str]]


def python_calls(text: str) -> Calls | None:
    """A list of calls with keywords, ``[f(a=1), g()]``, or one of them. None: it is none.

    Nothing is run: Python's parser reads it, and only literals are values.
    """
    try:
        # A line break in a string is written as it is.
        tree = ast.parse(text.strip().replace("\n", "\\n"), mode="eval").body
        return [_python_call(node) for node in (tree.elts if isinstance(tree, ast.List) else [tree])]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None


def _python_call(node: ast.expr) -> tuple[str, str]:
    if not isinstance(node, ast.Call) or node.args or any(keyword.arg is None for keyword in node.keywords):
        raise ValueError("no call with keywords")
    values = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
    return ast.unparse(node.func), json.dumps(values, ensure_ascii=False, allow_nan=False)


def gemma_calls(text: str) -> Calls | None:
    """A name and an object whose keys and texts have no quotes but Gemma's own. None: it is none."""
    found = _GEMMA.fullmatch(text)
    if found is None:
        return None
    pieces = found[2].split(QUOTE)
    written = [json.dumps(piece, ensure_ascii=False) if n % 2 else _quoted(piece) for n, piece in enumerate(pieces)]
    try:
        value = json.loads("".join(written))
    except (ValueError, RecursionError):
        return None
    return [(found[1], json.dumps(value, ensure_ascii=False))] if isinstance(value, dict) else None


def _quoted(piece: str) -> str:
    return _NONE.sub("null", _KEY.sub(lambda key: f"{key[1]}{json.dumps(key[2], ensure_ascii=False)}:", piece))
