"""A request's sampling fields over the model's parameters over the defaults."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from janflask.errors import ConflictError
from janflask.inference.sampling import (
    model_cache_prompt,
    model_max_tokens,
    model_stop,
    sampling_params,
    template_kwargs,
    thought_tokens,
)
from janflask.models.card import ModelCard
from janflask.models.parameters import Parameters, read_parameters
from janflask.models.sampling import SAMPLING_RANGES, SamplingParams


def card(**parameters: Any) -> ModelCard:
    return ModelCard(
        id="m",
        name="m",
        path="/m.gguf",
        size_bytes=1,
        created=1,
        settings={},
        parameters=parameters,
        metadata={},
        raw={},
    )


def test_defaults() -> None:
    assert sampling_params(card(), {}) == SamplingParams()


def test_a_models_parameters_are_read_once_for_all_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[object] = []

    def read(given: object) -> Parameters:
        reads.append(given)
        return read_parameters(given)

    monkeypatch.setattr("janflask.models.card.read_parameters", read)
    monkeypatch.setattr("janflask.models.parameters.read_parameters", read)
    model = card(temperature="0.5", stop="x", max_tokens=7, cache_prompt=False)
    for _ in range(2):
        assert sampling_params(model, {}).temperature == 0.5
        assert (model_stop(model), model_max_tokens(model), model_cache_prompt(model)) == (("x",), 7, False)
        assert template_kwargs(model, {}) == {}
    assert reads == [model.parameters]


def test_the_order() -> None:
    params = sampling_params(card(temperature=0.2, top_k=5), {"top_k": 7})
    assert (params.temperature, params.top_k, params.top_p) == (0.2, 7, 0.95)


@pytest.mark.parametrize(
    ("given", "value"), [("0.5", 0.5), (1, 1.0), ("1", 1.0), (0.25, 0.25), (None, SamplingParams().temperature)]
)
def test_numbers_may_be_text(given: object, value: float) -> None:
    assert sampling_params(card(temperature=given), {}).temperature == value


@pytest.mark.parametrize(("given", "value"), [("7", 7), (7.0, 7), (" 7 ", 7)])
def test_whole_numbers_may_be_text(given: object, value: int) -> None:
    top_k = sampling_params(card(top_k=given), {}).top_k
    assert top_k == value
    assert isinstance(top_k, int)


@pytest.mark.parametrize(
    "parameters",
    [
        {"temperature": "hot"},
        {"temperature": True},
        {"temperature": []},
        {"temperature": "nan"},
        {"temperature": "inf"},
        {"temperature": 3},
        {"top_k": 1.5},
        {"top_k": "1.5"},
        {"seed": "x"},
    ],
)
def test_unusable_parameters(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConflictError, match=f"parameters.{next(iter(parameters))} in model.json"):
        sampling_params(card(**parameters), {})


def test_what_is_not_the_samplers_is_left_alone() -> None:
    given = card(stream=True, engine="nitro", top_logprobs=5, vulkan=True, max_tokens="many", stop=5)
    assert sampling_params(given, {}) == SamplingParams()


def test_every_field_of_the_sampler_works_in_a_model() -> None:
    given = card(logit_bias={"1": "2"}, ignore_eos="true", dry_sequence_breakers=["x"], repetition_penalty=1.2)
    params = sampling_params(given, {"ignore_eos": False})
    assert (params.logit_bias, params.ignore_eos, params.repeat_penalty) == (((1, 2.0),), False, 1.2)
    assert params.dry_sequence_breakers == ("x",)


def test_what_a_request_replaces_need_not_be_usable() -> None:
    assert sampling_params(card(temperature="hot"), {"temperature": 0.5}).temperature == 0.5


def test_what_the_template_is_told() -> None:
    given = card(reasoning_effort="low", chat_template_kwargs={"a": 1}, cache_prompt="false")
    assert template_kwargs(given, {"a": 2}) == {"a": 2, "reasoning_effort": "low"}
    assert (model_cache_prompt(given), model_cache_prompt(card())) == (False, True)
    with pytest.raises(ConflictError, match=r"parameters.reasoning_effort in model.json of m is 5"):
        template_kwargs(card(reasoning_effort=5), {})


@pytest.mark.parametrize(
    ("seed", "used"), [(None, None), (-1, None), (0, 0), (5, 5), (-2, (1 << 64) - 2), ((1 << 64) - 1, (1 << 64) - 1)]
)
def test_seeds(seed: int | None, used: int | None) -> None:
    assert sampling_params(card(), {} if seed is None else {"seed": seed}).seed == used


@pytest.mark.parametrize(("given", "value"), [(None, None), (5, 5), ("5", 5), (0, None), (-1, None), ("2048", 2048)])
def test_max_tokens(given: object, value: int | None) -> None:
    assert model_max_tokens(card(max_tokens=given)) == value


@pytest.mark.parametrize(
    ("given", "value"), [(None, ()), ([], ()), ("a", ("a",)), (["a", "", "b"], ("a", "b")), ("", ())]
)
def test_stop(given: object, value: tuple[str, ...]) -> None:
    assert model_stop(card(stop=given)) == value


@pytest.mark.parametrize("given", [5, ["a", 5], {"a": 1}])
def test_unusable_stop(given: object) -> None:
    with pytest.raises(ConflictError, match="stop"):
        model_stop(card(stop=given))


def test_every_range_belongs_to_a_field_and_holds_its_default() -> None:
    defaults = SamplingParams()
    assert set(SAMPLING_RANGES) <= {item.name for item in fields(SamplingParams)}
    for name, (low, high) in SAMPLING_RANGES.items():
        value = getattr(defaults, name)
        assert value is None or low <= value <= high, name


def test_how_much_to_think() -> None:
    given = card(reasoning_budget="7")
    assert [thought_tokens(given, said) for said in (None, -1, 0, 9)] == [7, None, 0, 9]
    assert [thought_tokens(card(), said) for said in (None, -1, 0, 9)] == [None, None, 0, 9]
    assert thought_tokens(card(reasoning_budget=-1), None) is None
    assert thought_tokens(card(chat_template_kwargs={"thinking_budget": 3}), None) == 3
    assert sampling_params(card(reasoning_budget="much"), {}) == SamplingParams()
    assert thought_tokens(card(reasoning_budget="much"), 5) == 5
    with pytest.raises(ConflictError, match=r"parameters.reasoning_budget in model.json of m is -2: must be from -1"):
        thought_tokens(card(reasoning_budget=-2), None)
