"""Fields that other servers know work or are refused by name, on every route; what changes no answer is ignored."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import openai
import pytest
from flask.testing import FlaskClient

from janflask.models.known_fields import (
    ALIASES,
    CONVERSATION,
    EMBEDDING,
    GENERATION,
    MESSAGE,
    PROMPT,
    STORED_MESSAGE,
    THINKING,
    UPLOAD,
    Unsupported,
)
from tests.unit.api.conftest import World
from tests.unit.api.stored import refused

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
DEFAULTS = (GENERATION, CONVERSATION, THINKING)  # what is kept for later requests


@pytest.fixture(autouse=True)
def nobody_waits_for_a_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("janflask.container.PATIENCE", 0.01)


def routes(client: FlaskClient) -> dict[str, tuple[str, dict[str, Any], str, tuple[Mapping[str, Unsupported], ...]]]:
    """Each route: its path, a right body, what stands before a field's name in an error, and its tables."""
    thread = client.post("/v1/threads", json={"messages": [{"role": "user", "content": "Hi"}]}).get_json()["id"]
    return {
        "chat": ("/v1/chat/completions", CHAT, "", (GENERATION, CONVERSATION)),
        "completions": ("/v1/completions", {"model": "tiny", "prompt": "Hi"}, "", (GENERATION, PROMPT)),
        "embeddings": ("/v1/embeddings", {"model": "tiny", "input": "Hi"}, "", (EMBEDDING,)),
        "apply-template": ("/v1/apply-template", CHAT, "", (CONVERSATION,)),
        "runs": (f"/v1/threads/{thread}/runs", {}, "", (GENERATION, CONVERSATION)),
        "thread and run": ("/v1/threads/runs", {}, "", (GENERATION, CONVERSATION)),
        "assistants": ("/v1/assistants", {}, "", DEFAULTS),
        "threads": ("/v1/threads", {}, "parameters", DEFAULTS),
        "entries": (f"/v1/threads/{thread}/assistants/jan", {}, "model.parameters", DEFAULTS),
        "models": ("/v1/models/tiny", {}, "parameters", DEFAULTS),
    }


def together(tables: tuple[Mapping[str, Unsupported], ...]) -> dict[str, Unsupported]:
    return {name: item for table in tables for name, item in table.items()}


def with_field(body: dict[str, Any], prefix: str, name: str, value: Any) -> dict[str, Any]:
    """The body with a field, in the objects that ``prefix`` names."""
    field: dict[str, Any] = {name: value}
    for outer in reversed(prefix.split(".") if prefix else []):
        field = {outer: field}
    return {**body, **field}


def asking(item: Unsupported) -> Any:
    """A value that asks for something."""
    return next(value for value in ({"a": 1}, False, 7) if value not in item.harmless)


NAMES = ["chat", "completions", "embeddings", "apply-template", "runs", "assistants", "threads", "entries", "models"]


@pytest.mark.parametrize("route", [*NAMES, "thread and run"])
def test_what_cannot_be_had_is_refused_by_name(client: FlaskClient, world: World, route: str) -> None:
    path, body, prefix, tables = routes(client)[route]
    for name, item in together(tables).items():
        response = client.post(path, json=with_field(body, prefix, name, asking(item)))
        error = refused(response, 400, f"{prefix}.{name}".removeprefix("."))
        assert name in error["message"]
    assert world.engine.requests == world.engine.embedded == []


@pytest.mark.parametrize("route", [*NAMES, "thread and run"])
def test_what_asks_for_nothing_passes(client: FlaskClient, route: str) -> None:
    path, body, prefix, tables = routes(client)[route]
    table = together(tables)
    if not prefix:
        extras = {"user": "me", "priority": 3, "keep_alive": "5m", "cache_salt": "x", "return_progress": True}
        assert client.post(path, json={**body, **extras}).status_code == 200
        path, body, _, _ = routes(client)[route]  # a thread has one run at a time
    for number in range(max(len(item.harmless) for item in table.values()) + 1):
        harmless = {name: [None, *item.harmless][number % (len(item.harmless) + 1)] for name, item in table.items()}
        given = body
        for name, value in harmless.items():
            given = merged(given, with_field({}, prefix, name, value))
        assert client.post(path, json=given).status_code == 200
        path, body, _, _ = routes(client)[route]


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    both = {name: merged(one[name], other[name]) for name in one.keys() & other.keys() if isinstance(one[name], dict)}
    return {**one, **other, **both}


@pytest.mark.parametrize(
    ("field", "value", "path", "used"),
    [
        ("repetition_penalty", 1.3, "sampling.repeat_penalty", 1.3),
        ("random_seed", 7, "sampling.seed", 7),
        ("stop_sequences", ["END"], "stop", ("END",)),
        ("max_new_tokens", 5, "max_tokens", 5),
        ("num_predict", 5, "max_tokens", 5),
        ("n_predict", 5, "max_tokens", 5),
        ("sampler_seed", 7, "sampling.seed", 7),
        ("stop_sequence", ["END"], "stop", ("END",)),
        ("stopping_strings", ["END"], "stop", ("END",)),
        ("ban_eos_token", True, "sampling.ignore_eos", True),
        ("mirostat_mode", 2, "sampling.mirostat", 2),
        ("typical", 0.5, "sampling.typical_p", 0.5),
        ("typ_p", 0.5, "sampling.typical_p", 0.5),
        ("rep_pen", 1.3, "sampling.repeat_penalty", 1.3),
        ("nsigma", 1.5, "sampling.top_n_sigma", 1.5),
        ("max_completion_tokens", 5, "max_tokens", 5),
        ("n_cmpl", 2, "n", 2),
    ],
)
def test_another_servers_name_works(
    client: FlaskClient, world: World, field: str, value: Any, path: str, used: Any
) -> None:
    for route, body in (("chat/completions", CHAT), ("completions", {"model": "tiny", "prompt": "Hi"})):
        assert client.post(f"/v1/{route}", json={**body, field: value}).status_code == 200
        found: Any = world.engine.requests.pop()
        for name in path.split("."):
            found = getattr(found, name)
        assert found == used
    assert field in ALIASES


def test_what_silly_tavern_sends_by_default(client: FlaskClient, world: World) -> None:
    """Its text completion for a server that it knows nothing of ("generic"), with its neutral settings."""
    sent = {
        "model": "tiny", "prompt": "Hi", "max_new_tokens": 5, "max_tokens": 5, "n_predict": 5, "num_predict": 5,
        "temperature": 0.7, "top_p": 0.5, "typical_p": 1, "typical": 1, "min_p": 0, "top_k": 40, "skew": 0,
        "repetition_penalty": 1.2, "rep_pen": 1.2, "repeat_penalty": 1.2, "repeat_last_n": 0, "rep_pen_range": 0,
        "repetition_penalty_range": 0, "rep_pen_slope": 1, "frequency_penalty": 0, "presence_penalty": 0,
        "min_tokens": 0, "add_bos_token": True, "smoothing_factor": 0, "smoothing_curve": 1, "dry_allowed_length": 2,
        "dry_multiplier": 0.8, "dry_base": 1.75, "dry_penalty_last_n": 0,
        "dry_sequence_breakers": '["\\n",":","\\"","*"]',
        "max_tokens_second": 0, "stopping_strings": ["\nUser:"], "stop": ["\nUser:"], "truncation_length": 8192,
        "num_ctx": 8192, "ban_eos_token": False, "ignore_eos": False, "skip_special_tokens": True,
        "include_reasoning": True, "top_a": 0, "tfs": 1, "mirostat_mode": 0, "mirostat": 0, "mirostat_tau": 5,
        "mirostat_eta": 0.1, "custom_token_bans": "", "banned_strings": [], "api_type": "generic", "xtc_threshold": 0.1,
        "xtc_probability": 0, "nsigma": 0, "top_n_sigma": 0, "min_keep": 0, "adaptive_target": -0.01,
        "adaptive_decay": 0.9, "guidance_scale": 1, "negative_prompt": "", "logit_bias": [],
    }  # fmt: skip
    response = client.post("/v1/completions", json=sent)
    assert response.status_code == 200, response.get_json()
    (asked,) = world.engine.requests
    assert (asked.max_tokens, asked.stop, asked.sampling.repeat_penalty) == (5, ("\nUser:",), 1.2)
    assert asked.sampling.dry_sequence_breakers == ("\n", ":", '"', "*")


@pytest.mark.parametrize("name", ["images", "files", "file_ids", "attachments", "documents"])
def test_what_a_message_holds_beside_its_words(client: FlaskClient, world: World, name: str) -> None:
    """Ollama's pictures, and the files of stored messages."""
    for path in ("chat/completions", "apply-template"):
        told = {"role": "user", "content": "What is this?", name: ["aGk="]}
        refused(client.post(f"/v1/{path}", json={**CHAT, "messages": [told]}), 400, f"messages.0.{name}")
    assert world.engine.requests == []
    nothing = {"role": "user", "content": "What is this?", name: []}
    assert client.post("/v1/chat/completions", json={**CHAT, "messages": [nothing]}).status_code == 200


@pytest.mark.parametrize("name", STORED_MESSAGE)
def test_what_a_threads_message_has_no_place_for(client: FlaskClient, name: str) -> None:
    thread = client.post("/v1/threads", json={}).get_json()["id"]
    told = {"role": "assistant", "content": "Hi", name: [{"a": 1}]}
    bodies: dict[str, tuple[dict[str, Any], str]] = {
        f"/v1/threads/{thread}/messages": (told, name),
        "/v1/threads": ({"messages": [told]}, f"messages.0.{name}"),
        f"/v1/threads/{thread}/runs": ({"additional_messages": [told]}, f"additional_messages.0.{name}"),
        "/v1/threads/runs": ({"thread": {"messages": [told]}}, f"thread.messages.0.{name}"),
    }
    before = client.get("/v1/threads").get_json()
    for path, (body, param) in bodies.items():
        refused(client.post(path, json=body), 400, param)
    assert client.get("/v1/threads").get_json() == before
    assert client.get(f"/v1/threads/{thread}/messages").get_json()["data"] == []
    nothing = {**told, name: None}
    message = client.post(f"/v1/threads/{thread}/messages", json=nothing).get_json()
    refused(client.post(f"/v1/threads/{thread}/messages/{message['id']}", json={name: [{"a": 1}]}), 400, name)


def test_no_alternatives_need_no_log_probabilities(client: FlaskClient) -> None:
    """``top_logprobs`` 0 is vLLM's default, which clients made for it send along."""
    for logprobs in (None, False):
        body = {**CHAT, "logprobs": logprobs, "top_logprobs": 0}
        assert client.post("/v1/chat/completions", json=body).status_code == 200


def test_two_names_must_say_the_same(client: FlaskClient) -> None:
    both = {"repeat_penalty": 1.1, "repetition_penalty": 1.3}
    error = refused(client.post("/v1/chat/completions", json={**CHAT, **both}), 400, "repetition_penalty")
    assert "must be the same as `repeat_penalty`" in error["message"]
    same = {"repeat_penalty": 1.1, "repetition_penalty": 1.1, "max_tokens": None, "max_new_tokens": 5}
    assert client.post("/v1/chat/completions", json={**CHAT, **same}).status_code == 200


def test_an_error_has_the_name_that_was_sent(client: FlaskClient) -> None:
    for route, body in (("chat/completions", CHAT), ("threads/runs", {})):
        refused(client.post(f"/v1/{route}", json={**body, "repetition_penalty": 99}), 400, "repetition_penalty")
        refused(client.post(f"/v1/{route}", json={**body, "stop_sequences": ["a", 5]}), 400, "stop_sequences.1")


def test_parameters_are_kept_by_our_names(client: FlaskClient) -> None:
    given = {"repetition_penalty": "1.2", "max_completion_tokens": 5, "max_tokens": 9, "min_tokens": 0, "stop": ""}
    thread = client.post("/v1/threads", json={"parameters": given}).get_json()
    assert thread["parameters"] == {"repeat_penalty": 1.2, "max_tokens": 5, "stop": ""}


def test_a_name_by_hand_gives_way_to_ours(client: FlaskClient, world: World) -> None:
    world.write_model(parameters={"repetition_penalty": 1.2, "top_k": 5})
    model = client.patch("/v1/models/tiny", json={"parameters": {"repeat_penalty": 1.4}}).get_json()
    assert model["parameters"] == {"top_k": 5, "repeat_penalty": 1.4}
    world.write_model(parameters={"repetition_penalty": 1.2, "top_k": 5})
    model = client.patch("/v1/models/tiny", json={"parameters": {"repetition_penalty": None}}).get_json()
    assert model["parameters"] == {"top_k": 5}


def test_how_much_to_think_reaches_the_chat_template(client: FlaskClient, world: World) -> None:
    template = "{{ reasoning_effort }}|{{ enable_thinking }}|{{ messages[0].content }}"
    world.write_model(parameters={"chat_template_kwargs": {"reasoning_effort": "low"}})
    info = world.supervisor.states["tiny"].info
    assert info is not None
    world.supervisor.states["tiny"] = world.supervisor.run("tiny", world.engine, replace(info, chat_template=template))
    for given, prompt in (
        ({}, "low||Hi"),
        ({"reasoning_effort": "high"}, "high||Hi"),
        ({"reasoning_effort": "none"}, "low|False|Hi"),
        ({"enable_thinking": True, "chat_template_kwargs": {"reasoning_effort": "max"}}, "max|True|Hi"),
    ):
        assert client.post("/v1/chat/completions", json={**CHAT, **given}).status_code == 200
        assert world.engine.requests.pop().prompt == prompt
        laid_out = client.post("/v1/apply-template", json={**CHAT, **given}).get_json()
        assert laid_out["prompt"] == prompt
    refused(client.post("/v1/chat/completions", json={**CHAT, "reasoning_effort": "huge"}), 400, "reasoning_effort")


def test_fields_of_a_message(client: FlaskClient) -> None:
    for name in MESSAGE:
        last = {"role": "assistant", "content": "He"}
        messages = [*CHAT["messages"], {**last, name: True}]
        refused(client.post("/v1/chat/completions", json={**CHAT, "messages": messages}), 400, f"messages.1.{name}")
        messages = [*CHAT["messages"], {**last, name: False}]
        assert client.post("/v1/chat/completions", json={**CHAT, "messages": messages}).status_code == 200


def test_a_run_gives_a_new_message_and_no_probabilities(client: FlaskClient) -> None:
    for given in ({"continue_final_message": True}, {"add_generation_prompt": False}, {"logprobs": True}):
        refused(client.post("/v1/threads/runs", json=given), 400, next(iter(given)))


def test_an_assistant_keeps_two_numbers(client: FlaskClient) -> None:
    for name in ("top_k", "max_tokens", "stop", "repetition_penalty", "enable_thinking", "parameters"):
        error = refused(client.post("/v1/assistants", json={name: "x"}), 400, name)
        assert "temperature" in error["message"]
    assert client.post("/v1/assistants", json={"temperature": 0.5, "top_p": 0.5, "top_k": None}).status_code == 200


def test_an_upload_is_kept(client: FlaskClient, sdk: openai.OpenAI) -> None:
    assert list(UPLOAD) == ["expires_after"]
    with pytest.raises(openai.BadRequestError, match="kept until it is deleted") as caught:
        sdk.files.create(
            file=("a.txt", b"x"), purpose="assistants", expires_after={"anchor": "created_at", "seconds": 3600}
        )
    assert caught.value.param == "expires_after"
    assert list(sdk.files.list()) == []
    for form in ({"expires_after": ""}, {"user": "me"}):
        data = {"file": (io.BytesIO(b"x"), "a.txt"), "purpose": "assistants", **form}
        assert client.post("/v1/files", data=data).status_code == 200


def test_the_sdks_extra_fields(sdk: openai.OpenAI, world: World) -> None:
    messages: Any = CHAT["messages"]
    for extra in (
        {"structural_tag": "{}"},
        {"guided_whitespace_pattern": " "},
        {"format": "json"},
        {"min_tokens": 5},
        {"stop_token_ids": [5]},
        {"truncate_prompt_tokens": 5},
    ):
        (name,) = extra
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError) as caught:
                sdk.chat.completions.create(model="tiny", messages=messages, stream=stream, extra_body=extra)
            assert caught.value.param == name
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.embeddings.create(model="tiny", input="Hi", extra_body={"truncate_prompt_tokens": 5})
    assert caught.value.param == "truncate_prompt_tokens"
    assert world.engine.requests == world.engine.embedded == []
    harmless = {"repetition_penalty": 1.2, "guided_json": None, "min_tokens": 0, "skip_special_tokens": True}
    sdk.chat.completions.create(model="tiny", messages=messages, extra_body=harmless)
    assert world.engine.requests.pop().sampling.repeat_penalty == 1.2
