"""Structured output over HTTP: the SDK's own ways to ask for it, and others' streams meanwhile."""

from __future__ import annotations

import json
import re
import threading
from enum import Enum
from typing import Any, Literal

import jsonschema
import openai
import pytest
from pydantic import BaseModel, Field

from tests.e2e.server import MODEL

MESSAGES: Any = [{"role": "user", "content": "Describe a cat as JSON."}]


class Color(Enum):
    BLACK = "black"
    DARK_RED = "dark red"


class Toy(BaseModel):
    name: str = Field(max_length=12)
    price: int = Field(ge=0, le=100)  # a small model may write the digits of a fraction for ever


class Cat(BaseModel):
    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=30)
    color: Color
    toy: Toy | None
    tags: list[Literal["soft", "loud"]] = Field(max_length=2)


def test_parse_gives_the_object(sdk: openai.OpenAI) -> None:
    for seed in range(3):
        answer = sdk.chat.completions.parse(
            model=MODEL, messages=MESSAGES, response_format=Cat, seed=seed, temperature=1.2, max_tokens=120
        )
        message = answer.choices[0].message
        assert isinstance(message.parsed, Cat), message
        assert message.content == message.parsed.model_dump_json() or json.loads(message.content or "")
        assert answer.choices[0].finish_reason == "stop"


def test_a_stream_of_parsed_events(sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.stream(
        model=MODEL, messages=MESSAGES, response_format=Cat, temperature=0, max_tokens=120
    ) as events:
        final = None
        for event in events:
            if event.type == "content.done":
                final = event.parsed
    assert isinstance(final, Cat)


def test_what_its_limit_cuts_is_not_called_valid(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        sdk.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=Cat, max_tokens=5)


def test_several_choices_each_keep_to_it(sdk: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"word": {"type": "string", "maxLength": 9}}, "required": ["word"]}
    answer = sdk.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        n=3,
        temperature=1.5,
        logprobs=True,
        max_tokens=40,
        response_format={"type": "json_schema", "json_schema": {"name": "word", "schema": schema}},
    )
    assert len(answer.choices) == 3
    for choice in answer.choices:
        jsonschema.validate(json.loads(choice.message.content or ""), schema)
        assert choice.logprobs is not None
        told = b"".join(bytes(token.bytes or []) for token in choice.logprobs.content or [])
        assert told.decode() == choice.message.content


@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        ({"regex": "[0-9]{3}-[a-z]{2}"}, r"\d{3}-[a-z]{2}"),
        ({"guided_choice": ["yes", "no"]}, "yes|no"),
        ({"structured_outputs": {"grammar": 'root ::= "<" [a-c]{2} ">"'}}, "<[abc]{2}>"),
        ({"grammar": 'start: "x" NUMBER\nNUMBER: /[1-9]/'}, "x[1-9]"),
        ({"json_schema": {"const": "é <|im_end|>"}}, r'"é <\|im_end\|>"'),
    ],
)
def test_other_servers_ways(sdk: openai.OpenAI, fields: dict[str, Any], pattern: str) -> None:
    answer = sdk.completions.create(model=MODEL, prompt="Answer: ", max_tokens=30, temperature=1, extra_body=fields)
    assert re.fullmatch(pattern, answer.choices[0].text), answer.choices[0]
    assert answer.choices[0].finish_reason == "stop"


def test_what_the_engine_refuses_names_its_field(sdk: openai.OpenAI) -> None:
    impossible = {"type": "object", "required": ["a"], "additionalProperties": False}
    for fields, param in (({"json_schema": impossible}, "json_schema"), ({"guided_regex": "(?=a)b"}, "guided_regex")):
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError) as caught:
                sdk.chat.completions.create(model=MODEL, messages=MESSAGES, stream=stream, extra_body=fields)
            assert caught.value.param == param


def test_a_constraint_that_is_hard_to_prepare_holds_up_nobody(sdk: openai.OpenAI) -> None:
    """It is refused by name, or prepared after all; the other stream gets all of its tokens meanwhile."""
    wide = {"anyOf": [{"properties": {f"k{i}_{j}": {} for i in range(900)}} for j in range(6)]}
    refused: list[openai.APIStatusError] = []

    def ask() -> None:
        try:
            sdk.completions.create(model=MODEL, prompt="x", max_tokens=1, extra_body={"json_schema": wide})
        except openai.APIStatusError as error:
            refused.append(error)

    stream = sdk.completions.create(
        model=MODEL, prompt="Once", max_tokens=60, stream=True, extra_body={"ignore_eos": True}
    )
    first = next(iter(stream))
    other = threading.Thread(target=ask)
    other.start()
    rest = list(stream)
    other.join()
    assert first.choices[0].text or rest
    assert rest[-1].choices[0].finish_reason == "length"
    assert all(error.status_code in (400, 503) for error in refused)


def test_nobody_waits_for_masks_while_there_is_a_decode(sdk: openai.OpenAI) -> None:
    """The counter of the engine tells the waiting of everybody."""
    models = sdk.with_options(max_retries=0)
    before = models.get(f"/models/{MODEL}", cast_to=object)
    sdk.chat.completions.create(model=MODEL, messages=MESSAGES, response_format={"type": "json_object"}, max_tokens=30)
    after = models.get(f"/models/{MODEL}", cast_to=object)
    assert after["stats"]["mask_seconds"] > before["stats"]["mask_seconds"]  # type: ignore[index]
