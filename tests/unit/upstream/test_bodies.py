"""What is asked of each kind of server: every field under its name there, and nothing left out in silence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from janflask.errors import ConflictError, InvalidRequestError
from janflask.inference.forms.constrained import of_any_object
from janflask.inference.requests import ChatMessage, ChatRequest, CompletionRequest, Tool
from janflask.inference.upstream.bodies import Bodies
from janflask.inference.upstream.kinds import OPENAI_SAMPLING, TRAITS, asks_nothing
from janflask.models.sampling import SamplingParams
from janflask.models.upstream import ServerKind, Upstream
from tests.integration.upstream_world import card

KINDS = tuple(ServerKind)
USER = ChatMessage.of("user", "Hi")
PLAIN = {"model": "there", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}


def bodies(kind: ServerKind, **parameters: Any) -> Bodies:
    return Bodies(card(**parameters), Upstream(base_urls=("http://x/v1",), model="there", kind=kind))


def chat(kind: ServerKind, parameters: dict[str, Any] | None = None, **request: Any) -> dict[str, Any]:
    request = {"model": "far", "messages": (USER,), **request}
    body: dict[str, Any] = json.loads(bodies(kind, **(parameters or {})).chat(ChatRequest(**request)))
    body.pop("stream_options", None)
    return body


def complete(kind: ServerKind, prompt: str | tuple[int, ...] = "Hi", **request: Any) -> dict[str, Any]:
    asked = CompletionRequest(model="far", prompts=(prompt,), **request)
    body: dict[str, Any] = json.loads(bodies(kind).completion(asked, prompt))
    body.pop("stream_options", None)
    return body


@pytest.mark.parametrize("kind", KINDS)
def test_what_nobody_set_is_not_sent(kind: ServerKind) -> None:
    """The server's own defaults hold, not ours."""
    assert chat(kind) == PLAIN
    assert chat(kind, {"stream": False, "engine": "x", "top_logprobs": 3}) == PLAIN


@pytest.mark.parametrize("kind", KINDS)
def test_usage_is_asked_for_where_it_can_be_had(kind: ServerKind) -> None:
    body = json.loads(bodies(kind).chat(ChatRequest(model="far", messages=(USER,))))
    assert ("stream_options" in body) is (kind is not ServerKind.LLAMA_CPP_PYTHON)


@pytest.mark.parametrize("kind", KINDS)
def test_openais_fields(kind: ServerKind) -> None:
    sampling = {
        "temperature": 0.3,
        "top_p": 0.9,
        "frequency_penalty": 0.1,
        "presence_penalty": -0.2,
        "seed": 5,
        "top_logprobs": 2,
    }
    body = chat(kind, max_tokens=7, stop=("a", "b"), sampling=sampling)
    assert body == PLAIN | sampling | {"max_tokens": 7, "stop": ["a", "b"], "logprobs": True}
    bias = chat(kind, sampling={"logit_bias": ((5, -1.5),)})["logit_bias"]
    assert bias == ([[5, -1.5]] if kind is ServerKind.LLAMA_SERVER else {"5": -1.5})


@pytest.mark.parametrize("kind", KINDS)
def test_the_models_parameters_hold_where_the_request_says_nothing(kind: ServerKind) -> None:
    parameters = {"temperature": "0.5", "max_tokens": 9, "stop": "x", "presence_penalty": 0}
    assert chat(kind, parameters) == PLAIN | {"temperature": 0.5, "max_tokens": 9, "stop": ["x"], "presence_penalty": 0}
    over = chat(kind, parameters, max_tokens=3, stop=(), sampling={"temperature": 1.0})
    assert over == PLAIN | {"temperature": 1.0, "max_tokens": 3, "presence_penalty": 0}
    assert chat(kind, {"max_tokens": -1}) == PLAIN
    assert chat(kind, {"max_tokens": 5}, max_tokens=-1) == PLAIN


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_meant_in_the_models_parameters(kind: ServerKind) -> None:
    with pytest.raises(ConflictError, match=r"parameters.temperature in model.json of far"):
        chat(kind, {"temperature": "warm"})


def test_names_of_vllm() -> None:
    sampling = {"top_k": 5, "min_p": 0.1, "repeat_penalty": 1.2, "ignore_eos": True}
    theirs = {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.2, "ignore_eos": True}
    assert chat(ServerKind.VLLM, sampling=sampling) == PLAIN | theirs


def test_names_of_llama_cpp_python() -> None:
    sampling = {"top_k": 5, "repeat_penalty": 1.2, "mirostat": 2, "mirostat_tau": 4.0}
    theirs = {"top_k": 5, "repeat_penalty": 1.2, "mirostat_mode": 2, "mirostat_tau": 4.0}
    assert chat(ServerKind.LLAMA_CPP_PYTHON, sampling=sampling) == PLAIN | theirs


@pytest.mark.parametrize("kind", [ServerKind.JANFLASK, ServerKind.LLAMA_SERVER])
def test_our_own_names(kind: ServerKind) -> None:
    sampling = {"typical_p": 0.5, "dry_multiplier": 0.8, "dry_sequence_breakers": ("\n",), "xtc_probability": 0.1}
    body = chat(kind, sampling=sampling, cache_prompt=False)
    assert body == PLAIN | sampling | {"dry_sequence_breakers": ["\n"], "cache_prompt": False}


REFUSED = {
    ServerKind.OPENAI: {
        "top_k": 5,
        "min_p": 0.1,
        "repeat_penalty": 1.1,
        "mirostat": 1,
        "ignore_eos": True,
        "dry_multiplier": 1.0,
    },
    ServerKind.VLLM: {"typical_p": 0.9, "top_n_sigma": 1.0, "xtc_probability": 0.5, "dynatemp_range": 0.5},
    ServerKind.LLAMA_CPP_PYTHON: {"typical_p": 0.9, "ignore_eos": True},
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in REFUSED.items() for name in names])
def test_what_a_kind_does_not_know_is_refused_by_name(kind: ServerKind, name: str) -> None:
    value = REFUSED[kind][name]
    with pytest.raises(
        InvalidRequestError, match=f"^{name} is not supported: .*{kind}.*does not know `{name}`"
    ) as asked:
        chat(kind, sampling={name: value})
    assert asked.value.param == name
    with pytest.raises(ConflictError, match=f"^parameters.{name} in model.json of far is not supported"):
        chat(kind, {name: value})


def test_a_detail_of_a_sampler_that_is_on_is_refused() -> None:
    assert chat(ServerKind.VLLM, sampling={"repeat_last_n": 64}) == PLAIN  # there is nothing that it would change
    with pytest.raises(InvalidRequestError, match="repeat_last_n"):
        chat(ServerKind.VLLM, sampling={"repeat_last_n": 64, "repeat_penalty": 1.1})


def test_what_asks_for_nothing_is_left_out_where_it_is_not_known_and_sent_where_it_is() -> None:
    """SillyTavern sends every sampler, most of them off."""
    off = {
        "typical_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "mirostat": 0,
        "mirostat_tau": 5.0,
        "dry_multiplier": 0.0,
        "dry_base": 1.75,
        "ignore_eos": False,
        "xtc_probability": 0.0,
        "xtc_threshold": 0.1,
    }
    assert chat(ServerKind.OPENAI, sampling=off) == PLAIN
    assert chat(ServerKind.OPENAI, off) == PLAIN
    assert chat(ServerKind.VLLM, sampling=off) == PLAIN | {"top_k": -1, "min_p": 0.0, "ignore_eos": False}
    assert chat(ServerKind.JANFLASK, sampling=off) == PLAIN | off
    assert chat(ServerKind.LLAMA_CPP_PYTHON, sampling={"top_k": -1}) == PLAIN | {"top_k": 0}  # it takes nothing below


@pytest.mark.parametrize("name", sorted(SamplingParams.__dataclass_fields__))
def test_every_sampling_field_is_known_somewhere(name: str) -> None:
    """A new one has to get its place in the tables of kinds."""
    if name not in OPENAI_SAMPLING and name != "top_logprobs":
        assert TRAITS[ServerKind.JANFLASK].samplers[name] == name
        value = getattr(SamplingParams(), name)
        assert asks_nothing(name, {name: value}) or name in ("top_k", "min_p", "temperature")


@pytest.mark.parametrize(("kind", "most"), [(kind, TRAITS[kind].most_seed) for kind in KINDS])
def test_seeds(kind: ServerKind, most: int) -> None:
    assert "seed" not in chat(kind, sampling={"seed": -1})
    assert "seed" not in chat(kind, {"seed": 5}, sampling={"seed": -1})
    seeds = [chat(kind, sampling={"seed": seed})["seed"] for seed in (0, -2, (1 << 64) - 1, most)]
    assert all(0 <= seed <= most for seed in seeds)
    assert seeds[0] == 0
    assert seeds[3] == most


@pytest.mark.parametrize("kind", KINDS)
def test_several_answers(kind: ServerKind) -> None:
    if TRAITS[kind].many:
        assert chat(kind, n=3)["n"] == 3
    else:
        with pytest.raises(InvalidRequestError, match=r"^n is not supported"):
            chat(kind, n=3)


def test_messages() -> None:
    messages = (
        ChatMessage.of("developer", "Be short."),
        ChatMessage.of("user", "Hi", name="ann"),
        ChatMessage.of("assistant", "Ho", reasoning="hm"),
        ChatMessage.of("tool", "4", tool_call_id="c1"),
    )
    plain = [
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": "Hi", "name": "ann"},
        {"role": "assistant", "content": "Ho"},
        {"role": "tool", "content": "4", "tool_call_id": "c1"},
    ]
    assert chat(ServerKind.OPENAI, messages=messages)["messages"] == plain
    thoughtful = [*plain[:2], {"role": "assistant", "content": "Ho", "reasoning_content": "hm"}, plain[3]]
    assert chat(ServerKind.VLLM, messages=messages)["messages"] == thoughtful
    llama = [{"role": "system", "content": "Be short."}, *thoughtful[1:]]
    assert chat(ServerKind.LLAMA_SERVER, messages=messages)["messages"] == llama


BEGUN = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "The sky"}]


@pytest.mark.parametrize("kind", [ServerKind.VLLM, ServerKind.JANFLASK])
def test_a_begun_answer_by_flag(kind: ServerKind) -> None:
    flags = {"add_generation_prompt": False, "continue_final_message": True}
    assert chat(kind, begun="The sky") == PLAIN | {"messages": BEGUN} | flags
    thoughtful = [BEGUN[0], BEGUN[1] | {"reasoning_content": "hm"}]
    assert chat(kind, begun="The sky", begun_reasoning="hm") == PLAIN | {"messages": thoughtful} | flags
    with pytest.raises(InvalidRequestError, match="an answer that has a form cannot be continued"):
        chat(kind, begun="{", constraint=of_any_object("response_format"))
    said = ChatMessage.of("assistant", "The")
    going_on = {"add_generation_prompt": False, "continue_final_message": True}
    assert chat(kind, messages=(USER, said), begun=" sky", **going_on) == PLAIN | {"messages": BEGUN} | flags
    with pytest.raises(InvalidRequestError, match="without add_generation_prompt"):
        chat(kind, begun="The sky", add_generation_prompt=False)


def test_a_begun_answer_at_llama_server() -> None:
    """It goes on with whatever assistant's message comes last, so it must not be sent one by mistake."""
    assert chat(ServerKind.LLAMA_SERVER, begun="The sky") == PLAIN | {"messages": BEGUN}
    said = ChatMessage.of("assistant", "The sky")
    with pytest.raises(InvalidRequestError, match="always continues"):
        chat(ServerKind.LLAMA_SERVER, messages=(USER, said))
    going_on = {"add_generation_prompt": False, "continue_final_message": True}
    assert chat(ServerKind.LLAMA_SERVER, messages=(USER, said), **going_on) == PLAIN | {"messages": BEGUN}


@pytest.mark.parametrize("kind", [ServerKind.OPENAI, ServerKind.LLAMA_CPP_PYTHON])
def test_a_begun_answer_where_none_can_be_continued(kind: ServerKind) -> None:
    with pytest.raises(InvalidRequestError, match="an answer that was begun cannot be continued"):
        chat(kind, begun="The sky")
    said = ChatMessage.of("assistant", "The sky")
    with pytest.raises(InvalidRequestError, match="continue_final_message is not supported"):
        chat(kind, messages=(USER, said), add_generation_prompt=False, continue_final_message=True)
    with pytest.raises(InvalidRequestError, match="add_generation_prompt is not supported"):
        chat(kind, add_generation_prompt=False)


def test_variables_of_the_chat_template() -> None:
    asked = {"enable_thinking": False, "x": 1}
    for kind in (ServerKind.VLLM, ServerKind.LLAMA_SERVER, ServerKind.JANFLASK):
        assert chat(kind, template_kwargs=asked) == PLAIN | {"chat_template_kwargs": asked}
        both = chat(kind, {"chat_template_kwargs": {"y": 2}}, template_kwargs=asked)
        assert both == PLAIN | {"chat_template_kwargs": {"y": 2, **asked}}
    with pytest.raises(InvalidRequestError, match=r"^enable_thinking is not supported"):
        chat(ServerKind.OPENAI, template_kwargs=asked)
    with pytest.raises(ConflictError, match=r"^parameters.chat_template_kwargs in model.json"):
        chat(ServerKind.OPENAI, {"chat_template_kwargs": {"y": 2}})
    low = {"reasoning_effort": "low"}
    assert chat(ServerKind.OPENAI, template_kwargs=low) == PLAIN | low
    assert chat(ServerKind.OPENAI, template_kwargs={"enable_thinking": False}) == PLAIN | {"reasoning_effort": "none"}
    with pytest.raises(InvalidRequestError, match=r"^enable_thinking is not supported"):
        chat(ServerKind.OPENAI, template_kwargs={"enable_thinking": True})
    # vLLM's harmony models read the field, its templates the variable.
    assert chat(ServerKind.VLLM, template_kwargs=low) == PLAIN | {"chat_template_kwargs": low} | low
    for kind in (ServerKind.LLAMA_SERVER, ServerKind.JANFLASK):
        assert chat(kind, template_kwargs=low) == PLAIN | {"chat_template_kwargs": low}
    with pytest.raises(InvalidRequestError, match=r"^reasoning_effort is not supported"):
        chat(ServerKind.LLAMA_CPP_PYTHON, template_kwargs={"reasoning_effort": "low"})


@pytest.mark.parametrize("kind", [ServerKind.OPENAI, ServerKind.VLLM, ServerKind.LLAMA_CPP_PYTHON])
def test_the_cache_cannot_be_forbidden_everywhere(kind: ServerKind) -> None:
    assert chat(kind, cache_prompt=True) == PLAIN
    with pytest.raises(InvalidRequestError, match=r"^cache_prompt is not supported"):
        chat(kind, cache_prompt=False)
    with pytest.raises(ConflictError, match=r"^parameters.cache_prompt in model.json"):
        chat(kind, {"cache_prompt": False})
    assert chat(kind, {"cache_prompt": False}, cache_prompt=True) == PLAIN


TOOL = Tool(name="look", description=None, parameters={"type": "object", "properties": {}}, strict=False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prediction_is_sent_to_who_knows_it(kind: ServerKind) -> None:
    told = {"prediction": {"type": "content", "content": "as before"}}
    knows = kind in (ServerKind.OPENAI, ServerKind.JANFLASK)
    assert chat(kind, prediction="as before") == PLAIN | (told if knows else {})
    assert chat(kind, prediction="") == PLAIN


@pytest.mark.parametrize(
    "beside",
    [
        {"n": 2},
        {"max_tokens": 7},
        {"tools": (TOOL,)},
        {"sampling": {"top_logprobs": 0}},
        {"sampling": {"presence_penalty": 0.5}},
        {"sampling": {"frequency_penalty": 0.5}},
    ],
)
def test_openai_refuses_a_prediction_beside_some_fields(beside: dict[str, Any]) -> None:
    assert "prediction" in chat(ServerKind.JANFLASK, prediction="as before", **beside)
    assert chat(ServerKind.OPENAI, prediction="as before", **beside) == chat(ServerKind.OPENAI, **beside)


def test_what_asks_for_nothing_goes_with_a_prediction() -> None:
    sampling = {"temperature": 0.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
    assert "prediction" in chat(ServerKind.OPENAI, prediction="as before", sampling=sampling)


@pytest.mark.parametrize("kind", KINDS)
def test_completions(kind: ServerKind) -> None:
    """The default of 16 tokens is said: llama-server has none."""
    assert complete(kind) == {"model": "there", "stream": True, "prompt": "Hi", "max_tokens": 16}
    assert complete(kind, max_tokens=0, echo=True) == {
        "model": "there",
        "stream": True,
        "prompt": "Hi",
        "max_tokens": 0,
    }
    scored = {"sampling": {"top_logprobs": 3}, "echo": True}
    if TRAITS[kind].echo:
        assert complete(kind, **scored) == complete(kind) | {"logprobs": 3, "echo": True}
        assert complete(kind, (1, 2), echo=True)["echo"] is True
    else:
        with pytest.raises(InvalidRequestError, match=r"^echo is not supported"):
            complete(kind, **scored)
    if TRAITS[kind].token_prompts:
        assert complete(kind, (1, 2))["prompt"] == [1, 2]
    else:
        with pytest.raises(InvalidRequestError, match=r"^prompt is not supported: .* token ids"):
            complete(kind, (1, 2))


def test_thoughts_that_are_left_in_the_text() -> None:
    for kind in (ServerKind.LLAMA_SERVER, ServerKind.JANFLASK):
        assert chat(kind, splits_reasoning=False) == PLAIN | {"reasoning_format": "none"}
    assert chat(ServerKind.LLAMA_CPP_PYTHON, splits_reasoning=False) == PLAIN  # it does nothing else
    for kind in (ServerKind.OPENAI, ServerKind.VLLM):
        with pytest.raises(InvalidRequestError, match=r"^reasoning_format is not supported"):
            chat(kind, splits_reasoning=False)


def test_a_limit_for_thoughts() -> None:
    names = {
        ServerKind.VLLM: "thinking_token_budget",
        ServerKind.LLAMA_SERVER: "thinking_budget_tokens",
        ServerKind.JANFLASK: "reasoning_budget",
    }
    for kind in KINDS:
        assert chat(kind, thought_tokens=-1) == PLAIN
        own = {"reasoning_budget": 7}
        assert chat(kind, own, thought_tokens=-1) == PLAIN
        if kind in names:
            assert chat(kind, thought_tokens=0) == PLAIN | {names[kind]: 0}
            assert chat(kind, own) == PLAIN | {names[kind]: 7}
            assert chat(kind, own, thought_tokens=0) == PLAIN | {names[kind]: 0}
        else:
            with pytest.raises(InvalidRequestError, match=r"^reasoning_budget is not supported") as caught:
                chat(kind, thought_tokens=5)
            assert caught.value.param == "reasoning_budget"
            with pytest.raises(ConflictError, match=r"^parameters.reasoning_budget in model.json of far is not sup"):
                chat(kind, own)
