"""A prompt's own log-probabilities on the real model: the numbers, and what evaluation harnesses do with them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from janflask_ext import rows
from tests.e2e.server import LIMIT, MODEL, Server, raw_request, run, wait_for

COMPLETIONS = "/v1/completions"
CLOSE = 0.05  # what other slices of the same prompt, or another batch, may move a log-probability
TEXTS = {
    "plain": "The capital of France is Paris, and the capital of Italy is Rome.",
    "characters of several tokens": "Il était une fois ☕ un café 🦜, 日本語.",
    "markers": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "longer than a slice": "The lighthouse keeper climbs one hundred and twelve steps each evening. " * 12,
    "one token": "The",
}


def scored(server: Server, prompt: Any, **options: Any) -> list[dict[str, Any]]:
    """The choices for a prompt that is told with its scores."""
    body = {"model": MODEL, "prompt": prompt, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0, **options}
    answer = server.post(COMPLETIONS, json=body)
    assert answer.status_code == 200, answer.text
    choices: list[dict[str, Any]] = answer.json()["choices"]
    return choices


@pytest.fixture(scope="module")
def references(starter_gguf: Path, server: Server) -> dict[str, dict[str, list[Any]]]:
    knobs = server.model()["runtime"]["knobs"]
    job = {
        "model_path": str(starter_gguf),
        "threads": knobs["cpu_threads"],
        "flash_attn": knobs["flash_attn"],
        "one_by_one": 0 if rows.install() else rows.MANY,  # the bits that few rows have here
        "texts": list(TEXTS.values()),
    }
    done = run([sys.executable, "-m", "tests.e2e.reference_scores"], dict(os.environ), json.dumps(job))
    assert done.returncode == 0, done.stderr
    return dict(zip(TEXTS, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("name", TEXTS)
def test_the_numbers_are_those_of_llama_cpp_python(
    name: str, server: Server, references: dict[str, dict[str, list[Any]]]
) -> None:
    expected = references[name]
    for prompt in TEXTS[name], expected["tokens"]:
        (choice,) = scored(server, prompt, max_tokens=0)
        logprobs = choice["logprobs"]
        assert choice["text"] == TEXTS[name]
        assert logprobs["token_logprobs"][0] is None
        assert logprobs["top_logprobs"][0] is None
        assert logprobs["token_logprobs"][1:] == pytest.approx(expected["scores"], abs=CLOSE)
        best = [max(top.values()) for top in logprobs["top_logprobs"][1:]]
        assert best == pytest.approx(expected["best"], abs=CLOSE)
        assert {len(items) for items in logprobs.values()} == {len(expected["tokens"])}


def test_places_in_the_text(server: Server) -> None:
    text = TEXTS["characters of several tokens"]
    (choice,) = scored(server, text, max_tokens=4)
    tokens, offsets = choice["logprobs"]["tokens"], choice["logprobs"]["text_offset"]
    assert choice["text"].startswith(text)
    assert any(token.startswith("bytes:") for token in tokens)
    for token, offset in zip(tokens, offsets, strict=True):
        if not token.startswith("bytes:"):
            assert choice["text"][offset : offset + len(token)] == token


def test_as_an_evaluation_harness_reads_it(server: Server) -> None:
    """lm-eval 0.4.13's ``local-completions``: contexts and continuations as token ids, one token more is generated."""
    asked = [("The capital of France is", " Paris"), ("The capital of France is", " banana bread")]
    ids = {
        text: server.post("/v1/tokenize", json={"model": MODEL, "content": text}).json()["tokens"]
        for pair in asked
        for text in pair
    }
    choices = scored(server, [ids[context] + ids[continuation] for context, continuation in asked])
    results = []
    for (context, continuation), choice in zip(asked, choices, strict=True):
        known = slice(len(ids[context]), -1)
        logprobs = choice["logprobs"]["token_logprobs"][known]
        tops = choice["logprobs"]["top_logprobs"][known]
        assert len(logprobs) == len(ids[continuation])
        greedy = all(logprob == max(top.values()) for logprob, top in zip(logprobs, tops, strict=True))
        results.append((sum(logprobs), greedy))
    assert results[0][1]
    assert not results[1][1]
    assert results[0][0] > results[1][0] + 5


def test_one_token_comes_after_the_prompt_also_where_the_answer_ends(server: Server) -> None:
    end = server.post("/v1/tokenize", json={"model": MODEL, "content": "<|im_end|>"}).json()["tokens"][0]
    (choice,) = scored(server, "Hello", logit_bias={str(end): 100})
    assert (choice["finish_reason"], choice["text"]) == ("stop", "Hello")
    assert choice["logprobs"]["tokens"] == ["Hello", "<|im_end|>"]
    assert choice["logprobs"]["text_offset"] == [0, 5]


def test_a_cached_prompt_is_computed_again_and_may_be_used_later(server: Server, sdk: openai.OpenAI) -> None:
    text = "An archivist of a small museum by the sea wrote down what the fog had left on the pier that morning."
    sdk.completions.create(model=MODEL, prompt=text, max_tokens=1)
    (choice,) = scored(server, text)
    after = sdk.completions.create(model=MODEL, prompt=f"{text} And then", max_tokens=1)
    assert len(choice["logprobs"]["tokens"]) == after.usage.prompt_tokens - 2 + 1  # type: ignore[union-attr]
    assert after.usage.prompt_tokens_details.cached_tokens >= 15  # type: ignore[union-attr]


def test_several_prompts_and_choices_streamed_as_whole(server: Server) -> None:
    prompts, options = [TEXTS["plain"], TEXTS["markers"]], {"n": 2, "max_tokens": 3, "seed": 7, "temperature": 1}
    whole = scored(server, prompts, **options)
    assert [choice["index"] for choice in whole] == [0, 1, 2, 3]
    body = {"model": MODEL, "prompt": prompts, "echo": True, "logprobs": 1, "stream": True, **options}
    texts = [""] * 4
    logprobs: list[dict[str, list[Any]]] = [{name: [] for name in whole[0]["logprobs"]} for _ in whole]
    with httpx.stream("POST", server.url + COMPLETIONS, json=body, timeout=LIMIT) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    for line in lines[:-1]:
        for choice in json.loads(line)["choices"]:
            texts[choice["index"]] += choice["text"]
            for name, items in (choice["logprobs"] or {}).items():
                logprobs[choice["index"]][name] += items
    for index, choice in enumerate(whole):
        prompt = prompts[index // 2]
        assert choice["text"].startswith(prompt)
        assert texts[index].startswith(prompt)
        told = [offset for offset in choice["logprobs"]["text_offset"] if offset < len(prompt)]
        for name in "tokens", "text_offset":
            assert logprobs[index][name][: len(told)] == choice["logprobs"][name][: len(told)]
        ours, theirs = (item["token_logprobs"][1 : len(told)] for item in (logprobs[index], choice["logprobs"]))
        assert ours == pytest.approx(theirs, abs=CLOSE)


def test_a_client_that_leaves_in_mid_prompt(server: Server) -> None:
    before = server.stats()["cancelled"]
    ids = [(number * 37) % 40_000 + 100 for number in range(1900)]
    body = {"model": MODEL, "prompt": ids, "echo": True, "logprobs": 20, "max_tokens": 0, "stream": True}
    with raw_request(server, body) as sock:
        assert b"200" in sock.recv(64)
    wait_for(lambda: server.stats()["busy"] == 0, "the prompt to be given up")
    assert server.stats()["cancelled"] == before + 1


def test_token_ids_are_echoed_without_scores(sdk: openai.OpenAI) -> None:
    prompt = [504, 3575, 282, 4649, 314]
    answer = sdk.completions.create(model=MODEL, prompt=prompt, echo=True, max_tokens=0)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("The capital of France is", "length")
    assert answer.choices[0].logprobs is None
