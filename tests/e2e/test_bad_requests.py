"""What is refused, how, and that the server goes on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.conftest import make_data_dir
from tests.e2e.server import MODEL, Server, follow_settings, serving, wait_for

MESSAGES: Any = [{"role": "user", "content": "Hi"}]
CHAT = "/v1/chat/completions"


def works(sdk: openai.OpenAI) -> bool:
    answer = sdk.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=2)
    return bool(answer.choices[0].message.content)


def refused(answer: httpx.Response) -> dict[str, Any]:
    """The error object of a refusal with status 400."""
    assert answer.status_code == 400, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}
    return error


# --- what the request says ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["no-such-model", "../../etc/passwd", "", "a/b"])
def test_an_unknown_model(sdk: openai.OpenAI, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.chat.completions.create(model=name, messages=MESSAGES)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.completions.create(model=name, prompt="Hi", stream=True)
    assert caught.value.code == "model_not_found"


def test_an_unknown_model_of_the_models_routes(server: Server, sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("no-such-model")
    for answer in server.start("no-such-model"), server.stop("no-such-model"), server.start("..."):
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "model_not_found"
    assert server.start("..%2F..%2Fetc").status_code == 404


BAD_FIELDS = {
    "temperature": [-0.1, 2.1, "warm", True],
    "top_p": [1.5],
    "max_tokens": [0, -1, 1.5, "8"],
    "n": [0, "two"],
    "stop": [[1], 7, [""]],
    "seed": ["lucky", 0.5],
    "logit_bias": [{"hello": 1}, {"1": 101}, {"999999": 1}, [1]],
    "top_logprobs": [21, -1],
    "messages": ["Hi", [], [{"role": "pirate", "content": "Arr"}], [{"role": "user", "content": 7}], None],
    "stream": ["yes"],
    "stream_options": [{"include_usage": True}],
    "repeat_penalty": [0],
    "mirostat": [3],
    "model": [7, None],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in BAD_FIELDS for value in BAD_FIELDS[field]])
def test_a_wrong_type_or_range(server: Server, field: str, value: object) -> None:
    body = {"model": MODEL, "messages": MESSAGES, "max_tokens": 2, "logprobs": True, field: value}
    error = refused(server.post(CHAT, json=body))
    assert error["param"].split(".")[0] == field
    assert error["message"]


def test_a_missing_field(server: Server) -> None:
    assert refused(server.post(CHAT, json={"model": MODEL}))["param"] == "messages"
    assert refused(server.post(CHAT, json={"messages": MESSAGES}))["param"] == "model"
    assert refused(server.post("/v1/completions", json={"model": MODEL}))["param"] == "prompt"


@pytest.mark.parametrize("body", [b"", b"Hi", b"{", b'{"model": "\xff"}', b"[]", b"7", b"null", b'{"n": 1e999}'])
def test_a_body_that_is_no_json_object(server: Server, body: bytes) -> None:
    refused(server.post(CHAT, content=body, headers={"Content-Type": "application/json"}))


def test_a_body_of_another_type(server: Server) -> None:
    assert server.post(CHAT, data={"model": MODEL}).status_code == 415


def test_a_token_that_the_model_does_not_have(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.completions.create(model=MODEL, prompt=[1, 49152])
    assert caught.value.param == "prompt"
    assert "49152" in caught.value.message


def test_settings_that_a_start_refuses(server: Server) -> None:
    assert refused(server.start(ctx_len="many"))["param"] == "ctx_len"
    assert refused(server.start(warp=9))["param"] == "warp"


def test_unknown_routes_and_methods(server: Server) -> None:
    assert server.get("/v1/nothing").json()["error"]["code"] == "not_found"
    wrong = server.get("/v1/completions")
    assert (wrong.status_code, wrong.headers["Allow"].count("POST")) == (405, 1)


def test_after_all_that_the_server_works(sdk: openai.OpenAI) -> None:
    assert works(sdk)


# --- what does not fit ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory, starter_gguf: Path) -> Iterator[Server]:
    """One sequence at a time, and nobody may wait for it."""
    folder = make_data_dir(tmp_path_factory.mktemp("narrow") / "data", starter_gguf)
    with serving(follow_settings(folder), JANFLASK_N_PARALLEL="1", JANFLASK_QUEUE_LIMIT="0") as server:
        yield server


def test_a_prompt_longer_than_the_context(narrow: Server) -> None:
    narrow.stop().raise_for_status()
    narrow.start(ctx_len=64).raise_for_status()
    assert narrow.model()["runtime"]["ctx_len"] == 64
    with narrow.sdk() as sdk:
        for length in 64, 71:
            with pytest.raises(openai.BadRequestError) as caught:
                sdk.completions.create(model=MODEL, prompt=[1000] * length, max_tokens=5)
            assert caught.value.code == "context_length_exceeded"
            assert caught.value.param == "prompt"
            assert {str(length), "64"} <= set(re.findall(r"\d+", caught.value.message))
        long: Any = [{"role": "user", "content": "word " * 100}]
        with pytest.raises(openai.BadRequestError) as caught:
            sdk.chat.completions.create(model=MODEL, messages=long, stream=True)
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
        fits = sdk.completions.create(model=MODEL, prompt=[1000] * 63, max_tokens=5, extra_body={"ignore_eos": True})
        assert fits.choices[0].finish_reason == "length", "the context is full"
        assert fits.usage is not None
        assert fits.usage.completion_tokens == 1
        assert works(sdk)


def test_a_full_queue(narrow: Server) -> None:
    narrow.stop().raise_for_status()
    narrow.start().raise_for_status()
    with narrow.sdk() as sdk:
        long: Any = {"max_tokens": 1900, "extra_body": {"ignore_eos": True}}
        with sdk.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, **long) as first:
            assert next(iter(first)).choices[0].delta.role == "assistant"
            with pytest.raises(openai.RateLimitError) as caught:
                sdk.chat.completions.create(model=MODEL, messages=MESSAGES)
            assert caught.value.code == "queue_full"
            assert int(caught.value.response.headers["Retry-After"]) >= 1
            streamed = narrow.post(CHAT, json={"model": MODEL, "messages": MESSAGES, "stream": True})
            assert streamed.status_code == 429, "a stream is refused with a true status, too"
            with pytest.raises(openai.RateLimitError):
                sdk.chat.completions.create(model=MODEL, messages=MESSAGES, n=2)
        wait_for(lambda: narrow.stats()["busy"] == 0, "the first request to be cancelled")
        assert works(sdk)


# --- files that are no models ---------------------------------------------------------------------------------------


BROKEN = {
    "truncated": (20_000_000, "truncated.gguf"),
    "cut-in-its-header": (3000, "cut-in-its-header.gguf"),
    "no-gguf": (0, "not a GGUF"),
    "empty": (0, "is empty"),
}


@pytest.fixture(params=BROKEN)
def broken(request: pytest.FixtureRequest, server: Server, starter_gguf: Path) -> Iterator[str]:
    """A model on the shared server whose file cannot be loaded."""
    name: str = request.param
    folder = server.data_dir / "models" / name
    folder.mkdir()
    file = folder / f"{name}.gguf"
    if name == "no-gguf":
        file.write_bytes(b"<!DOCTYPE html><title>404 Not Found</title>" * 100)
    else:
        with starter_gguf.open("rb") as whole:
            file.write_bytes(whole.read(BROKEN[name][0]))
    yield name
    file.unlink()
    folder.rmdir()


def test_a_file_that_cannot_be_loaded(server: Server, sdk: openai.OpenAI, broken: str) -> None:
    before = server.engines()
    answer = server.start(broken)
    assert answer.status_code == 500
    error = answer.json()["error"]
    assert error["code"] == "model_load_failed"
    assert BROKEN[broken][1] in error["message"]
    shown = server.model(broken)
    assert shown["state"] in ("stopped", "downloaded", "not_downloaded")
    assert shown["error"]
    with pytest.raises(openai.APIStatusError) as caught:
        sdk.chat.completions.create(model=broken, messages=MESSAGES)
    assert caught.value.code == "model_load_failed"
    assert broken in [model.id for model in sdk.models.list()]
    assert works(sdk)
    assert server.engines() == before, "the other model went on, and nothing of this one is left"
