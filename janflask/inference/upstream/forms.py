"""What an answer must look like, as each kind of server is asked for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from janflask.inference.forms.constrained import Form, FormKind

Spelling = Callable[[Form], dict[str, Any]]  # the fields of a body
NAME = "answer"  # of a schema that has none; OpenAI wants one
_ESCAPES = {"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


def _format(kind: str, **more: Any) -> dict[str, Any]:
    return {"response_format": {"type": kind, **more}}


def _named_schema(form: Form) -> dict[str, Any]:
    return _format("json_schema", json_schema={"name": NAME, **form.named, "schema": form.value})


def _structured(name: str) -> Spelling:
    return lambda form: {"structured_outputs": {name: form.value}}


def _gbnf_of_choice(form: Form) -> dict[str, Any]:
    return {"grammar": "root ::= " + " | ".join(f'"{_literal(text)}"' for text in form.value)}


def _literal(text: str) -> str:
    escaped = (_ESCAPES.get(letter, letter) for letter in text)
    return "".join(f"\\x{ord(letter):02x}" if letter < " " else letter for letter in escaped)


OPENAI: Mapping[FormKind, Spelling] = {
    FormKind.JSON_OBJECT: lambda form: _format("json_object"),
    FormKind.JSON_SCHEMA: _named_schema,
}
VLLM: Mapping[FormKind, Spelling] = {
    **OPENAI,
    FormKind.REGEX: _structured("regex"),
    FormKind.CHOICE: _structured("choice"),
    FormKind.GBNF: _structured("grammar"),
    FormKind.LARK: _structured("grammar"),
}
_GBNF: Mapping[FormKind, Spelling] = {
    FormKind.CHOICE: _gbnf_of_choice,
    FormKind.GBNF: lambda form: {"grammar": form.value},
}
LLAMA_SERVER: Mapping[FormKind, Spelling] = {
    **_GBNF,
    FormKind.JSON_OBJECT: lambda form: {"json_schema": {"type": "object"}},
    FormKind.JSON_SCHEMA: lambda form: {"json_schema": form.value},
}
LLAMA_CPP_PYTHON: Mapping[FormKind, Spelling] = {
    **_GBNF,
    FormKind.JSON_OBJECT: lambda form: _format("json_object"),
    FormKind.JSON_SCHEMA: lambda form: _format("json_object", schema=form.value),  # it passes over json_schema
}
LLAMA_CPP_PYTHON_TEXT = _GBNF  # its legacy completions have no response_format
