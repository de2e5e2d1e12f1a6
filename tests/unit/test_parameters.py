"""One way to read parameters: what can be meant is taken, what cannot is named."""

from __future__ import annotations

import json
import random
from dataclasses import fields
from typing import Any

import pytest

from janflask.models.known_fields import ALIASES, CONVERSATION, GENERATION
from janflask.models.parameters import (
    MAX_TOKENS,
    NAMES,
    NO_LIMIT,
    is_known,
    is_parameter,
    is_storable,
    read_parameters,
    template_kwargs,
)
from janflask.models.sampling import SAMPLING_RANGES, SamplingParams


def one(name: str, value: Any) -> Any:
    """What is understood of one parameter."""
    found = read_parameters({name: value})
    assert found.problems == {}
    (understood,) = found.values.values()
    return understood


def problem(name: str, value: Any) -> str:
    """What is said of one that cannot be meant."""
    found = read_parameters({name: value})
    assert found.values == {}
    (named,) = found.problems.values()
    return named.told("thread.json")


@pytest.mark.parametrize(
    ("name", "given", "meant"),
    [
        ("temperature", "0.7", 0.7),
        ("temperature", 1, 1.0),
        ("temperature", " 1e-1 ", 0.1),
        ("temperature", ".5", 0.5),
        ("top_k", 40.0, 40),
        ("top_k", "40", 40),
        ("top_k", "40.0", 40),
        ("top_k", -1, -1),
        ("seed", "18446744073709551615", (1 << 64) - 1),
        ("seed", -1, -1),
        ("max_tokens", 3.0, 3),
        ("max_tokens", "3", 3),
        ("max_tokens", -1, NO_LIMIT),
        ("max_tokens", 0, NO_LIMIT),
        ("max_tokens", "-2", NO_LIMIT),
        ("max_tokens", 10**400, MAX_TOKENS),
        ("stop", "", ()),
        ("stop", "a", ("a",)),
        ("stop", ["a", "", "b"], ("a", "b")),
        ("stop", [], ()),
        ("logit_bias", {"7": -1, "5": "2.5"}, ((5, 2.5), (7, -1.0))),
        ("logit_bias", [[7, -1], ["5", 2]], ((5, 2.0), (7, -1.0))),
        ("logit_bias", {}, ()),
        ("ignore_eos", "true", True),
        ("ignore_eos", 0, False),
        ("cache_prompt", "False", False),
        ("dry_sequence_breakers", "\n", ("\n",)),
        ("dry_sequence_breakers", ["x", ""], ("x",)),
        ("chat_template_kwargs", {"a": [1]}, {"a": [1]}),
        ("reasoning_effort", "low", "low"),
        ("reasoning_budget", "-1", -1),
        ("thinking_token_budget", 5.0, 5),
    ],
)
def test_what_can_be_meant_is_taken(name: str, given: Any, meant: Any) -> None:
    understood = one(name, given)
    assert understood == meant
    assert type(understood) is type(meant)


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("temperature", "warm", 'parameters.temperature in thread.json is "warm": must be a number from 0 to 2'),
        ("temperature", 2.5, "parameters.temperature in thread.json is 2.5: must be from 0 to 2"),
        ("temperature", True, "is true: must be a number"),
        ("temperature", "nan", 'is "nan": must be a number'),
        ("temperature", "1e999", "must be a number"),
        ("temperature", "1_0", "must be a number"),
        ("temperature", "٣", "must be a number"),
        ("temperature", 10**400, "must be from 0 to 2"),
        ("temperature", float("inf"), "must be a number"),
        ("top_k", 1.5, "is 1.5: must be a whole number from -1 to 1000000"),
        ("top_k", [], "is []: must be a whole number"),
        ("max_tokens", "many", 'is "many": must be a whole number'),
        ("max_tokens", 2.5, "must be a whole number"),
        ("stop", 5, "is 5: must be a string or a list of strings"),
        ("stop", ["a", 5], "parameters.stop.1 in thread.json is 5: must be a string"),
        ("stop", ["a"] * 65, "must hold at most 64 strings"),
        ("stop", "x" * 1025, "must be at most 1024 characters"),
        ("logit_bias", {"x": 1}, "its key must be a token id"),
        ("logit_bias", {"5": 101}, "parameters.logit_bias.5 in thread.json is 101: must be from -100 to 100"),
        ("logit_bias", [5], 'must be an object like {"1234": -100}'),
        ("logit_bias", "5", "must be an object"),
        ("ignore_eos", "maybe", "must be true or false"),
        ("chat_template_kwargs", "x", "must be an object"),
        ("chat_template_kwargs", {"a": 1 << 64}, "no whole number beyond 64 bits"),
        ("reasoning_effort", "huge", "must be one of none, minimal"),
        ("reasoning_budget", -2, "must be from -1 to 16777216"),
        ("thinking_budget", "much", 'parameters.thinking_budget in thread.json is "much": must be a whole number'),
        ("reasoning", {"effort": "low"}, "is not supported: use `reasoning_effort`, `enable_thinking` or `reasoning_b"),
        ("repetition_penalty", 99, "parameters.repetition_penalty in thread.json is 99: must be from 0.01 to 10"),
        ("guided_json", {"type": "object"}, "parameters.guided_json in thread.json is not supported yet"),
        ("documents", ["x"], "parameters.documents in thread.json is not supported"),
    ],
)
def test_what_cannot_is_named(name: str, given: Any, told: str) -> None:
    assert told in problem(name, given)


@pytest.mark.parametrize("given", ["warm", 5, [1], True])
def test_parameters_that_are_no_object(given: Any) -> None:
    found = read_parameters(given)
    assert [item.told("thread.json") for item in found.problems.values()] == [
        f"parameters in thread.json is {json.dumps(given)}: must be an object"
    ]


def test_nothing_asks_for_nothing() -> None:
    given = {"temperature": None, "vulkan": True, "guided_json": {}, "min_tokens": 0, "skip_special_tokens": True}
    for nothing in (None, {}, given):
        assert read_parameters(nothing) == read_parameters({})


def test_another_servers_name_is_ours() -> None:
    found = read_parameters({"repetition_penalty": "1.2", "max_new_tokens": 5, "stop_sequences": "x"})
    assert found.values == {"repeat_penalty": 1.2, "max_tokens": 5, "stop": ("x",)}
    assert read_parameters({"max_tokens": 9, "max_completion_tokens": 5}).values == {"max_tokens": 5}
    assert read_parameters({"repeat_penalty": 1.2, "repetition_penalty": "1.20"}).values == {"repeat_penalty": 1.2}
    both = read_parameters({"repetition_penalty": 1.3, "repeat_penalty": 1.2, "top_k": 1})
    assert both.values == {"top_k": 1}
    assert both.problems["repeat_penalty"].told() == (
        "parameters.repetition_penalty is 1.3: must be the same as `repeat_penalty`, or left out"
    )


@pytest.mark.parametrize(
    ("value", "breakers"),
    [
        ('["\\n", ":", "\\""]', ("\n", ":", '"')),  # SillyTavern
        ('"\\n", ":", "*"', ("\n", ":", "*")),  # text-generation-webui
        ("\n", ("\n",)),
        ("[", ("[",)),
        ("[5]", ("[5]",)),
        ("7", ("7",)),
        ("", ()),
    ],
)
def test_breakers_as_a_text(value: str, breakers: tuple[str, ...]) -> None:
    assert read_parameters({"dry_sequence_breakers": value}).values == {"dry_sequence_breakers": breakers}


def test_mirostat_as_a_flag() -> None:
    assert read_parameters({"mirostat": False}).values == {"mirostat": 0}
    assert "mirostat" in read_parameters({"mirostat": True}).problems


def test_what_jan_keeps_there_changes_no_answer() -> None:
    given = {"stream": "maybe", "token_limit": "5", "engine": 7}
    assert read_parameters(given) == read_parameters({})
    found = read_parameters(given, jan=True)
    assert (found.values, sorted(found.problems)) == ({"token_limit": 5}, ["engine", "stream"])


def test_fields_of_the_chat_template() -> None:
    assert template_kwargs({}) == {}
    assert template_kwargs({"chat_template_kwargs": {"a": 1}, "reasoning_effort": "high"}) == {
        "a": 1,
        "reasoning_effort": "high",
    }
    assert template_kwargs({"reasoning_effort": "none"}) == {"enable_thinking": False}
    assert template_kwargs({"enable_thinking": True, "chat_template_kwargs": {"enable_thinking": False}}) == {
        "enable_thinking": True
    }


def test_every_field_of_the_sampler_is_read_and_typed() -> None:
    defaults = SamplingParams()
    for item in fields(SamplingParams):
        if item.name == "top_logprobs":
            continue
        assert is_parameter(item.name), item.name
        if item.name in SAMPLING_RANGES and item.name != "seed":
            low, high = SAMPLING_RANGES[item.name]
            for value in (low, high, str(low)):
                assert type(one(item.name, value)) is type(getattr(defaults, item.name)), item.name


def test_the_tables_of_names_do_not_overlap() -> None:
    assert not {*NAMES, *ALIASES} & {*GENERATION, *CONVERSATION}
    assert all(is_known(name) for name in (*NAMES, *ALIASES, *GENERATION, *CONVERSATION) if name != "n_cmpl")
    assert not is_known("vulkan")


def test_what_can_be_sent_between_processes() -> None:
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    assert is_storable({"a": [1.5, "x", None, (1 << 64) - 1, -(1 << 63)]})
    assert not any(is_storable(value) for value in (deep, {"a": 1 << 64}, [[-(1 << 63) - 1]]))


ODD: list[Any] = [None, True, 0, -1, 3.0, 1e300, 1 << 70, "", "0.7", "warm", "-1", [], ["a"], [[1, 2]], {}, {"5": -1}]


def test_any_value_is_understood_or_named() -> None:
    """And what is understood stays the same when it is written as JSON and read again, as a run's is."""
    random_ = random.Random(5)
    names = [*NAMES, *ALIASES, *GENERATION, *CONVERSATION, "vulkan", ""]
    for _ in range(3000):
        given = {random_.choice(names): random_.choice(ODD) for _ in range(random_.randrange(4))}
        found = read_parameters(given)
        assert not found.values.keys() & found.problems.keys()
        for item in found.problems.values():
            assert item.field.split(".")[0] in given
            assert item.reason
        again = read_parameters(json.loads(json.dumps(found.values)))
        assert (again.values, again.problems) == (found.values, {})
