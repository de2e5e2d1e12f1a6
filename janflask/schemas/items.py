"""Items of a conversation as clients send them: what was said, thought and called, and what calls gave back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields

from janflask.inference.calls.functions import NAME, NAME_ERROR
from janflask.inference.leftovers import of_part
from janflask.inference.parts import GAP
from janflask.schemas.fields import MAX_CALL_ID, Text, call_id_in, kind, one_of, text_in, within, wrong_type
from janflask.schemas.messages import MAX_ANNOTATIONS, MAX_PARTS
from janflask.schemas.objects import check_object, each
from janflask.schemas.sampling import Base
from janflask.storage.items import (
    CallDraft,
    ItemDraft,
    ItemKind,
    ItemReference,
    OutputDraft,
    ReasoningDraft,
    SealedDraft,
)
from janflask.storage.records import MessageDraft

MAX_ITEMS = 10_000  # as many as a chat may have messages
ROLES = ("user", "assistant", "system", "developer")
STATUSES = ("in_progress", "completed", "incomplete")
LOGPROBS = "message.output_text.logprobs"
SEALED = "reasoning.encrypted_content"
# What a client may want told of items beside what always is. All but the first two are of things that are not here.
INCLUDABLE = (
    SEALED,
    LOGPROBS,
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "code_interpreter_call.outputs",
)
_WORDS = ("input_text", "output_text", "text")


def places(field: str, count: int) -> tuple[str, ...]:
    """Where in a request the items of a list are, for errors that are found later."""
    return tuple(f"{field}.{number}" for number in range(count))


class Items(fields.Field[tuple[ItemDraft, ...]]):
    """A list of items."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[ItemDraft, ...]:
        return item_drafts(value)


def items_field(description: str, **kwargs: Any) -> Items:
    """A list of items, with its documentation."""
    # The limit is told in words: whoever tries out what a document says would send as many.
    about = {"description": f"{description} {MAX_ITEMS} at most.", "type": "array", "items": ITEM_SCHEMA}
    return Items(error_messages={"required": "is required", "null": "must not be null"}, metadata=about, **kwargs)


def item_drafts(value: object) -> tuple[ItemDraft, ...]:
    """A list of items. Raises ValidationError with the errors of all of them."""
    return tuple(each(value, item_draft, "a list of items", MAX_ITEMS))


def item_draft(value: object) -> ItemDraft:
    """One item. Raises ValidationError, also for what no model here could be shown."""
    if not isinstance(value, dict):
        raise wrong_type('an object like {"role": "user", "content": "..."}', value)
    word = value.get("type")
    if word is None:
        word = "message" if "role" in value else "item_reference" if "id" in value else None
    make = _KINDS.get(word) if isinstance(word, str) else None
    if make is None:
        known = ", ".join(name for name in _KINDS if name not in _OTHER_NAMES)
        what = repr(word[:64]) if isinstance(word, str) else kind(word)
        raise ma.ValidationError(
            {"type": [f"must be one of {known}, not {what}: no model here can be shown anything else, leave it out"]}
        )
    return make(value)


def _include_field(**kwargs: Any) -> fields.List[str]:
    about = {"description": f"What is told beside what always is. Of use here: `{SEALED}`."}
    return fields.List(Text(validate=one_of(INCLUDABLE)), metadata=about, **kwargs)


class IncludeQuerySchema(Base):
    """What is told of items beside what always is. OpenAI's Python SDK sends the name with brackets."""

    include = _include_field()
    include_in_brackets = _include_field(data_key="include[]")

    @ma.post_load
    def join(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Both are one."""
        data["include"] = frozenset((*data.pop("include", ()), *data.pop("include_in_brackets", ())))
        return data


# --- what was said ----------------------------------------------------------------------------------------------------


def _message(value: dict[str, Any]) -> ItemDraft:
    role = value.get("role")
    if role not in ROLES:
        raise ma.ValidationError({"role": [f"must be one of {', '.join(ROLES)}, not {str(role)[:40]!r}"]})
    content = value.get("content")
    if content is None:
        raise ma.ValidationError({"content": ["is required"]})
    if content == [] and role != "assistant":
        raise ma.ValidationError({"content": ["must not be empty"]})
    return MessageDraft(role=role, content=within("content", lambda: _content(content)))


def _content(content: object) -> tuple[dict[str, Any], ...]:
    """As messages are stored. One without any word still is one."""
    if isinstance(content, str) or content == []:
        return (_text_part(content or "", []),)
    return tuple(each(content, _part, "a string or a list of parts", MAX_PARTS))


def _part(part: object) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise wrong_type('an object like {"type": "input_text", "text": "..."}', part)
    if part.get("type") == "refusal":
        return {"type": "refusal", "refusal": text_in(part, "refusal")}
    text = _words(part)
    annotations = part.get("annotations")
    if annotations is None:
        return _text_part(text, [])
    checked = within("annotations", lambda: each(annotations, check_object, "a list of objects", MAX_ANNOTATIONS))
    return _text_part(text, checked)


def _text_part(text: object, annotations: list[Any]) -> dict[str, Any]:
    return {"type": "text", "text": {"value": text, "annotations": annotations}}


def _words(part: object) -> str:
    """The words of a part that is nothing else."""
    if not isinstance(part, dict):
        raise wrong_type('an object like {"type": "input_text", "text": "..."}', part)
    word = part.get("type")
    if word not in _WORDS:
        found = _OTHER_PARTS.get(str(word)) or of_part(part) or repr(str(word)[:40])
        reason = f"must be {', '.join(_WORDS)} or refusal, the models here read nothing else, not {found}"
        raise ma.ValidationError({"type": [reason]})
    return text_in(part, "text")


_OTHER_PARTS = {"input_image": "a picture (input_image)", "input_file": "a file (input_file)"}


# --- what was called --------------------------------------------------------------------------------------------------


def _call(value: dict[str, Any]) -> ItemDraft:
    arguments = value.get("arguments", "{}")
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False)
    if not isinstance(arguments, str):
        raise ma.ValidationError({"arguments": [f"must be a string with a JSON object in it, not {kind(arguments)}"]})
    return CallDraft(call_id_in(value, "call_id"), _name(value), arguments)


def _custom_call(value: dict[str, Any]) -> ItemDraft:
    """Its input is no JSON but plain text: a model here is shown it as a function's only argument."""
    arguments = json.dumps({"input": text_in(value, "input")}, ensure_ascii=False)
    return CallDraft(call_id_in(value, "call_id"), _name(value), arguments)


def _output(value: dict[str, Any]) -> ItemDraft:
    output = value.get("output")
    if not isinstance(output, str):
        given = "a string or a list of parts"
        output = "\n".join(within("output", lambda: each(value.get("output"), _words, given, MAX_PARTS)))
    return OutputDraft(call_id_in(value, "call_id"), output)


def _name(value: dict[str, Any]) -> str:
    name = text_in(value, "name")
    if not NAME.match(name):
        raise ma.ValidationError({"name": [NAME_ERROR]})
    return name


# --- what was thought, and what stands for something else -------------------------------------------------------------


def _reasoning(value: dict[str, Any]) -> ItemDraft:
    """Its words, or else what is sealed in it, or else its summary."""
    content, summary = (
        GAP.join(within(name, lambda: each(value.get(name) or [], _thought, "a list of parts", MAX_PARTS)))  # noqa: B023
        for name in ("content", "summary")
    )
    sealed = value.get("encrypted_content")
    if content or sealed is None:
        return ReasoningDraft(content or summary)
    return SealedDraft(ItemKind.REASONING, text_in(value, "encrypted_content"))


def _thought(part: object) -> str:
    if not isinstance(part, dict) or part.get("type") not in ("reasoning_text", "summary_text", "text"):
        raise ma.ValidationError('must be an object like {"type": "reasoning_text", "text": "..."}')
    return text_in(part, "text")


def _compaction(value: dict[str, Any]) -> ItemDraft:
    return SealedDraft(ItemKind.COMPACTION, text_in(value, "encrypted_content"))


def _reference(value: dict[str, Any]) -> ItemDraft:
    return ItemReference(text_in(value, "id"))


_KINDS: dict[str, Callable[[dict[str, Any]], ItemDraft]] = {
    "message": _message,
    "function_call": _call,
    "function_call_output": _output,
    "custom_tool_call": _custom_call,
    "custom_tool_call_output": _output,
    "reasoning": _reasoning,
    "item_reference": _reference,
    "compaction": _compaction,
    "compaction_summary": _compaction,
}
_OTHER_NAMES = ("compaction_summary",)  # Codex CLI's


# --- for the document -------------------------------------------------------------------------------------------------


def _schema(word: str, required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["type", *required],
        "properties": {"type": {"type": "string", "enum": [word]}, **properties},
    }


_STRING: dict[str, Any] = {"type": "string"}
_ID = {"type": "string", "minLength": 1, "maxLength": MAX_CALL_ID}
_FUNCTION = {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,128}$"}


def _listed(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "maxItems": MAX_PARTS, "items": {"anyOf": list(parts)}}


_TEXTS = [_schema(word, ("text",), text=_STRING) for word in _WORDS]
_THOUGHTS = {"type": "array", "items": _schema("reasoning_text", ("text",), text=_STRING)}
_SUMMARIES = {"type": "array", "items": _schema("summary_text", ("text",), text=_STRING)}
_OUTPUT = {"anyOf": [_STRING, _listed(*_TEXTS)]}
ITEM_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {
            "type": "object",
            "required": ["role", "content"],
            "properties": {
                "type": {"type": "string", "enum": ["message"]},
                "role": {"type": "string", "enum": list(ROLES)},
                "content": {
                    "anyOf": [_STRING, _listed(*_TEXTS, _schema("refusal", ("refusal",), refusal=_STRING))],
                },
            },
        },
        _schema("function_call", ("call_id", "name"), call_id=_ID, name=_FUNCTION, arguments=_STRING),
        _schema("function_call_output", ("call_id", "output"), call_id=_ID, output=_OUTPUT),
        _schema("custom_tool_call", ("call_id", "name", "input"), call_id=_ID, name=_FUNCTION, input=_STRING),
        _schema("custom_tool_call_output", ("call_id", "output"), call_id=_ID, output=_OUTPUT),
        _schema("reasoning", (), content=_THOUGHTS, summary=_SUMMARIES, encrypted_content=_STRING),
        _schema("item_reference", ("id",), id=_STRING),
        _schema("compaction", ("encrypted_content",), encrypted_content=_STRING),
    ]
}
