"""What agents of openai-agents do over the Responses API, with and without a session; see ``report``."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import Any

import agents
import report
from agents import Agent, ModelSettings, OpenAIConversationsSession, Runner, Session, SQLiteSession, function_tool
from openai import AsyncOpenAI
from pydantic import BaseModel, Field
from report import BASE_URL, MAX_TOKENS, MODEL, TALK

os.environ["OPENAI_API_KEY"] = "none"  # a session in a conversation wants one
agents.set_tracing_disabled(True)

WORDS = "response.output_text.delta"


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)
    country: str = Field(max_length=20)


@function_tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return report.get_weather(city)


def agent(client: AsyncOpenAI, **more: Any) -> Agent[None]:
    agents.set_default_openai_client(client, use_for_tracing=False)
    settings = ModelSettings(temperature=0, max_tokens=MAX_TOKENS)
    return Agent("Weather", model=MODEL, model_settings=settings, **(more or {"tools": [get_weather]}))


def earlier() -> list[Any]:
    """The earlier turn as items of the Responses API."""
    asked, called, result, answered = TALK["earlier"]
    call = called["tool_calls"][0]
    about = {"call_id": call["id"], "name": call["function"]["name"]}
    return [
        asked,
        {"type": "function_call", **about, "arguments": call["function"]["arguments"]},
        {"type": "function_call_output", "call_id": call["id"], "output": result["content"]},
        answered,
    ]


def told(result: Any) -> dict[str, Any]:
    calls = [item.raw_item for item in result.new_items if item.type == "tool_call_item"]
    return {"calls": [[call.name, json.loads(call.arguments)] for call in calls], "answer": result.final_output}


async def run(agent: Agent[None], given: Any, stream: bool, session: Session | None = None) -> dict[str, Any]:
    if not stream:
        return told(await Runner.run(agent, given, session=session))
    result = Runner.run_streamed(agent, given, session=session)
    events = [event.data async for event in result.stream_events() if event.type == "raw_response_event"]
    return {**told(result), "pieces": sum(event.type == WORDS for event in events)}


async def loop(stream: bool) -> dict[str, Any]:
    """The model calls, is told what came of it, and answers; the agent keeps all of it."""
    async with AsyncOpenAI(base_url=BASE_URL, max_retries=0) as client:
        return await run(agent(client), [*earlier(), {"role": "user", "content": TALK["question"]}], stream)


async def in_session(session: Session, client: AsyncOpenAI, stream: bool) -> dict[str, Any]:
    await session.add_items(earlier())
    result = await run(agent(client), TALK["question"], stream, session)
    kinds = [str(item.get("type", "message")) for item in await session.get_items()]
    return {**result, "items": kinds}


async def sqlite(stream: bool) -> dict[str, Any]:
    async with AsyncOpenAI(base_url=BASE_URL, max_retries=0) as client:
        return await in_session(SQLiteSession("one"), client, stream)


async def conversation(stream: bool) -> dict[str, Any]:
    """What was said is kept by the server, and found there by a session of the same id."""
    async with AsyncOpenAI(base_url=BASE_URL, max_retries=0) as client:
        session = OpenAIConversationsSession(openai_client=client)
        result = await in_session(session, client, stream)
        same = OpenAIConversationsSession(conversation_id=session.session_id, openai_client=client)
        popped = await same.pop_item()
        left = await session.get_items()
        await session.clear_session()
        return {**result, "popped": popped["content"][0]["text"] if popped else None, "left": len(left)}


async def structured(stream: bool) -> dict[str, str]:
    async with AsyncOpenAI(base_url=BASE_URL, max_retries=0) as client:
        result = await run(agent(client, output_type=City), TALK["describe"], stream)
        city: City = result["answer"]
        return city.model_dump()


ITEMS = {"loop": loop, "session": sqlite, "conversation": conversation, "object, output_type": structured}
report.tell(
    "openai-agents",
    {
        f"{name}{', streamed' if stream else ''}": partial(item, stream)
        for name, item in ITEMS.items()
        for stream in (False, True)
    },
)
