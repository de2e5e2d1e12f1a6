"""Real servers as upstreams: another janflask, and llama-cpp-python's own server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import openai
import pytest

from janflask.errors import ContextLengthExceededError, InvalidRequestError, UpstreamError, UpstreamSetupError
from janflask.inference.deltas import Done, Event, Finished, RefusalDelta, TextDelta, ToolCallDelta
from janflask.inference.forms.constrained import (
    Constrained,
    FormKind,
    of_any_object,
    of_choice,
    of_grammar,
    of_regex,
    of_schema,
)
from janflask.inference.parts import ToolCallPart
from janflask.inference.requests import (
    CallChoice,
    ChatMessage,
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    TemplateRequest,
    TokenizeRequest,
    Tool,
)
from janflask.inference.upstream.backend import UpstreamBackend
from janflask.inference.upstream.pool import UpstreamPool
from janflask.inference.waiting import Waiter
from janflask.models.upstream import ServerKind, Upstream
from janflask.settings import Settings
from tests.e2e.server import LIMIT, MODEL, ROOT, Server, wait_for
from tests.integration.upstream_world import ASK, BEAT, card, is_whole, started, text, told
from tests.integration.waiting import free_port

GREEDY: dict[str, Any] = {"temperature": 0.0}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"place": {"type": "string", "maxLength": 8}, "far": {"type": "boolean"}},
    "required": ["place", "far"],
    "additionalProperties": False,
}
LOOK = Tool("look", "Looks at a place.", SCHEMA, strict=True)
LISTEN = Tool("listen")
LOOK_AT_IT: dict[str, Any] = {"callable_tools": frozenset({"look"}), "call_choice": CallChoice.REQUIRED}
FORMS = {
    "a JSON object": of_schema(SCHEMA, "response_format.json_schema.schema", {"name": "place"}),
    "a choice": of_choice(['say "yes"', "no\\never"], "structured_outputs.choice"),
    "a grammar": of_grammar('root ::= "<" [a-c]+ ">"', "grammar"),
}


def backend_at(port: int, model: str, kind: ServerKind) -> UpstreamBackend:
    upstream = Upstream(base_urls=(f"http://127.0.0.1:{port}/v1",), model=model, kind=kind, timeout=LIMIT)
    settings = Settings()
    return UpstreamBackend(card(), upstream, UpstreamPool("far", upstream, settings), settings)


@pytest.fixture
def jan(server: Server) -> Iterator[UpstreamBackend]:
    backend = backend_at(server.port, MODEL, ServerKind.JANFLASK)
    yield backend
    backend.pool.close()


def chat(max_tokens: int = 12, begun: str = "", **more: Any) -> ChatRequest:
    return ChatRequest(model="far", messages=ASK, max_tokens=max_tokens, begun=begun, sampling=GREEDY | more)


def asked(**more: Any) -> ChatRequest:
    """For a few words at temperature 0."""
    return ChatRequest(model="far", messages=ASK, sampling=GREEDY, **{"max_tokens": 60, **more})


def called(events: list[Event]) -> list[tuple[str | None, str]]:
    """The name and arguments of each call."""
    calls: dict[int, tuple[str | None, str]] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            name, arguments = calls.get(event.call, (event.name, ""))
            calls[event.call] = name, arguments + event.arguments
    return list(calls.values())


def reason(events: list[Event]) -> str:
    (finished,) = [event for event in events if isinstance(event, Finished)]
    return finished.reason


def usage(events: list[Any]) -> tuple[int, int]:
    (done,) = [event for event in events if isinstance(event, Done)]
    return done.usage.prompt_tokens, done.usage.completion_tokens


# --- another janflask -------------------------------------------------------------------------------------------------


def test_a_janflask_says_the_same_through_it(jan: UpstreamBackend, sdk: openai.OpenAI) -> None:
    direct = sdk.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Why is the sky blue?"}], max_tokens=12, temperature=0
    )
    found = told(jan.chat(chat(), Waiter(), BEAT))
    assert is_whole(found)
    assert text(found) == direct.choices[0].message.content
    assert direct.usage is not None
    assert usage(found) == (direct.usage.prompt_tokens, 12)


def test_a_begun_answer_goes_on(jan: UpstreamBackend) -> None:
    whole = told(jan.chat(chat(12), Waiter(), BEAT))
    begun = "".join(event.text for event in whole[:6] if isinstance(event, TextDelta))
    rest = told(
        jan.chat(chat(12 - len([event for event in whole[:6] if isinstance(event, TextDelta)]), begun), Waiter(), BEAT)
    )
    assert begun + text(rest) == text(whole)


def test_cancel_frees_the_engine(jan: UpstreamBackend, server: Server) -> None:
    answer = jan.chat(chat(1500, ignore_eos=True), Waiter(), BEAT)
    started(answer)
    wait_for(lambda: server.stats()["busy"] == 1, "the request to be under way")
    answer.close()
    wait_for(lambda: server.stats()["busy"] == 0, "the request to be cancelled")


def test_tokens_of_a_janflask(jan: UpstreamBackend) -> None:
    template = TemplateRequest(model="far", messages=ASK, tokenize=True)
    laid_out = jan.lay_out(template, Waiter())
    prompt_tokens, _ = usage(told(jan.chat(chat(1), Waiter(), BEAT)))
    assert jan.count(template, Waiter()).tokens == prompt_tokens == len(laid_out.tokens or ())
    tokens = jan.tokenize(TokenizeRequest(model="far", content="Grüße", with_pieces=True), Waiter())
    assert b"".join(tokens.pieces or ()).decode() == "Grüße"
    assert jan.detokenize(DetokenizeRequest(model="far", tokens=tuple(tokens.ids)), Waiter()) == "Grüße"
    assert jan.info(Waiter()).ctx_len == 2048


def test_scores_of_a_janflask(jan: UpstreamBackend, sdk: openai.OpenAI) -> None:
    direct = sdk.completions.create(
        model=MODEL, prompt=["One two", "Grüße"], max_tokens=2, temperature=0, logprobs=2, echo=True, n=2
    )
    request = CompletionRequest(
        model="far",
        prompts=("One two", "Grüße"),
        max_tokens=2,
        n=2,
        echo=True,
        sampling=GREEDY | {"top_logprobs": 2},
    )
    found = told(jan.complete(request, Waiter(), BEAT))
    for choice in direct.choices:
        assert text(found, choice.index) == choice.text
        mine = [
            token
            for event in found
            if isinstance(event, TextDelta) and event.index == choice.index
            for token in event.logprobs
        ]
        assert choice.logprobs is not None
        assert [token.logprob for token in mine] == pytest.approx(choice.logprobs.token_logprobs, abs=1e-3, nan_ok=True)
        assert b"".join(token.raw for token in mine).decode() == choice.text


def test_refusals_of_a_janflask(jan: UpstreamBackend, server: Server) -> None:
    long = ChatRequest(model="far", messages=(ASK[0],) * 400)
    with pytest.raises(ContextLengthExceededError, match="prompt is too long"):
        told(jan.chat(long, Waiter(), BEAT))
    with pytest.raises(InvalidRequestError, match="makes no embeddings"):
        jan.embed(EmbeddingRequest(model="far", inputs=("a",)), Waiter())
    other = backend_at(server.port, "no-such-model", ServerKind.JANFLASK)
    with pytest.raises(UpstreamSetupError, match="has no model 'no-such-model'"):
        told(other.chat(chat(), Waiter(), BEAT))
    other.pool.close()


TOLD_TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": "look", "description": "Looks at a place.", "parameters": SCHEMA, "strict": True},
    },
    {"type": "function", "function": {"name": "listen", "parameters": {"type": "object", "properties": {}}}},
]
CHOICES: dict[str, tuple[Any, dict[str, Any]]] = {
    "auto": ("auto", {}),
    "required": ("required", {"call_choice": CallChoice.REQUIRED}),
    "named": ({"type": "function", "function": {"name": "look"}}, {**LOOK_AT_IT, "parallel_calls": False}),
    "allowed": (
        {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "look"}}]},
        },
        LOOK_AT_IT,
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_janflask_calls_the_same_through_it(jan: UpstreamBackend, sdk: openai.OpenAI, name: str) -> None:
    told_choice, choice = CHOICES[name]
    history: Any = [
        {"role": "user", "content": "Where is the sky?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "listen", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "hush", "tool_call_id": "call_1"},
    ]
    messages = (
        ChatMessage.of("user", "Where is the sky?"),
        ChatMessage(role="assistant", parts=(ToolCallPart("call_1", "listen", "{}"),)),
        ChatMessage.of("tool", "hush", tool_call_id="call_1"),
    )
    direct = sdk.chat.completions.create(
        model=MODEL, messages=history, tools=TOLD_TOOLS, tool_choice=told_choice, max_tokens=60, temperature=0
    )
    request = ChatRequest(
        model="far", messages=messages, tools=(LOOK, LISTEN), max_tokens=60, sampling=GREEDY, **choice
    )
    found = told(jan.chat(request, Waiter(), BEAT))
    there = direct.choices[0]
    calls = [(call.function.name, call.function.arguments) for call in there.message.tool_calls or () if call.function]
    assert called(found) == calls
    assert text(found) == (there.message.content or "")
    assert reason(found) == there.finish_reason
    assert direct.usage is not None
    assert usage(found)[0] == direct.usage.prompt_tokens


@pytest.mark.parametrize("name", [*FORMS, "a pattern", "any object"])
def test_a_janflask_holds_answers_to_a_form(jan: UpstreamBackend, name: str) -> None:
    more = {"a pattern": of_regex("[0-9]{3}[.]", "regex"), "any object": of_any_object("response_format")}
    form = (FORMS | more)[name]
    found = told(jan.chat(asked(constraint=form), Waiter(), BEAT))
    assert not [event for event in found if isinstance(event, RefusalDelta)]
    assert is_whole(found)
    _check(form, found)
    request = CompletionRequest(model="far", prompts=("Say it.",), max_tokens=60, sampling=GREEDY, constraint=form)
    _check(form, told(jan.complete(request, Waiter(), BEAT)))


def _check(form: Constrained, found: list[Event]) -> None:
    if reason(found) == "length":
        assert form.form.kind is FormKind.JSON_OBJECT  # that may be of any length
        return
    said = text(found)
    match form.form.kind:
        case FormKind.JSON_SCHEMA | FormKind.JSON_OBJECT:
            jsonschema.validate(json.loads(said), form.form.value or {"type": "object"})
        case FormKind.CHOICE:
            assert said in form.form.value
        case FormKind.REGEX:
            assert re.fullmatch(form.form.value, said)
        case _:
            assert re.fullmatch("<[a-c]+>", said)


# --- llama-cpp-python's server ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llama_port(starter_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    options = {"model": starter_gguf, "model_alias": "tiny", "port": port, "n_ctx": 512, "n_threads": 1}
    command = [sys.executable, "-m", "llama_cpp.server", "--logits_all", "true", "--interrupt_requests", "false"]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    log = tmp_path_factory.mktemp("llama") / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        wait_for(lambda: _answers(process, port), "llama-cpp-python's server to answer")
        yield port
    except BaseException:
        print(log.read_text(errors="replace")[-6000:])
        raise
    finally:
        process.kill()
        process.wait()


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    if process.poll() is not None:
        raise ChildProcessError(f"llama-cpp-python's server ended with exit code {process.returncode}")
    with suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=LIMIT).status_code == 200
    return False


@pytest.fixture
def llama(llama_port: int) -> Iterator[UpstreamBackend]:
    backend = backend_at(llama_port, "tiny", ServerKind.LLAMA_CPP_PYTHON)
    yield backend
    backend.pool.close()


def test_llama_cpp_python_says_the_same_through_it(llama: UpstreamBackend, llama_port: int) -> None:
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Why is the sky blue?"}],
        "max_tokens": 8,
        "temperature": 0,
    }
    direct = httpx.post(f"http://127.0.0.1:{llama_port}/v1/chat/completions", json=body, timeout=LIMIT).json()
    found = told(llama.chat(chat(8, top_logprobs=2), Waiter(), BEAT))
    assert is_whole(found)
    assert text(found) == direct["choices"][0]["message"]["content"]
    assert usage(found)[1] == direct["usage"]["completion_tokens"] == 8
    assert all(len(token.top) == 2 for event in found if isinstance(event, TextDelta) for token in event.logprobs)


def test_llama_cpp_python_is_asked_one_thing_at_a_time(llama: UpstreamBackend) -> None:
    request = CompletionRequest(model="far", prompts=("One two", "A B C", "x y"), max_tokens=3, sampling=GREEDY)
    found = told(llama.complete(request, Waiter(), BEAT))
    assert is_whole(found)
    assert all(text(found, index) for index in range(3))


def test_cancel_frees_llama_cpp_python(llama: UpstreamBackend) -> None:
    """It does one thing at a time: the next answer comes because the one before has ended."""
    answer = llama.chat(chat(450), Waiter(), BEAT)
    started(answer)
    answer.close()
    assert text(told(llama.chat(chat(2), Waiter(), BEAT)))


def test_tokens_of_llama_cpp_python(llama: UpstreamBackend) -> None:
    ids = llama.tokenize(TokenizeRequest(model="far", content="Grüße"), Waiter()).ids
    assert llama.detokenize(DetokenizeRequest(model="far", tokens=tuple(ids)), Waiter()) == "Grüße"
    assert llama.count(TemplateRequest(model="far", messages=ASK), Waiter()).tokens == 6 + 8


def test_refusals_of_llama_cpp_python(llama: UpstreamBackend) -> None:
    with pytest.raises(UpstreamError, match="without a word: the prompt may be too long"):
        told(llama.chat(ChatRequest(model="far", messages=(ASK[0],) * 200), Waiter(), BEAT))
    with pytest.raises(UpstreamError, match="embedding=True"):
        llama.embed(EmbeddingRequest(model="far", inputs=("a",)), Waiter())
    with pytest.raises(InvalidRequestError, match="n is not supported"):
        told(llama.chat(ChatRequest(model="far", messages=ASK, n=2), Waiter(), BEAT))
    assert text(told(llama.chat(chat(2), Waiter(), BEAT)))  # it is well, and asked again


def test_llama_cpp_python_calls_the_function_that_is_named(llama: UpstreamBackend) -> None:
    request = asked(tools=(LOOK, LISTEN), **LOOK_AT_IT)
    found = told(llama.chat(request, Waiter(), BEAT))
    ((name, arguments),) = called(found)
    assert name == "look"
    jsonschema.validate(json.loads(arguments), SCHEMA)
    assert reason(found) == "tool_calls"
    assert text(found) == ""
    assert is_whole(found)
    cut = told(llama.chat(asked(tools=(LOOK,), max_tokens=3, **LOOK_AT_IT), Waiter(), BEAT))
    assert reason(cut) == "length"  # it says tool_calls
    assert called(cut)[0][1] == arguments[: len(called(cut)[0][1])]
    history = (*ASK, ChatMessage(role="assistant", parts=(ToolCallPart("call_1", "look", arguments),)))
    result = ChatMessage.of("tool", "blue", tool_call_id="call_1")
    assert text(told(llama.chat(ChatRequest(model="far", messages=(*history, result), max_tokens=2), Waiter(), BEAT)))
    with pytest.raises(InvalidRequestError, match="name it in `tool_choice`"):
        told(llama.chat(asked(tools=(LOOK,)), Waiter(), BEAT))


@pytest.mark.parametrize("name", FORMS)
def test_llama_cpp_python_holds_answers_to_a_form(llama: UpstreamBackend, name: str) -> None:
    form = FORMS[name]
    found = told(llama.chat(asked(constraint=form), Waiter(), BEAT))
    assert not [event for event in found if isinstance(event, RefusalDelta)]
    _check(form, found)
    with pytest.raises(InvalidRequestError, match="does not know a regular expression"):
        told(llama.chat(asked(constraint=of_regex("a+", "regex")), Waiter(), BEAT))
