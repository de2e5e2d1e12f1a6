"""One upstream over real sockets: what is sent, what comes of it, and everything that can go wrong with it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from janflask.errors import (
    ClientDisconnectedError,
    ConflictError,
    ContextLengthExceededError,
    InvalidRequestError,
    JanflaskError,
    RequestTooLargeError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamSetupError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from janflask.inference.backend import Counted
from janflask.inference.deltas import Done, Finished, ReasoningDelta, RefusalDelta, TextDelta, ToolCallDelta
from janflask.inference.forms.constrained import of_any_object, of_schema
from janflask.inference.requests import (
    ChatMessage,
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    LaidOut,
    Segment,
    TemplateRequest,
    TokenizeRequest,
    Tool,
)
from janflask.inference.waiting import Waiter
from janflask.models.upstream import ServerKind
from tests.fakes.file_server import CERTIFICATE
from tests.fakes.openai_server import (
    USAGE,
    Handler,
    answers,
    breaks,
    call_piece,
    closes_after,
    events,
    finish,
    hangs_up,
    holds,
    piece,
    says,
    serving,
    silent,
    status,
    text_piece,
)
from tests.integration.upstream_world import ASK, BEAT, backend_for, chat, is_whole, started, text, told
from tests.integration.waiting import free_port, wait_for

KEY = "sk-very-secret"


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    file = tmp_path / "far.key"
    file.touch(0o600)
    file.write_text(f"{KEY}\n")
    return str(file)


def test_a_chat(key_file: str) -> None:
    with serving([says("Because", " of", " air")]) as fake:
        with backend_for(fake, api_key_file=key_file) as backend:
            found = told(chat(backend, max_tokens=9, sampling={"temperature": 0.5, "top_k": 5}, stop=("x",)))
    assert is_whole(found)
    assert text(found) == "Because of air"
    assert isinstance(done := found[-1], Done)
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (7, 2)
    assert Finished(0, "stop") in found
    (asked,) = fake.posts
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.body == {
        "model": "far",
        "messages": [{"role": "user", "content": "Why is the sky blue?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 9,
        "stop": ["x"],
        "temperature": 0.5,
        "top_k": 5,
    }


def test_an_answer_in_single_bytes() -> None:
    def act(handler: Handler) -> None:
        handler.begin()
        for byte in b': hi\r\ndata: {"choices":[{"index":0,\r\ndata: "delta":{"content":"\xc3\xbc"}}]}\r\n\r\n':
            handler.raw(bytes([byte]))
        finish(handler)

    with serving([act]) as fake, backend_for(fake) as backend:
        assert text(told(chat(backend))) == "ü"


def test_thoughts_calls_and_choices() -> None:
    call = {"index": 0, "id": "call_1", "function": {"name": "look", "arguments": '{"a"'}}
    more = {"index": 0, "function": {"arguments": ":1}"}}
    script = events(
        {"choices": [{"index": 1, "delta": {"role": "assistant", "content": None, "reasoning_content": "hm"}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [more]}}]},
        piece("b", 1),
        piece(index=0, reason="tool_calls"),
        piece(index=1, reason="length"),
        b"[DONE]",
    )
    with serving([script]) as fake, backend_for(fake) as backend:
        found = told(chat(backend, n=2))
    assert found[1:-1] == [
        ReasoningDelta(1, "hm"),
        ToolCallDelta(0, 0, "call_1", "look", '{"a"'),
        ToolCallDelta(0, 0, None, None, ":1}"),
        TextDelta(1, "b"),
        Finished(0, "tool_calls"),
        Finished(1, "length"),
    ]
    assert isinstance(done := found[-1], Done)
    assert done.usage.completion_tokens == 4  # counted here, as the server did not tell


def test_beats_in_silence_and_a_cancel_that_reaches_the_upstream() -> None:
    with serving([holds("Well")]) as fake, backend_for(fake) as backend:
        answer = chat(backend, beat=0.01)
        started(answer)
        assert next(answer) == []
        assert next(answer) == []
        answer.close()
        wait_for(lambda: fake.left == 1)
        assert backend.pool.health()[0].under_way == 0


def test_a_client_that_goes_away_ends_the_upstreams_request() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far, serving([holds("Well")]) as fake, backend_for(fake) as backend:
        answer = chat(backend, Waiter(far))
        started(answer)
        near.close()
        with pytest.raises(ClientDisconnectedError):
            told(answer)
        wait_for(lambda: fake.left == 1)


def test_connections_are_used_again() -> None:
    with serving([says("one")]) as fake, backend_for(fake) as backend:
        for _ in range(3):
            assert text(told(chat(backend))) == "one"
    assert [asked.connection for asked in fake.posts] == [1, 1, 1]


def test_an_idle_connection_that_the_upstream_closed() -> None:
    with serving([closes_after(says("one")), says("two")]) as fake, backend_for(fake) as backend:
        assert text(told(chat(backend))) == "one"
        assert text(told(chat(backend))) == "two"
        assert backend.pool.health()[0].error is None
    assert fake.connections == 2


def test_a_connection_that_is_closed_just_as_it_is_used_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """That is no failure of the upstream, and no try of the request."""
    from janflask.inference.upstream.exchange import Link

    settle = Link.settle
    monkeypatch.setattr(Link, "settle", lambda link: settle(link) or True)  # it seems to be fine
    with serving([says("one"), hangs_up, says("two")]) as fake, backend_for(fake) as backend:
        assert text(told(chat(backend))) == "one"
        assert text(told(chat(backend))) == "two"
        assert caplog.records == []
    assert [asked.connection for asked in fake.posts] == [1, 1, 2]


def test_nobody_listens(key_file: str) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    with backend_for(url, api_key_file=key_file) as backend:
        with pytest.raises(UpstreamUnavailableError, match=r"cannot be reached: Connection refused") as caught:
            told(chat(backend))
        health = backend.pool.health()[0]
    assert caught.value.retry_after is not None
    assert url in caught.value.message
    assert health.reachable is False
    assert health.error == caught.value.message
    assert KEY not in repr(caught.value) + repr(health)


def test_a_host_that_is_not_known() -> None:
    with backend_for("http://no-such-host.invalid/v1") as backend:
        with pytest.raises(UpstreamUnavailableError, match="cannot be reached"):
            told(chat(backend))


def test_a_name_is_looked_up() -> None:
    with serving([says("here")]) as fake, backend_for(fake.base_url.replace("127.0.0.1", "localhost")) as backend:
        assert text(told(chat(backend))) == "here"
    assert fake.posts[0].headers["Host"] == f"localhost:{fake.port}"


def test_a_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds up neither the beats nor a cancel, and the limit for connecting holds."""
    hang, original = threading.Event(), socket.getaddrinfo

    def lookup(host: str, *args: Any, **more: Any) -> Any:
        if host == "slow.test" and not more.get("flags"):
            hang.wait(20)
        return original(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with backend_for("http://slow.test/v1", connect_timeout=0.05) as backend:
        with pytest.raises(UpstreamUnavailableError, match=r"no connection within 0\.05 s"):
            told(chat(backend))
    with backend_for("http://slow.test/v1") as backend:
        answer = chat(backend, beat=0.01)
        assert next(answer) == []
        assert next(answer) == []
        answer.close()
        assert backend.pool.health()[0].under_way == 0
    hang.set()


def test_no_connection_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        others = [socket.socket() for _ in range(4)]
        for other in others:  # nobody accepts them: the next ones are left without an answer
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        with backend_for(url, connect_timeout=0.05) as backend:
            with pytest.raises(UpstreamUnavailableError, match=r"no connection within 0\.05 s"):
                told(chat(backend))
        for other in others:
            other.close()


@pytest.mark.parametrize("bad", [hangs_up, breaks(), status(503, "loading"), status(502)])
def test_what_has_said_nothing_is_tried_again(bad: Callable[[Handler], None]) -> None:
    with serving([bad, says("fine")]) as fake, backend_for(fake) as backend:
        found = told(chat(backend))
        assert backend.pool.health()[0].reachable is True
    assert text(found) == "fine"
    assert is_whole(found)
    assert len(fake.posts) == 2


def test_what_was_said_is_told_before_the_error_and_nothing_is_tried_again() -> None:
    with serving([breaks("Well", " then"), says("other")]) as fake, backend_for(fake) as backend:
        answer = chat(backend)
        found = started(answer)
        with pytest.raises(UpstreamUnavailableError, match="broke off"):
            found.extend(event for batch in answer for event in batch)
    assert text(found) == "Well then"
    assert len(fake.posts) == 1


def test_calls_that_break_off_are_made_again_only_where_nothing_of_them_was_told() -> None:
    whole = events(call_piece("{}", "look", id="call_1"), piece(reason="tool_calls"), b"[DONE]")
    nameless = {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "call_9"}]}}]}
    with serving([breaks(nameless), whole]) as fake, backend_for(fake) as backend:
        found = told(chat(backend, tools=(Tool("look"),)))
    assert found[-3:-1] == [ToolCallDelta(0, 0, "call_1", "look", "{}"), Finished(0, "tool_calls")]
    assert len(fake.posts) == 2
    with serving([breaks(call_piece('{"a', "look", id="call_1")), whole]) as fake, backend_for(fake) as backend:
        answer = chat(backend, tools=(Tool("look"),))
        found = []
        with pytest.raises(UpstreamUnavailableError, match="broke off"):
            found.extend(event for batch in answer for event in batch)
    assert len(fake.posts) == 1


def test_an_answer_is_checked_by_its_schema() -> None:
    """Servers hold a model to less than the whole of a schema, or to nothing at all."""
    form = of_schema({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}, "json_schema")
    for words, objection in (('{"n": 1}', None), ('{"n": "1"}', "(at n)"), ("Sure!", "is not the JSON")):
        with serving([says(words)]) as fake, backend_for(fake) as backend:
            found = told(chat(backend, constraint=form))
        refusals = [event.text for event in found if isinstance(event, RefusalDelta)]
        assert text(found) == words
        assert len(refusals) == (0 if objection is None else 1)
        assert objection is None or objection in refusals[0]
        assert isinstance(found[-2], Finished)


def test_a_model_that_refuses_is_not_checked_as_well() -> None:
    no = [{"choices": [{"index": 0, "delta": {"refusal": part}}]} for part in ("I ", "won't.")]
    with serving([events(*no, piece(reason="stop"), b"[DONE]")]) as fake, backend_for(fake) as backend:
        found = told(chat(backend, constraint=of_any_object("response_format")))
    assert found[1:-1] == [RefusalDelta(0, "I "), RefusalDelta(0, "won't."), Finished(0, "stop")]


def test_a_calls_arguments_are_checked_by_its_tools_schema() -> None:
    """Once: a janflask there has said so itself."""
    tool = Tool("look", parameters={"type": "object", "properties": {"n": {"type": "integer"}}})
    call = [call_piece('{"n":', "look", id="call_1"), call_piece('"one"}')]
    there = {"choices": [{"index": 0, "delta": {"refusal": "no integer"}}]}
    for said, words in (([], "look"), ([there], "no integer")):
        with (
            serving([events(*call, *said, piece(reason="tool_calls"), b"[DONE]")]) as fake,
            backend_for(fake) as backend,
        ):
            found = told(chat(backend, tools=(tool,)))
        (refusal,) = [event for event in found if isinstance(event, RefusalDelta)]
        assert words in refusal.text
        assert found[-2] == Finished(0, "tool_calls")


def test_a_completion_is_held_to_its_form() -> None:
    with serving([events(text_piece("a", reason="stop"), b"[DONE]")]) as fake, backend_for(fake) as backend:
        request = CompletionRequest(model="far", prompts=("x",), constraint=of_any_object("response_format"))
        found = told(backend.complete(request, Waiter(), BEAT))
    assert fake.posts[0].body["response_format"] == {"type": "json_object"}
    assert [type(event) for event in found[1:-1]] == [TextDelta, RefusalDelta, Finished]


FAILURES: dict[str, tuple[Callable[[Handler], None], type[JanflaskError], str]] = {
    "no JSON": (events(piece("a"), b"{not json"), UpstreamError, "did not answer with a chunk of an answer: {not json"),
    "wrong types": (events({"choices": "x"}), UpstreamError, "did not answer with a chunk"),
    "a call that jumps": (
        events(call_piece("{}", "look", 2)),
        UpstreamError,
        r"did not answer with calls of tools \(call 2 behind 0 calls\)",
    ),
    "a choice too many": (events(piece("a", 1)), UpstreamError, "did not answer with 1 choices"),
    "an error event": (
        events(piece("a"), {"error": {"message": "CUDA out of memory", "code": 500}}),
        UpstreamError,
        "failed in the middle of an answer: CUDA out of memory",
    ),
    "vLLM's older error event": (
        events(piece("a"), {"object": "error", "message": "bad", "type": "BadRequestError", "code": 400}),
        InvalidRequestError,
        "refused the request",
    ),
    "a full queue in the middle": (
        events(piece("a"), {"error": {"message": "full", "type": "rate_limit_error", "code": "queue_full"}}),
        UpstreamBusyError,
        "takes no more requests now: full",
    ),
    "no reason": (events(piece("a"), b"[DONE]"), UpstreamUnavailableError, "without a reason"),
    "an early end": (events(piece("a")), UpstreamUnavailableError, "in the middle"),
    "given up": (events(piece("a"), piece(reason="abort")), UpstreamUnavailableError, "gave up"),
    "not a word": (events(), UpstreamError, "ended its answer without a word"),
    "no stream": (answers({"choices": []}), UpstreamError, "its content type is application/json"),
    "packed": (answers(b"x", Content_Encoding="gzip"), UpstreamError, "not packed"),
    "no key": (status(401, f"wrong key {KEY}"), UpstreamSetupError, "does not let this server in .401.: check the key"),
    "a redirect": (
        answers(b"", 307, Location="https://me:pw@elsewhere.example/v2?token=1"),
        UpstreamSetupError,
        "redirects to https://elsewhere.example/v2: redirects are not followed",
    ),
    "no such model": (
        answers({"error": {"message": "The model `far` does not exist.", "code": 404}}, 404),
        UpstreamSetupError,
        "has no model 'far'",
    ),
    "no such route": (status(404, "Not Found"), UpstreamSetupError, "has no such route .404.: check base_urls"),
    "busy": (status(429, "slow down", Retry_After="7"), UpstreamBusyError, "takes no more requests now: slow down"),
    "no money": (
        answers({"error": {"message": "pay", "code": "insufficient_quota"}}, 429),
        UpstreamError,
        "refuses: pay",
    ),
    "an internal error": (status(500, "boom"), UpstreamError, "failed .500.: boom"),
    "a bad request": (
        answers({"error": {"message": "temperature: too hot", "param": "temperature"}}, 400),
        InvalidRequestError,
        "refused the request .400.: temperature: too hot",
    ),
    "FastAPI's refusal": (answers({"detail": [{"msg": "bad"}]}, 422), InvalidRequestError, r'\[\{"msg": "bad"\}\]'),
    "too long": (
        answers({"error": {"message": "maximum context length is 9 tokens", "type": "BadRequestError"}}, 400),
        ContextLengthExceededError,
        "maximum context length is 9 tokens",
    ),
    "too long for llama-server": (
        answers({"error": {"message": "the request is large", "type": "exceed_context_size_error"}}, 400),
        ContextLengthExceededError,
        "the request is large",
    ),
    "a model that is stopped": (
        status(409, "stopped"),
        UpstreamError,
        r"did not do what it was asked \(409\): stopped",
    ),
    "nothing": (status(204), UpstreamError, r"\(204\)"),
    "too large": (status(413, "no"), RequestTooLargeError, "no request of this size"),
    "no HTTP": (lambda handler: handler.wfile.write(b"220 mail ready\r\n\r\n") and None, UpstreamError, "HTTP"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_told_clearly(name: str, key_file: str) -> None:
    act, expected, words = FAILURES[name]
    with serving([closes_after(act)]) as fake, backend_for(fake, api_key_file=key_file) as backend:
        with pytest.raises(expected, match=words) as caught:
            told(chat(backend))
        assert backend.pool.health()[0].under_way == 0
    assert len(fake.posts) == 1
    assert KEY not in caught.value.message
    assert "pw" not in caught.value.message
    assert "token=1" not in caught.value.message
    assert 400 <= caught.value.status < 600
    assert caught.value.status not in (401, 403, 404)  # which would look like ours
    if name == "busy":
        assert caught.value.retry_after == 7


def test_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving([silent]) as fake, backend_for(fake, timeout=0.1) as backend:
        with pytest.raises(UpstreamTimeoutError, match=r"said nothing for 0.1 s") as caught:
            told(chat(backend))
        wait_for(lambda: fake.left == 1)
    assert caught.value.status == 504
    assert len(fake.posts) == 1


def test_comments_are_no_answer() -> None:
    def act(handler: Handler) -> None:
        handler.begin()
        while not handler.fake.closing.wait(0.01):
            handler.raw(b": ping\n\n")

    with serving([act]) as fake, backend_for(fake, timeout=0.2) as backend:
        with pytest.raises(UpstreamTimeoutError):
            told(chat(backend))


def test_a_refusal_before_the_whole_body_was_read() -> None:
    """The server answers and hangs up while most of the request is still on its way."""
    refusal = b'HTTP/1.1 413 Too Large\r\nContent-Length: 25\r\n\r\n{"error": "far too large"}'
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(refusal)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        long = (ChatMessage.of("user", "x" * (16 << 20)),)
        with backend_for(f"http://127.0.0.1:{listener.getsockname()[1]}/v1") as backend:
            with pytest.raises(RequestTooLargeError, match="far too larg"):
                told(backend.chat(ChatRequest(model="far", messages=long), Waiter(), BEAT))
        thread.join()


# --- TLS --------------------------------------------------------------------------------------------------------


def test_tls() -> None:
    with serving([says("hidden")], secure=True) as fake, backend_for(fake, ca_file=str(CERTIFICATE)) as backend:
        assert text(told(chat(backend))) == "hidden"
        assert text(told(chat(backend))) == "hidden"
    assert fake.connections == 1


def test_a_certificate_that_nobody_trusts(key_file: str) -> None:
    with serving([says("x")], secure=True) as fake, backend_for(fake, api_key_file=key_file) as backend:
        with pytest.raises(UpstreamSetupError, match=r"not trusted \(self.signed certificate\)"):
            told(chat(backend))
    assert fake.posts == []


def test_a_certificate_for_another_name() -> None:
    with serving([says("x")], secure=True, host="127.0.0.2") as fake:
        with backend_for(fake, ca_file=str(CERTIFICATE)) as backend:
            with pytest.raises(UpstreamSetupError, match=r"not valid for '127\.0\.0\.2'"):
                told(chat(backend))
    assert fake.posts == []


def test_tls_where_there_is_none() -> None:
    with serving([says("x")]) as fake, backend_for(fake.base_url.replace("http", "https")) as backend:
        with pytest.raises(UpstreamSetupError, match="no TLS connection"):
            told(chat(backend))


def test_a_cancel_over_tls() -> None:
    with serving([holds("Well")], secure=True) as fake, backend_for(fake, ca_file=str(CERTIFICATE)) as backend:
        answer = chat(backend)
        started(answer)
        answer.close()
        wait_for(lambda: fake.left == 1)


# --- what is wrong with the entry ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"api_key_file": "/nowhere/far.key"}, "/nowhere/far.key, .* is not there"),
        ({"api_key_env": "JANFLASK_UPSTREAM_NONE"}, "JANFLASK_UPSTREAM_NONE, .* is not set"),
    ],
)
def test_a_key_that_is_not_there(entry: dict[str, Any], words: str) -> None:
    with serving([says("x")]) as fake, backend_for(fake, **entry) as backend:
        with pytest.raises(ConflictError, match=words):
            told(chat(backend))
        assert backend.pool.health()[0].under_way == 0
    assert fake.posts == []


def test_a_key_from_the_environment_and_a_new_one_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving([says("x")]) as fake, backend_for(fake, api_key_env="JANFLASK_UPSTREAM_KEY") as backend:
        for key in ("one", "two"):
            monkeypatch.setenv("JANFLASK_UPSTREAM_KEY", key)
            told(chat(backend))
    assert [asked.headers["Authorization"] for asked in fake.posts] == ["Bearer one", "Bearer two"]


def test_a_ca_file_that_is_not_there() -> None:
    with pytest.raises(ConflictError, match=r"ca_file .* cannot be used: No such file"):
        with backend_for("https://127.0.0.1/v1", ca_file="/nowhere/ca.pem"):
            pass


# --- completions, embeddings, tokens ----------------------------------------------------------------------------------


def test_completions_of_several_prompts() -> None:
    def act(handler: Handler) -> None:
        prompt = handler.fake.posts[-1].body["prompt"]
        with handler.fake.lock:
            prompt = next(each.body["prompt"] for each in handler.fake.asked if each.connection == handler.number)
        handler.begin()
        for index in (1, 0):
            handler.event(text_piece(f"{prompt}{index}", index))
        for index in (0, 1):
            handler.event(text_piece("", index, "length"))
        handler.event(USAGE)
        handler.event(b"[DONE]")
        handler.end()

    prompts = ("a", (1, 2), "c")
    request = CompletionRequest(model="far", prompts=prompts, n=2, sampling={"top_logprobs": 1}, echo=True)
    with serving([closes_after(act)]) as fake, backend_for(fake) as backend:
        found = told(backend.complete(request, Waiter(), BEAT))
    assert [text(found, index) for index in range(6)] == ["a0", "a1", "[1, 2]0", "[1, 2]1", "c0", "c1"]
    assert sorted(event.index for event in found if isinstance(event, Finished)) == list(range(6))
    assert is_whole(found)
    assert isinstance(done := found[-1], Done)
    assert done.usage.prompt_tokens == 21
    body = fake.posts[0].body
    assert (body["echo"], body["logprobs"], body["max_tokens"], body["n"]) == (True, 1, 16, 2)


def test_log_probabilities_of_both_forms() -> None:
    content = [
        {
            "token": "a",
            "logprob": -0.5,
            "bytes": [97],
            "top_logprobs": [{"token": "b", "logprob": -0.1, "bytes": [98]}, {"token": "a", "logprob": -0.5}],
        }
    ]
    legacy = {
        "tokens": ["a", "bytes:\\xc3"],
        "token_logprobs": [None, -1.5],
        "top_logprobs": [None, {"x": -1.0}],
        "text_offset": [0, 1],
    }
    with serving([events(piece("a", reason="stop", logprobs={"content": content}), b"[DONE]")]) as fake:
        with backend_for(fake) as backend:
            (delta,) = [each for each in told(chat(backend)) if isinstance(each, TextDelta)]
    (token,) = delta.logprobs
    assert (token.token, token.raw, token.logprob) == ("a", b"a", -0.5)
    assert [(top.token, top.logprob, top.id == token.id) for top in token.top] == [
        ("b", -0.1, False),
        ("a", -0.5, True),
    ]
    with serving([events(text_piece("aü", reason="stop", logprobs=legacy), b"[DONE]")]) as fake:
        with backend_for(fake) as backend:
            request = CompletionRequest(model="far", prompts=("q",), sampling={"top_logprobs": 1})
            found = told(backend.complete(request, Waiter(), BEAT))
    (delta,) = [each for each in found if isinstance(each, TextDelta)]
    first, second = delta.logprobs
    assert (first.logprob, first.width, first.top) == (None, 1, ())
    assert (second.raw, second.logprob, [top.token for top in second.top]) == (b"\xc3", -1.5, ["x"])
    assert second.id not in [top.id for top in second.top]


def test_embeddings_in_parts_and_out_of_order() -> None:
    def act(handler: Handler) -> None:
        inputs = handler.fake.posts[-1].body["input"]
        data = [{"index": number, "embedding": [3.0, float(len(item))]} for number, item in enumerate(inputs)]
        handler.json(200, {"data": data[::-1], "usage": {"prompt_tokens": len(inputs)}})

    inputs = (*["xxxx"] * 129, "")
    with serving([act]) as fake, backend_for(fake) as backend:
        found = backend.embed(EmbeddingRequest(model="far", inputs=inputs, dimensions=2), Waiter())
    assert found.prompt_tokens == 130
    assert found.vectors[0].hex() == "9a99193fcdcc4c3f"  # 0.6, 0.8
    assert found.vectors[129].hex() == "0000803f00000000"  # 1, 0
    assert [len(asked.body["input"]) for asked in fake.posts] == [128, 2]
    assert fake.posts[0].body["dimensions"] == 2


@pytest.mark.parametrize(
    "data",
    [
        [],
        [{"embedding": []}],
        [{"embedding": "AAA"}],
        [{"embedding": [[1.0]]}],
        [{"embedding": "AADAfw=="}],
        [{"index": 1, "embedding": [1.0]}],
    ],
    ids=["none", "empty", "no base64", "nested", "not a number", "another's"],
)
def test_vectors_that_are_none(data: list[Any]) -> None:
    with serving([answers({"data": data})]) as fake, backend_for(fake) as backend:
        with pytest.raises(UpstreamError, match="did not answer with"):
            backend.embed(EmbeddingRequest(model="far", inputs=("a",)), Waiter())


def test_vllms_token_routes() -> None:
    def act(handler: Handler) -> None:
        body = handler.fake.posts[-1].body
        if handler.path == "/detokenize":
            handler.json(200, {"prompt": f"text of {body['tokens']}"})
        else:
            assert handler.path == "/tokenize"
            handler.json(200, {"tokens": [1, 2, 3], "count": 3, "max_model_len": 9})

    template = TemplateRequest(model="far", messages=ASK, tokenize=True)
    with serving([act]) as fake, backend_for(fake) as backend:
        assert backend.tokenize(TokenizeRequest(model="far", content="hi"), Waiter()).ids == [1, 2, 3]
        assert backend.detokenize(DetokenizeRequest(model="far", tokens=(4, 5)), Waiter()) == "text of [4, 5]"
        laid_out = backend.lay_out(template, Waiter())
        assert (laid_out.prompt, laid_out.tokens) == ("text of [1, 2, 3]", (1, 2, 3))
        assert backend.count(template, Waiter()) == Counted(3)
    assert fake.posts[0].body == {"model": "far", "prompt": "hi", "add_special_tokens": False}


def test_segments_of_another_janflask() -> None:
    told = {"prompt": "<s>a</s>", "segments": [{"text": "<s>", "special": True}, {"text": "a</s>", "special": False}]}
    template = TemplateRequest(model="far", messages=ASK, with_segments=True)
    with serving([answers(told)]) as fake, backend_for(fake, kind=ServerKind.JANFLASK) as backend:
        laid_out = backend.lay_out(template, Waiter())
    assert fake.posts[0].body["with_segments"] is True
    assert laid_out == LaidOut("<s>a</s>", segments=(Segment("<s>", special=True), Segment("a</s>", special=False)))


def test_a_text_of_tokens_that_is_not_told() -> None:
    with serving([answers({"tokens": [4, 5]})]) as fake, backend_for(fake) as backend:
        with pytest.raises(UpstreamError, match="did not answer with what /detokenize should give"):
            backend.detokenize(DetokenizeRequest(model="far", tokens=(4, 5)), Waiter())


@pytest.mark.parametrize("tokens", [[1, 2], [{"id": 1, "piece": [256]}]], ids=["no pieces", "no bytes"])
def test_pieces_that_are_asked_for_and_not_told(tokens: list[Any]) -> None:
    asked = TokenizeRequest(model="far", content="hi", with_pieces=True)
    with serving([answers({"tokens": tokens})]) as fake, backend_for(fake, kind=ServerKind.LLAMA_SERVER) as backend:
        with pytest.raises(UpstreamError, match="did not answer with what /tokenize should give"):
            backend.tokenize(asked, Waiter())


def test_a_count_where_the_route_is_missing_is_an_estimate() -> None:
    with serving([status(404, "Not Found")]) as fake, backend_for(fake) as backend:
        counted = backend.count(TemplateRequest(model="far", messages=ASK), Waiter())
        assert backend.pool.health()[0].reachable is True
    assert counted == Counted(7 + 8, is_estimate=True)  # 20 bytes, and a message's share
    with backend_for("http://127.0.0.1:1/v1", kind=ServerKind.OPENAI) as backend:
        assert backend.count(TemplateRequest(model="far", messages=ASK), Waiter()) == counted
        with pytest.raises(InvalidRequestError, match=r"kind openai\) cannot tokenize"):
            backend.tokenize(TokenizeRequest(model="far", content="hi"), Waiter())


def test_the_context_is_asked_for_once() -> None:
    with serving([says("x")]) as fake, backend_for(fake) as backend:
        assert [backend.info(Waiter()).ctx_len for _ in range(3)] == [4096] * 3
    assert [asked.path for asked in fake.asked] == ["/v1/models"]
    with backend_for("http://127.0.0.1:1/v1", ctx_len=99, kind=ServerKind.OPENAI) as backend:
        info = backend.info(Waiter())
    assert (info.ctx_len, info.continues) == (99, False)
