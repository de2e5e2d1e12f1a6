"""Models from the hub to an answer: fetched, followed, changed, kept within memory, unloaded, restored, deleted.

The real server and real engines over small models; only the hub is a stand-in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.server import LIMIT, Server, gone, serving, wait_for
from tests.fakes.hub import FakeHub, fake_hub
from tests.models.tiny import CHAT_ID, CONTEXT, TinyModels, install, write_chat

QUESTION: Any = [{"role": "user", "content": "hello"}]
SMALL = {"JANFLASK_CTX_LEN": "auto", "JANFLASK_N_PARALLEL": "1"}


@pytest.fixture
def hub(tiny_models: TinyModels) -> Iterator[FakeHub]:
    with fake_hub() as hub:
        hub.add(
            "acme/tiny-GGUF",
            {
                "README.md": b"# Tiny",
                "tiny-Q8_0.gguf": tiny_models.chat.read_bytes(),
                "tiny-F32.gguf": tiny_models.other_chat.read_bytes(),
            },
        )
        hub.add("acme/split-GGUF", {part.name: part.read_bytes() for part in tiny_models.split})
        yield hub


def ask(server: Server, model: str) -> str:
    with server.sdk() as sdk:
        answer = sdk.chat.completions.create(model=model, messages=QUESTION, max_tokens=4, temperature=0)
    return answer.choices[0].message.content or ""


def pull(server: Server, source: str, **fields: Any) -> list[dict[str, Any]]:
    """Asks for a model and follows its events until nothing is under way with it."""
    answer = server.post("/v1/models", json={"source_url": source} | fields)
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "downloading"
    return follow(server, answer.json()["id"])


def follow(server: Server, model: str) -> list[dict[str, Any]]:
    with httpx.stream("GET", f"{server.url}/v1/models/{model}/events", timeout=LIMIT) as stream:
        assert stream.status_code == 200
        return [json.loads(line[5:]) for line in stream.iter_lines() if line.startswith("data:")]


def status(server: Server, model: str) -> str:
    found: str = server.model(model)["status"]
    return found


def test_a_model_comes_from_the_hub_and_answers(tmp_path: Path, hub: FakeHub, tiny_models: TinyModels) -> None:
    with serving(tmp_path / "data", HF_ENDPOINT=hub.endpoint, **SMALL) as server:
        told = pull(server, "hf:acme/tiny-GGUF:Q8_0", id="mine", parameters={"temperature": "0"})
        assert told[-1]["status"] == "downloaded"
        model = server.model("mine")
        assert model["metadata"]["architecture"] == "llama"
        assert model["metadata"]["context_length"] == CONTEXT
        assert model["metadata"]["size"] == tiny_models.chat.stat().st_size
        assert model["parameters"]["temperature"] == 0
        assert ask(server, "mine")
        assert status(server, "mine") == "running"

        refused = httpx.delete(f"{server.url}/v1/models/mine", timeout=LIMIT)
        assert refused.status_code == 409
        again = server.post("/v1/models", json={"source_url": "hf:acme/tiny-GGUF:Q8_0"})
        assert (again.status_code, again.json()["error"]["code"]) == (409, "model_exists")

        server.stop("mine").raise_for_status()
        assert httpx.delete(f"{server.url}/v1/models/mine", timeout=LIMIT).json()["deleted"] is True
        assert server.get("/v1/models/mine").status_code == 404
        assert [path for path in (tmp_path / "data" / "models").rglob("*") if path.is_file()] == []
        with server.sdk() as sdk, pytest.raises(openai.NotFoundError):
            sdk.chat.completions.create(model="mine", messages=QUESTION)


def test_a_split_model_is_one(tmp_path: Path, hub: FakeHub, tiny_models: TinyModels) -> None:
    with serving(tmp_path / "data", HF_ENDPOINT=hub.endpoint, **SMALL) as server:
        told = pull(server, f"hf:acme/split-GGUF/{tiny_models.split[0].name}", id="split")
        assert told[-1]["status"] == "downloaded", told[-1]
        assert server.model("split")["metadata"]["size"] == sum(part.stat().st_size for part in tiny_models.split)
        assert ask(server, "split")


def test_what_cannot_be_fetched_says_why_and_leaves_nothing(tmp_path: Path, hub: FakeHub) -> None:
    with serving(tmp_path / "data", HF_ENDPOINT=hub.endpoint) as server:
        told = pull(server, "hf:acme/tiny-GGUF:Q2_K", id="none")
        assert told[-1]["status"] == "not_downloaded"
        assert "Q8_0" in told[-1]["error"]
        private = pull(server, "http://127.0.0.1:9/model.gguf", id="inside")
        assert "JANFLASK_ALLOW_PRIVATE_SOURCES" in private[-1]["error"]
        listed = {model["id"]: model for model in server.get("/v1/models").json()["data"]}
        assert listed["none"]["state"] is None
        assert listed["none"]["download"]["error"] == told[-1]["error"]
        models = tmp_path / "data" / "models"
        assert [path for path in models.rglob("*") if path.is_file()] == []


def test_a_download_goes_on_after_everything_was_killed(tmp_path: Path, hub: FakeHub) -> None:
    large = write_chat(tmp_path / "large.gguf", context=CONTEXT)
    content = large.read_bytes() + bytes(24 << 20)  # what follows the tensors is nobody's
    hub.add("acme/large-GGUF", {"large-F32.gguf": content})
    hub.slow_down(bytes_per_second=8 << 20)
    with serving(tmp_path / "data", HF_ENDPOINT=hub.endpoint, **SMALL) as server:
        server.post("/v1/models", json={"source_url": "hf:acme/large-GGUF", "id": "large"}).raise_for_status()
        wait_for(lambda: (server.model("large")["download"] or {}).get("transferred", 0) > 4 << 20, "some of it")
        server.kill()
    with serving(tmp_path / "data", HF_ENDPOINT=hub.endpoint, **SMALL) as server:
        assert follow(server, "large")[-1]["status"] == "downloaded"
        assert ask(server, "large")
    assert hub.bytes_sent < 1.3 * len(content)  # what was on its way when the first server died came twice


def test_a_watched_download_does_not_hold_up_a_stop(tmp_path: Path, hub: FakeHub) -> None:
    large = write_chat(tmp_path / "large.gguf", context=CONTEXT)
    hub.add("acme/large-GGUF", {"large-F32.gguf": large.read_bytes() + bytes(64 << 20)})
    hub.slow_down(bytes_per_second=1 << 20)
    with serving(tmp_path / "data", HF_ENDPOINT=hub.endpoint, **SMALL) as server:
        server.post("/v1/models", json={"source_url": "hf:acme/large-GGUF", "id": "large"}).raise_for_status()
        with httpx.stream("GET", f"{server.url}/v1/models/large/events", timeout=LIMIT) as stream:
            lines = (line[5:] for line in stream.iter_lines() if line.startswith("data:"))
            while not json.loads(next(lines))["download"]["transferred"]:
                pass
            server.process.terminate()
            told = [json.loads(line) for line in lines]
        assert "shutting down" in told[-1]["error"]["message"]
        assert all(state["status"] == "downloading" for state in told[:-1])
        assert server.process.wait(LIMIT) == 0
    part = next((tmp_path / "data" / "models").rglob("*.part"))
    assert part.stat().st_size < large.stat().st_size + (64 << 20), "the stop did not wait for it"


def test_settings_hold_from_the_next_start_and_a_start_can_override_them(
    tmp_path: Path, tiny_models: TinyModels
) -> None:
    install(tmp_path / "data", CHAT_ID, tiny_models.chat)
    with serving(tmp_path / "data", **SMALL) as server:
        assert ask(server, CHAT_ID)
        changed = httpx.patch(f"{server.url}/v1/models/{CHAT_ID}", json={"settings": {"ctx_len": "128"}}, timeout=LIMIT)
        assert changed.json()["settings"]["ctx_len"] == 128
        assert changed.json()["runtime"]["ctx_len"] == CONTEXT
        assert any("next start" in note for note in changed.json()["notes"])
        server.stop(CHAT_ID).raise_for_status()
        assert ask(server, CHAT_ID)
        assert server.model(CHAT_ID)["runtime"]["ctx_len"] == 128
        server.stop(CHAT_ID).raise_for_status()
        server.start(CHAT_ID, ctx_len=256).raise_for_status()
        assert server.model(CHAT_ID)["runtime"]["ctx_len"] == 256


def test_the_idle_one_makes_room_and_one_in_use_never(tmp_path: Path, tiny_models: TinyModels) -> None:
    data = tmp_path / "data"
    install(data, "one", tiny_models.chat)
    install(data, "two", tiny_models.other_chat)
    alone = SMALL | {"JANFLASK_KV_RAM_GB": "0"}  # which gives way: the models' own memory is what is compared
    with serving(data, **alone) as server:
        assert ask(server, "one")
        taken = server.model("one")["runtime"]["memory_bytes"]
    with serving(data, **alone, JANFLASK_MEMORY_BUDGET_GB=str(1.5 * taken / 2**30)) as server:
        first = ask(server, "one")
        assert ask(server, "two")
        assert (status(server, "one"), status(server, "two")) == ("stopped", "running")
        assert len(server.engines()) == 1
        assert ask(server, "one") == first
        assert (status(server, "one"), status(server, "two")) == ("running", "stopped")
        body = {"model": "one", "messages": QUESTION, "stream": True, "ignore_eos": True, "max_tokens": 400}
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=LIMIT) as busy:
            lines = busy.iter_lines()
            next(lines)
            came = server.start("two")  # waits for the answer under way, for a while
            said = [line for line in lines if line.startswith("data:")]
        assert said[-1] == "data: [DONE]"
        assert not any('"error"' in line for line in said)
        assert came.status_code in (200, 503), came.text
        server.stop("two").raise_for_status()
        too_big = server.start("two", ctx_len=500_000, n_parallel=64)
        assert too_big.status_code == 400, too_big.text
        assert "GiB" in too_big.json()["error"]["message"]


def test_requests_to_models_that_take_turns_are_all_answered(tmp_path: Path, tiny_models: TinyModels) -> None:
    """Some reach an engine that has just agreed to go; a list of prompts is never cut in the middle."""
    data = tmp_path / "data"
    install(data, "one", tiny_models.chat)
    install(data, "two", tiny_models.other_chat)
    prompts = [f"count {number}" for number in range(20)]  # more than are under way at once
    with serving(data, **SMALL) as server:
        server.start("one").raise_for_status()
        taken = server.model("one")["runtime"]["memory_bytes"]

    def complete(server: Server, model: str) -> list[str]:
        body = {"model": model, "prompt": prompts, "max_tokens": 2, "temperature": 0, "ignore_eos": True}
        answers = []
        for _ in range(4):
            answer = server.post("/v1/completions", json=body)
            assert answer.status_code == 200, answer.text
            choices = sorted(answer.json()["choices"], key=lambda choice: int(choice["index"]))
            answers.append("|".join(choice["text"] for choice in choices))
        return answers

    budget = str(1.5 * taken / 2**30)
    with (
        serving(data, **SMALL | {"JANFLASK_SPARE_ENGINE": "1"}, JANFLASK_MEMORY_BUDGET_GB=budget) as server,
        ThreadPoolExecutor(2) as pool,
    ):
        for answers in pool.map(lambda model: complete(server, model), ["one", "two"]):
            assert len(answers) == 4
            assert len({*answers}) == 1
            assert len(answers[0].split("|")) == len(prompts)


def test_an_idle_model_is_unloaded_and_comes_back(tmp_path: Path, tiny_models: TinyModels) -> None:
    install(tmp_path / "data", CHAT_ID, tiny_models.chat)
    with serving(tmp_path / "data", **SMALL, JANFLASK_IDLE_UNLOAD="0.5") as server:
        first = ask(server, CHAT_ID)
        engines = server.engines()
        wait_for(lambda: status(server, CHAT_ID) == "stopped", "the idle model to be stopped")
        assert gone(engines, LIMIT)
        assert ask(server, CHAT_ID) == first


@pytest.mark.parametrize(("restore", "expected"), [("1", "running"), ("0", "downloaded")])
def test_models_come_back_with_the_server_if_that_is_wanted(
    tmp_path: Path, tiny_models: TinyModels, restore: str, expected: str
) -> None:
    install(tmp_path / "data", CHAT_ID, tiny_models.chat)
    with serving(tmp_path / "data", **SMALL, JANFLASK_RESTORE_MODELS=restore) as server:
        server.start(CHAT_ID, ctx_len=128).raise_for_status()
        server.press_ctrl_c()
        assert gone(server.family(), LIMIT)
    with serving(tmp_path / "data", **SMALL, JANFLASK_RESTORE_MODELS=restore) as server:
        wait_for(lambda: status(server, CHAT_ID) == expected, f"the model to be {expected}")
        if restore == "1":
            assert server.model(CHAT_ID)["runtime"]["ctx_len"] == 128


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("unknown_architecture", "orrery"), ("cut_short", "short"), ("missing_tensor", "blk.1.ffn_down.weight")],
)
def test_a_broken_model_says_what_is_wrong_and_others_go_on(
    tmp_path: Path, tiny_models: TinyModels, kind: str, reason: str
) -> None:
    install(tmp_path / "data", CHAT_ID, tiny_models.chat)
    install(tmp_path / "data", "broken", getattr(tiny_models, kind))
    with serving(tmp_path / "data", **SMALL) as server:
        first = ask(server, CHAT_ID)
        with server.sdk() as sdk, pytest.raises(openai.APIStatusError) as refused:
            sdk.chat.completions.create(model="broken", messages=QUESTION)
        assert reason in str(refused.value)
        assert reason in server.model("broken")["error"]
        assert ask(server, CHAT_ID) == first
