"""The official SDK drives the whole API against the real model."""

from __future__ import annotations

import json
import re
import shutil
from typing import Any
from urllib.parse import quote

import openai
import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.e2e.server import MODEL, Server

MESSAGES: Any = [{"role": "user", "content": "Name three animals."}]
TIMINGS = {"queue_ms", "cache_n", "prompt_n", "prompt_ms", "prompt_per_second"}
TIMINGS |= {"predicted_n", "predicted_ms", "predicted_per_second"}


def chat(sdk: openai.OpenAI, **given: Any) -> Any:
    """8 tokens unless the test says something else; an answer that is drawn may otherwise end before."""
    more = {} if {"max_tokens", "extra_body"} & given.keys() else {"extra_body": {"ignore_eos": True}}
    return sdk.chat.completions.create(**{"model": MODEL, "messages": MESSAGES, "max_tokens": 8, **more, **given})


def complete(sdk: openai.OpenAI, prompt: Any, **given: Any) -> Any:
    return sdk.completions.create(**{"model": MODEL, "prompt": prompt, "max_tokens": 8, **given})


def strictly(kind: Any, parsed: Any) -> None:
    """The SDK builds objects without checking; this checks."""
    kind.model_validate(parsed.to_dict(), strict=True)


# --- chat -------------------------------------------------------------------------------------------------------


def test_a_chat(sdk: openai.OpenAI) -> None:
    answer = chat(sdk, temperature=0)
    strictly(ChatCompletion, answer)
    assert answer.choices[0].message.content.strip()
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 8
    timings = answer.model_extra["timings"]
    assert set(timings) == TIMINGS
    assert timings["predicted_n"] == 8
    assert timings["prompt_n"] + timings["cache_n"] == answer.usage.prompt_tokens
    assert timings["predicted_per_second"] > 0


def test_an_answer_that_ends_by_itself(sdk: openai.OpenAI) -> None:
    question = [{"role": "user", "content": "What is 2+2? Answer with one number."}]
    answer = chat(sdk, messages=question, temperature=0, max_tokens=200)
    assert answer.choices[0].finish_reason == "stop"
    assert "<|" not in answer.choices[0].message.content
    longer = chat(sdk, messages=question, temperature=0, max_tokens=200, extra_body={"ignore_eos": True})
    assert longer.choices[0].finish_reason == "length"
    assert longer.usage.completion_tokens == 200


def test_a_streamed_chat_with_usage(sdk: openai.OpenAI) -> None:
    chunks = list(chat(sdk, stream=True, stream_options={"include_usage": True}))
    for chunk in chunks:
        strictly(ChatCompletionChunk, chunk)
    *texts, last, usage = chunks
    assert texts[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content for chunk in texts).strip()
    assert last.choices[0].finish_reason == "length"
    assert usage.choices == []
    assert usage.usage.completion_tokens == 8
    assert set(usage.model_extra["timings"]) == TIMINGS


def test_a_stream_without_usage_has_timings_in_its_last_chunk(sdk: openai.OpenAI) -> None:
    chunks = list(chat(sdk, stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    assert [set(chunk.model_extra or {}) for chunk in chunks] == [set()] * (len(chunks) - 1) + [{"timings"}]


@pytest.mark.parametrize("stream", [False, True])
def test_several_choices(sdk: openai.OpenAI, stream: bool) -> None:
    given = {"n": 3, "temperature": 1.5, "seed": 7, "extra_body": {"top_k": 0, "min_p": 0}}
    texts = {0: "", 1: "", 2: ""}
    if stream:
        for chunk in chat(sdk, **given, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
    else:
        answer = chat(sdk, **given)
        texts = {choice.index: choice.message.content for choice in answer.choices}
        assert answer.usage.completion_tokens == 24
    assert list(texts) == [0, 1, 2]
    assert len(set(texts.values())) == 3, "each choice draws for itself"


def test_a_stop_string(sdk: openai.OpenAI) -> None:
    counting = [{"role": "user", "content": "Count from 1 to 10, with commas."}]
    whole = chat(sdk, messages=counting, temperature=0, max_tokens=24).choices[0].message.content
    stop = whole[6:9]
    expected = whole[: whole.index(stop)]
    answer = chat(sdk, messages=counting, temperature=0, max_tokens=24, stop=["never said", stop])
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content == expected
    chunks = list(chat(sdk, messages=counting, temperature=0, max_tokens=24, stop=stop, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_seed_makes_an_answer_repeatable(sdk: openai.OpenAI) -> None:
    given: Any = {"temperature": 1, "max_tokens": 24, "extra_body": {"cache_prompt": False}}
    first, again, other = (chat(sdk, seed=seed, **given).choices[0].message.content for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_log_probabilities(sdk: openai.OpenAI) -> None:
    answer = chat(sdk, temperature=0, logprobs=True, top_logprobs=3)
    strictly(ChatCompletion, answer)
    content = answer.choices[0].logprobs.content
    assert b"".join(bytes(entry.bytes) for entry in content).decode() == answer.choices[0].message.content
    for entry in content:
        assert [top.logprob for top in entry.top_logprobs] == sorted(t.logprob for t in entry.top_logprobs)[::-1]
        assert (entry.token, entry.logprob) == (entry.top_logprobs[0].token, entry.top_logprobs[0].logprob)
        assert len(entry.top_logprobs) == 3
        assert entry.logprob <= 0
    assert chat(sdk, logprobs=True).choices[0].logprobs.content[0].top_logprobs == []


def test_logit_bias(sdk: openai.OpenAI) -> None:
    token = 28  # what it says does not matter
    answer = chat(sdk, logit_bias={str(token): 100}, max_tokens=4)
    text = answer.choices[0].message.content
    assert len(set(re.findall(re.escape(text[: len(text) // 4]), text))) == 1
    assert text == text[: len(text) // 4] * 4
    without = chat(sdk, logit_bias={str(token): -100}, max_tokens=4)
    assert without.choices[0].message.content != text


def test_max_completion_tokens(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(model=MODEL, messages=MESSAGES, max_completion_tokens=3)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_a_system_prompt_changes_the_answer(sdk: openai.OpenAI) -> None:
    system = {"role": "system", "content": "You only ever say the word banana."}
    plain, other = chat(sdk, temperature=0), chat(sdk, temperature=0, messages=[system, *MESSAGES])
    assert plain.choices[0].message.content != other.choices[0].message.content


# --- completions --------------------------------------------------------------------------------------------------


def test_a_completion(sdk: openai.OpenAI) -> None:
    answer = complete(sdk, "The capital of France is", temperature=0)
    strictly(Completion, answer)
    assert "Paris" in answer.choices[0].text
    assert set(answer.model_extra["timings"]) == TIMINGS
    chunks = list(complete(sdk, "The capital of France is", temperature=0, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == answer.choices[0].text


def test_several_prompts_echoed(sdk: openai.OpenAI) -> None:
    prompts = ["One, two,", "Red, green,", "Monday, Tuesday,"]
    answer = complete(sdk, prompts, n=2, echo=True, temperature=0.5, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3, 4, 5]
    for choice in answer.choices:
        prompt = prompts[choice.index // 2]
        assert choice.text.startswith(prompt)
        assert len(choice.text) > len(prompt)
    assert answer.usage.completion_tokens == 6 * 8


def test_a_prompt_of_token_ids(sdk: openai.OpenAI) -> None:
    answer = complete(sdk, [504, 3575, 282, 4649, 314], temperature=0)
    assert answer.usage.prompt_tokens == 5
    assert answer.choices[0].text


def test_legacy_log_probabilities(sdk: openai.OpenAI) -> None:
    answer = complete(sdk, "The capital of France is", temperature=0, logprobs=2)
    strictly(Completion, answer)
    text, logprobs = answer.choices[0].text, answer.choices[0].logprobs
    assert "".join(logprobs.tokens) == text
    assert logprobs.text_offset == [len("".join(logprobs.tokens[:place])) for place in range(8)]
    assert all(len(top) == 2 for top in logprobs.top_logprobs)
    tokens = zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True)
    assert all(top[token] == value for token, value, top in tokens)


# --- models and the server's own pages ----------------------------------------------------------------------------


def test_models(sdk: openai.OpenAI) -> None:
    assert [model.id for model in sdk.models.list()] == [MODEL]
    model = sdk.models.retrieve(MODEL)
    assert (model.id, model.object) == (MODEL, "model")
    assert model.model_extra is not None
    assert model.model_extra["status"] == "running"
    assert model.model_extra["runtime"]["knobs"]["source"] == "pinned"


def test_a_model_by_its_source_url(server: Server) -> None:
    url = "https://models.example/org/repo/resolve/main/x%20y.gguf?download=true"
    file = server.data_dir / "models" / "elsewhere" / "model.json"
    file.parent.mkdir()
    try:
        file.write_text(json.dumps({"sources": [{"filename": "x.gguf", "url": url}]}))
        model = server.model(quote(url, safe=""))
    finally:
        shutil.rmtree(file.parent)
    assert (model["id"], model["source_url"], model["status"]) == ("elsewhere", url, "not_downloaded")
    assert server.get(f"/v1/models/{quote(url, safe='')}").status_code == 404


def test_stop_start_and_a_request_that_starts_it(server: Server, sdk: openai.OpenAI) -> None:
    assert server.stop().json() == {"id": MODEL, "object": "model", "state": "stopped"}
    assert server.model()["status"] == "stopped"
    assert server.engines() == [], "its memory is given back"
    assert server.stop().status_code == 200
    assert chat(sdk).choices[0].message.content
    assert server.model()["status"] == "running"
    (engine,) = server.engines()
    assert server.start().json() == {"id": MODEL, "object": "model", "state": "running"}
    assert server.engines() == [engine], "a running model is left as it is"
    server.stop()
    chunks = list(chat(sdk, stream=True))
    assert chunks[-1].choices[0].finish_reason == "length"


def test_health_and_the_description(server: Server) -> None:
    assert server.get("/healthz").json()["status"] == "ok"
    document = server.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    paths = {"/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/models/{model_id}", "/healthz"}
    assert paths <= set(document["paths"])
    for path, item in document["paths"].items():
        for method in item.keys() & {"get", "put", "post"}:
            answer = item[method]["responses"]["200"]
            assert item[method]["summary"], (path, method)
            assert all("example" in kind or "examples" in kind for kind in answer["content"].values()), (path, method)
    model = server.model()
    assert model["error"] is None, json.dumps(model)


def test_the_documentation_needs_no_other_host(server: Server) -> None:
    page = server.get("/docs")
    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w+", page.text)
    assets = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    assert any(asset.endswith(".js") for asset in assets)
    assert any(asset.endswith(".css") for asset in assets)
    for asset in assets:
        answer = server.get(asset)
        assert answer.status_code == 200, asset
        assert len(answer.content) > 300, asset
