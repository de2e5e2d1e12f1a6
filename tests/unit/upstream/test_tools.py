"""Tools, their choice, calls in the history and forms of answers, as each kind of server is told of them."""

from __future__ import annotations

from typing import Any

import pytest

from janflask.errors import InvalidRequestError
from janflask.inference.forms import constrained
from janflask.inference.forms.constrained import Constrained
from janflask.inference.parts import Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from janflask.inference.requests import CallChoice, ChatMessage, TemplateRequest, Tool
from janflask.inference.upstream import estimate
from janflask.models.upstream import ServerKind
from tests.unit.upstream.test_bodies import KINDS, PLAIN, USER, bodies, chat, complete

SCHEMA = {"type": "object", "properties": {"at": {"type": "string", "description": "where"}}}
LOOK = Tool("look", "Looks at it.", SCHEMA, strict=True)
LISTEN = Tool("listen")
TOOLS = (LOOK, LISTEN)

TOLD_LOOK: dict[str, Any] = {
    "type": "function",
    "function": {"name": "look", "parameters": SCHEMA, "description": "Looks at it.", "strict": True},
}
TOLD_LISTEN: dict[str, Any] = {
    "type": "function",
    "function": {"name": "listen", "parameters": {"type": "object", "properties": {}}},
}
TOLD = [TOLD_LOOK, TOLD_LISTEN]
NAMED = {"tool_choice": {"type": "function", "function": {"name": "look"}}}
CALLERS = [kind for kind in KINDS if kind is not ServerKind.LLAMA_CPP_PYTHON]


def named(name: str = "look") -> dict[str, Any]:
    return {"callable_tools": frozenset({name}), "call_choice": CallChoice.REQUIRED, "parallel_calls": False}


# --- tools ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CALLERS)
def test_tools_as_openai_has_them(kind: ServerKind) -> None:
    assert chat(kind, tools=TOOLS) == PLAIN | {"tools": TOLD}
    required = chat(kind, tools=TOOLS, call_choice=CallChoice.REQUIRED)
    assert required == PLAIN | {"tools": TOLD, "tool_choice": "required"}
    assert chat(kind, tools=TOOLS, parallel_calls=False) == PLAIN | {"tools": TOLD, "parallel_tool_calls": False}
    assert chat(kind, parallel_calls=False) == PLAIN  # without tools it has no meaning, and some refuse it


def test_one_function_that_has_to_be_called() -> None:
    once = {"parallel_tool_calls": False}
    for kind in (ServerKind.OPENAI, ServerKind.VLLM, ServerKind.JANFLASK):
        assert chat(kind, tools=TOOLS, **named()) == PLAIN | {"tools": TOLD} | NAMED | once
        assert chat(kind, tools=(LOOK,), **named()) == PLAIN | {"tools": [TOLD_LOOK]} | NAMED | once
    alone = PLAIN | {"tools": [TOLD_LOOK], "tool_choice": "required"}
    assert chat(ServerKind.LLAMA_SERVER, tools=TOOLS, **named()) == alone | once
    assert chat(ServerKind.LLAMA_CPP_PYTHON, tools=TOOLS, **named()) == PLAIN | {"tools": TOLD} | NAMED
    alone_here = chat(ServerKind.LLAMA_CPP_PYTHON, tools=(LOOK,), call_choice=CallChoice.REQUIRED)
    assert alone_here == PLAIN | {"tools": [TOLD_LOOK]} | NAMED
    often = named() | {"parallel_calls": True}  # one tool is allowed, and may be called several times
    assert chat(ServerKind.VLLM, tools=TOOLS, **often) == alone
    assert chat(ServerKind.JANFLASK, tools=TOOLS, **often)["tool_choice"]["type"] == "allowed_tools"


@pytest.mark.parametrize("choice", list(CallChoice))
def test_some_of_the_tools(choice: CallChoice) -> None:
    request = {"tools": (*TOOLS, Tool("run")), "callable_tools": frozenset({"look", "listen"}), "call_choice": choice}
    narrowed = PLAIN | {"tools": TOLD} | ({"tool_choice": "required"} if choice is CallChoice.REQUIRED else {})
    for kind in (ServerKind.OPENAI, ServerKind.VLLM, ServerKind.LLAMA_SERVER):
        assert chat(kind, **request) == narrowed
    body = chat(ServerKind.JANFLASK, **request)
    assert len(body["tools"]) == 3
    assert body["tool_choice"] == {
        "type": "allowed_tools",
        "allowed_tools": {
            "mode": choice.value,
            "tools": [{"type": "function", "function": {"name": name}} for name in ("look", "listen")],
        },
    }


@pytest.mark.parametrize("choice", [{}, {"call_choice": CallChoice.REQUIRED}, {"callable_tools": frozenset({"look"})}])
def test_llama_cpp_python_makes_only_the_call_that_is_named(choice: dict[str, Any]) -> None:
    """It would tell the calls of others as text, or whatever its model likes in place of one that is required."""
    with pytest.raises(InvalidRequestError, match=r"^tools is not supported: .* name it in `tool_choice`") as caught:
        chat(ServerKind.LLAMA_CPP_PYTHON, tools=TOOLS, **choice)
    assert caught.value.param == "tools"


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_is_laid_out_with_tools(kind: ServerKind) -> None:
    fields = bodies(kind).conversation(TemplateRequest(model="far", messages=(USER,), tools=TOOLS))
    assert fields == {"messages": PLAIN["messages"], "tools": TOLD}


# --- calls in the history ---------------------------------------------------------------------------------------------


def calling(*parts: Part) -> ChatMessage:
    return ChatMessage(role="assistant", parts=parts)


def told_call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


CALL = ToolCallPart("call_1", "look", '{"at": "sky"}')


@pytest.mark.parametrize("kind", KINDS)
def test_calls_and_their_results(kind: ServerKind) -> None:
    messages = (
        USER,
        calling(CALL, ToolCallPart("call_2", "listen", "{broken")),
        ChatMessage.of("tool", "blue", tool_call_id="call_1"),
        ChatMessage.of("tool", "", tool_call_id="call_2", name="listen"),
        calling(ReasoningPart("hm"), TextPart("Once more."), CALL),
    )
    content = "" if kind is ServerKind.LLAMA_CPP_PYTHON else None
    told = [told_call("call_1", "look", '{"at": "sky"}'), told_call("call_2", "listen", "{broken")]
    again: dict[str, Any] = {"role": "assistant", "content": "Once more.", "tool_calls": told[:1]}
    if kind not in (ServerKind.OPENAI, ServerKind.LLAMA_CPP_PYTHON):
        again["reasoning_content"] = "hm"
    expected = [
        *PLAIN["messages"],
        {"role": "assistant", "content": content, "tool_calls": told},
        {"role": "tool", "content": "blue", "tool_call_id": "call_1"},
        {"role": "tool", "content": "", "tool_call_id": "call_2", "name": "listen"},
        again,
        *PLAIN["messages"],
    ]
    assert chat(kind, messages=(*messages, USER))["messages"] == expected


def test_a_result_that_names_no_call_answers_the_next_one() -> None:
    messages = (
        USER,
        calling(CALL, ToolCallPart("call_2", "listen", "{}")),
        ChatMessage.of("tool", "blue", tool_call_id="call_1"),
        ChatMessage(role="tool", parts=(ToolResultPart("hush"),), name="listen"),
        ChatMessage(role="tool", parts=(ToolResultPart("more"),)),
    )
    *_, second, third = chat(ServerKind.VLLM, messages=messages)["messages"]
    assert second == {"role": "tool", "content": "hush", "name": "listen", "tool_call_id": "call_2"}
    assert third == {"role": "tool", "content": "more"}


def test_estimates_count_calls_and_tools() -> None:
    plain = estimate.tokens_of_messages((USER,))
    assert estimate.tokens_of_messages((calling(CALL),)) > plain
    assert estimate.tokens_of_messages((USER,), TOOLS) > plain + 30


# --- what an answer must look like ------------------------------------------------------------------------------------

GBNF, LARK = 'root ::= "a" | "b"', 'start: "a" | "b"'
STRICT = {"name": "sky", "strict": True}

FORMS: dict[str, Constrained] = {
    "object": constrained.of_any_object("response_format"),
    "schema": constrained.of_schema(SCHEMA, "response_format.json_schema.schema", STRICT),
    "nameless": constrained.of_schema(SCHEMA, "json_schema"),
    "regex": constrained.of_regex("a+", "regex"),
    "choice": constrained.of_choice(['a"\\', "b\n\x01é"], "guided_choice"),
    "gbnf": constrained.of_grammar(GBNF, "grammar"),
    "lark": constrained.of_grammar(LARK, "structured_outputs.grammar"),
}
OBJECT = {"response_format": {"type": "json_object"}}
NAMED_SCHEMA = {"response_format": {"type": "json_schema", "json_schema": {**STRICT, "schema": SCHEMA}}}
NAMELESS = {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}}
CHOICE_GBNF = {"grammar": 'root ::= "a\\"\\\\" | "b\\n\\x01é"'}

STRUCTURED = {
    "regex": {"structured_outputs": {"regex": "a+"}},
    "choice": {"structured_outputs": {"choice": ['a"\\', "b\n\x01é"]}},
    "gbnf": {"structured_outputs": {"grammar": GBNF}},
    "lark": {"structured_outputs": {"grammar": LARK}},
}
OF_OPENAI = {"object": OBJECT, "schema": NAMED_SCHEMA, "nameless": NAMELESS}
OF_LLAMA = {"choice": CHOICE_GBNF, "gbnf": {"grammar": GBNF}}
SPELLED: dict[ServerKind, dict[str, dict[str, Any]]] = {
    ServerKind.OPENAI: OF_OPENAI,
    ServerKind.VLLM: OF_OPENAI | STRUCTURED,
    ServerKind.JANFLASK: OF_OPENAI | STRUCTURED,
    ServerKind.LLAMA_SERVER: OF_LLAMA
    | {
        "object": {"json_schema": {"type": "object"}},
        "schema": {"json_schema": SCHEMA},
        "nameless": {"json_schema": SCHEMA},
    },
    ServerKind.LLAMA_CPP_PYTHON: OF_LLAMA
    | {
        "object": OBJECT,
        "schema": {"response_format": {"type": "json_object", "schema": SCHEMA}},
        "nameless": {"response_format": {"type": "json_object", "schema": SCHEMA}},
    },
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_handed_on_in_the_clients_words_or_refused_by_name(kind: ServerKind, name: str) -> None:
    form = FORMS[name]
    if name in SPELLED[kind]:
        assert chat(kind, constraint=form) == PLAIN | SPELLED[kind][name]
        return
    with pytest.raises(InvalidRequestError, match=f"is not supported: .*{form.form.kind.value}") as caught:
        chat(kind, constraint=form)
    assert caught.value.param == form.constraint.name.split(".")[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FORMS)
def test_a_form_of_a_completion(kind: ServerKind, name: str) -> None:
    known = {ServerKind.OPENAI: (), ServerKind.LLAMA_CPP_PYTHON: ("choice", "gbnf")}.get(kind, SPELLED[kind])
    if name in known:
        assert complete(kind, constraint=FORMS[name]) == complete(kind) | SPELLED[kind][name]
        return
    with pytest.raises(InvalidRequestError, match=r"is not supported"):
        complete(kind, constraint=FORMS[name])


def test_a_form_beside_tools() -> None:
    for kind in (ServerKind.OPENAI, ServerKind.JANFLASK):
        assert chat(kind, tools=TOOLS, constraint=FORMS["object"]) == PLAIN | {"tools": TOLD} | OBJECT
    for kind in (ServerKind.VLLM, ServerKind.LLAMA_SERVER):  # the form would keep the model from calling
        with pytest.raises(InvalidRequestError, match="a form for the answer beside tools") as caught:
            chat(kind, tools=TOOLS, constraint=FORMS["object"])
        assert caught.value.param == "response_format"


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_is_nothing_but_calls_needs_no_form(kind: ServerKind) -> None:
    assert chat(kind, tools=(LOOK,), constraint=FORMS["regex"], **named()) == chat(kind, tools=(LOOK,), **named())
