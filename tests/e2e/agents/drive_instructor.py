"""What instructor does, in each of its modes; see ``report``."""

from __future__ import annotations

from functools import partial
from typing import Any

import instructor
from openai import OpenAI
from pydantic import BaseModel, Field, create_model
from report import BASE_URL, MAX_TOKENS, MODEL, TALK, get_weather, tell

SDK = OpenAI(base_url=BASE_URL, api_key="none", max_retries=0)
GIVEN: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_tokens": MAX_TOKENS, "max_retries": 0}
MODES = {"tools": instructor.Mode.TOOLS, "json": instructor.Mode.JSON, "json_schema": instructor.Mode.JSON_SCHEMA}
CLIENTS = {name: instructor.from_openai(SDK, mode=mode) for name, mode in MODES.items()}
GetWeather = create_model("get_weather", __doc__=get_weather.__doc__, city=(str, ...))


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)
    country: str = Field(max_length=20)


class Answer(BaseModel):
    """Answers the user."""

    text: str = Field(max_length=80)


def ask(mode: str, kind: type[BaseModel], messages: list[Any], stream: bool) -> Any:
    completions = CLIENTS[mode].chat.completions
    if not stream:
        return completions.create(response_model=kind, messages=messages, **GIVEN)
    *_, last = completions.create_partial(response_model=kind, messages=messages, **GIVEN)
    return last


def loop(stream: bool) -> dict[str, Any]:
    """The model calls, is told what came of it, and answers, by a call as well."""
    messages: list[Any] = [*TALK["earlier"], {"role": "user", "content": TALK["question"]}]
    called, completion = CLIENTS["tools"].chat.completions.create_with_completion(
        response_model=GetWeather, messages=messages, **GIVEN
    )
    message = completion.choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": get_weather(called.city)}
    messages += [message.model_dump(), result]  # with all its nulls, as many programs send it
    answer = ask("tools", Answer, messages, stream)
    return {"calls": [["get_weather", called.model_dump()]], "answer": answer.text}


def structured(mode: str, stream: bool) -> dict[str, Any]:
    return ask(mode, City, [{"role": "user", "content": TALK["describe"]}], stream).model_dump()


tell(
    "instructor",
    {
        "loop": partial(loop, stream=False),
        "loop, streamed": partial(loop, stream=True),
        **{f"object, {mode}": partial(structured, mode, stream=False) for mode in MODES},
        **{f"object, {mode}, streamed": partial(structured, mode, stream=True) for mode in MODES},
    },
)
