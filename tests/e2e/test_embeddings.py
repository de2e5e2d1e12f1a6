"""Embeddings through everything: gunicorn, a real engine, the openai SDK; and models that cannot be served."""

from __future__ import annotations

import base64
import json
import shutil
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from tests.e2e.server import Server, serving, wait_for
from tests.models.tiny import CHAT_ID, EMBEDDING_ID, TinyModels, install

TEXTS = ["the cat sat on the mat", "a dog ran", "hello world", "the cat sat on the mat"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels) -> Path:
    """A chat model, an embedding model, and what cannot be served."""
    folder = tmp_path_factory.mktemp("embeddings") / "data"
    install(folder, CHAT_ID, tiny_models.chat, settings={"ctx_len": 256})
    install(folder, "both", tiny_models.other_chat, settings={"ctx_len": 256, "embedding": "true"})
    install(folder, EMBEDDING_ID, tiny_models.embedding)
    install(folder, "split", tiny_models.split, settings={"ctx_len": 256})
    install(folder, "half", tiny_models.split[:1])
    install(folder, "adapted", tiny_models.chat, settings={"ctx_len": 256, "lora": tiny_models.lora.name})
    install(folder, "unadapted", tiny_models.chat, settings={"lora": "missing.gguf"})
    for name in ("unknown_architecture", "cut_short", "missing_tensor", "reranker"):
        install(folder, name, getattr(tiny_models, name))
    shutil.copy(tiny_models.lora, folder / "models" / "adapted")
    return folder


@pytest.fixture(scope="module")
def server(data_dir: Path) -> Iterator[Server]:
    with serving(data_dir, JANFLASK_CTX_LEN="auto", JANFLASK_N_PARALLEL="4") as server:
        yield server


@pytest.fixture
def sdk(server: Server) -> Iterator[openai.OpenAI]:
    with server.sdk() as client:
        yield client


def embed(sdk: openai.OpenAI, texts: Any, model: str = EMBEDDING_ID, **options: Any) -> np.ndarray:
    return np.array([item.embedding for item in sdk.embeddings.create(model=model, input=texts, **options).data])


def say(sdk: openai.OpenAI, model: str, **options: Any) -> str | None:
    messages: Any = [{"role": "user", "content": "hello"}]
    answer = sdk.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=12, **options)
    return answer.choices[0].message.content


def test_vectors_by_the_sdk(sdk: openai.OpenAI) -> None:
    """It asks for base64 by itself."""
    answer = sdk.embeddings.create(model=EMBEDDING_ID, input=TEXTS)
    assert [item.index for item in answer.data] == [0, 1, 2, 3]
    assert answer.object == "list"
    assert {item.object for item in answer.data} == {"embedding"}
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > len(TEXTS)
    vectors = embed(sdk, TEXTS)
    assert vectors.shape == (4, 32)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6
    assert np.abs(vectors[0] - vectors[3]).max() < 1e-5
    assert (vectors[0] @ vectors[:3].T)[1:].max() < 0.999


def test_float_and_base64_are_the_same(sdk: openai.OpenAI, server: Server) -> None:
    floats = embed(sdk, TEXTS, encoding_format="float")
    body = {"model": EMBEDDING_ID, "input": TEXTS, "encoding_format": "base64"}
    raw = server.post("/v1/embeddings", json=body).json()["data"]
    decoded = np.array([struct.unpack("<32f", base64.b64decode(item["embedding"])) for item in raw])
    assert np.abs(floats - decoded).max() < 1e-6
    assert np.abs(floats - embed(sdk, TEXTS)).max() < 1e-6


def test_one_by_one_is_as_together(sdk: openai.OpenAI, server: Server) -> None:
    together = embed(sdk, TEXTS)
    alone = np.concatenate([embed(sdk, text) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-4
    tokens = [
        server.post("/v1/tokenize", json={"model": EMBEDDING_ID, "content": t, "add_special": True}) for t in TEXTS
    ]
    by_tokens = embed(sdk, [answer.json()["tokens"] for answer in tokens])
    assert np.abs(together - by_tokens).max() < 1e-4


def test_shorter_vectors(sdk: openai.OpenAI) -> None:
    whole, part = embed(sdk, TEXTS), embed(sdk, TEXTS, dimensions=8)
    assert part.shape == (4, 8)
    expected = whole[:, :8] / np.linalg.norm(whole[:, :8], axis=1, keepdims=True)
    assert np.abs(part - expected).max() < 1e-5
    with pytest.raises(openai.BadRequestError, match="the model's vectors have 32") as caught:
        embed(sdk, TEXTS, dimensions=33)
    assert caught.value.param == "dimensions"


def test_as_many_inputs_as_may_be(sdk: openai.OpenAI) -> None:
    texts = [f"cat {number}" for number in range(2048)]
    vectors = embed(sdk, texts)
    assert vectors.shape == (2048, 32)
    assert np.abs(vectors[[0, 700, 2047]] - embed(sdk, [texts[0], texts[700], texts[2047]])).max() < 1e-4


def test_what_is_too_long_is_named(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"input\.1: prompt is too long: 202 tokens > 128 max") as caught:
        embed(sdk, ["cat", "cat " * 200])
    assert (caught.value.param, caught.value.code) == ("input.1", "context_length_exceeded")


def test_a_chat_model_and_an_embedding_model_run_at_once(sdk: openai.OpenAI, server: Server) -> None:
    expected_text, expected_vectors = say(sdk, CHAT_ID), embed(sdk, TEXTS)
    assert len(server.engines()) >= 2
    with ThreadPoolExecutor(8) as pool:
        texts = [pool.submit(say, sdk, CHAT_ID) for _ in range(8)]
        vectors = [pool.submit(embed, sdk, TEXTS) for _ in range(8)]
    assert {future.result() for future in texts} == {expected_text}
    assert max(np.abs(future.result() - expected_vectors).max() for future in vectors) < 1e-4


def test_each_says_what_it_does_not_serve(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"set settings\.embedding to true"):
        embed(sdk, TEXTS, CHAT_ID)
    with pytest.raises(openai.BadRequestError, match="serves embeddings, not text"):
        say(sdk, EMBEDDING_ID)
    with pytest.raises(openai.BadRequestError, match="serves embeddings, not text"):
        sdk.completions.create(model=EMBEDDING_ID, prompt="hello")


def test_a_model_that_is_told_to_serves_both(sdk: openai.OpenAI, server: Server) -> None:
    """As Jan writes it into the models that it has."""
    text = say(sdk, "both")
    vectors = embed(sdk, TEXTS, "both")
    assert text
    assert vectors.shape == (4, 64)
    assert np.abs(vectors[0] - vectors[3]).max() < 1e-5
    assert say(sdk, "both") == text
    assert "embeddings: the file names no pooling, last is used" in json.dumps(server.model("both"))


def test_a_client_that_leaves_takes_its_work_along(server: Server, sdk: openai.OpenAI) -> None:
    embed(sdk, "warm")
    texts = ["the cat sat on the mat and is good " * 12] * 2048
    with pytest.raises(httpx.TimeoutException):
        httpx.post(f"{server.url}/v1/embeddings", json={"model": EMBEDDING_ID, "input": texts}, timeout=0.5)
    wait_for(lambda: server.model(EMBEDDING_ID)["stats"]["cancelled"] >= 1, "the cancellation")
    assert embed(sdk, TEXTS).shape == (4, 32)


def test_an_adapter_in_the_models_folder(sdk: openai.OpenAI) -> None:
    assert say(sdk, "split") == say(sdk, CHAT_ID) != say(sdk, "adapted")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("unknown_architecture", "unknown model architecture: 'orrery': the llama.cpp of this server cannot run it"),
        ("cut_short", "download it again"),
        ("missing_tensor", "tensor 'blk.1.ffn_down.weight' not found: the file is damaged"),
        ("half", "is one part of a model, and others are missing"),
        ("reranker", "this model ranks documents"),
        ("unadapted", "missing.gguf is not there any more"),
    ],
)
def test_a_model_that_cannot_be_served_says_why(server: Server, sdk: openai.OpenAI, model: str, says: str) -> None:
    answer = server.start(model)
    assert answer.status_code in (400, 500)
    assert says in answer.json()["error"]["message"]
    assert server.model(model)["status"] not in ("starting", "running")
    assert says in server.model(model)["error"]
    assert embed(sdk, TEXTS).shape == (4, 32), "the others go on"


def test_settings_of_a_start(server: Server, sdk: openai.OpenAI) -> None:
    refused = server.start(CHAT_ID, rope_scaling="sideways")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "rope_scaling")
    plain = say(sdk, CHAT_ID)
    server.stop(CHAT_ID)
    server.start(CHAT_ID, mlock=True, mmap=False, rope_freq_base="300").raise_for_status()
    assert say(sdk, CHAT_ID) != plain
    server.stop(CHAT_ID)
