"""What agents of pydantic-ai do with tools and structured output; see ``report``."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from pydantic import BaseModel, Field
from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from report import BASE_URL, MAX_TOKENS, MODEL, TALK, get_weather, tell

LLM = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=BASE_URL, api_key="none"))
GIVEN: dict[str, Any] = {"model_settings": {"temperature": 0, "max_tokens": MAX_TOKENS}, "retries": 0}


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)
    country: str = Field(max_length=20)


class Weather(BaseModel):
    """What the weather is."""

    city: str = Field(max_length=20)
    weather: str = Field(max_length=40)


def earlier() -> list[ModelMessage]:
    """The earlier turn as pydantic-ai keeps it."""
    asked, called, result, answered = TALK["earlier"]
    call = called["tool_calls"][0]
    name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])
    return [
        ModelRequest([UserPromptPart(asked["content"])]),
        ModelResponse([ToolCallPart(name, arguments, tool_call_id=call["id"])]),
        ModelRequest([ToolReturnPart(name, result["content"], tool_call_id=call["id"])]),
        ModelResponse([TextPart(answered["content"])]),
    ]


def calls(messages: list[ModelMessage]) -> list[list[Any]]:
    parts = [part for message in messages for part in message.parts if isinstance(part, ToolCallPart)]
    return [[part.tool_name, part.args_as_dict()] for part in parts]


async def loop(stream: bool) -> dict[str, Any]:
    """The model calls, is told what came of it, and answers."""
    agent = Agent(LLM, tools=[get_weather], **GIVEN)
    if not stream:
        result = await agent.run(TALK["question"], message_history=earlier())
        return {"calls": calls(result.new_messages()), "answer": result.output}
    async with agent.run_stream(TALK["question"], message_history=earlier()) as streamed:
        pieces = [piece async for piece in streamed.stream_text(delta=True, debounce_by=None)]
        return {"calls": calls(streamed.new_messages()), "answer": "".join(pieces), "pieces": len(pieces)}


async def structured(output: Any, stream: bool) -> dict[str, Any]:
    agent = Agent(LLM, output_type=output, **GIVEN)
    if not stream:
        return (await agent.run(TALK["describe"])).output.model_dump()
    async with agent.run_stream(TALK["describe"]) as streamed:
        *_, last = [partly async for partly in streamed.stream_output(debounce_by=None)]
        return last.model_dump()


async def both() -> dict[str, Any]:
    """A tool and a form for the answer in one request."""
    agent = Agent(LLM, tools=[get_weather], output_type=NativeOutput(Weather), **GIVEN)
    result = await agent.run(TALK["question"], message_history=earlier())
    return {"calls": calls(result.new_messages()), "answer": result.output.model_dump()}


OUTPUTS = {"tool": ToolOutput(City), "native": NativeOutput(City), "prompted": PromptedOutput(City)}
tell(
    "pydantic-ai-slim",
    {
        "loop": partial(loop, stream=False),
        "loop, streamed": partial(loop, stream=True),
        **{f"object, {name}": partial(structured, output, stream=False) for name, output in OUTPUTS.items()},
        **{f"object, {name}, streamed": partial(structured, output, stream=True) for name, output in OUTPUTS.items()},
        "tool and object": both,
    },
)
