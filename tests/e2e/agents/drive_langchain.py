"""What langchain-openai does with tools and structured output; see ``report``."""

from __future__ import annotations

from functools import partial
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, convert_to_messages
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field
from report import BASE_URL, MAX_TOKENS, MODEL, TALK, get_weather, tell

LLM = ChatOpenAI(
    base_url=BASE_URL, api_key="none", model=MODEL, temperature=0, max_retries=0, max_completion_tokens=MAX_TOKENS
)
WEATHER = tool(get_weather)


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)
    country: str = Field(max_length=20)


def ask(llm: Any, messages: list[BaseMessage], stream: bool) -> AIMessage:
    if not stream:
        return llm.invoke(messages)
    whole, *chunks = llm.stream(messages)
    for chunk in chunks:
        whole += chunk
    return whole


def loop(stream: bool, **first: Any) -> dict[str, Any]:
    """The model calls, is told what came of it, and answers."""
    messages = [*convert_to_messages(TALK["earlier"]), HumanMessage(TALK["question"])]
    called = ask(LLM.bind_tools([WEATHER], **first), messages, stream)
    results = [WEATHER.invoke(call) for call in called.tool_calls]
    answer = ask(LLM.bind_tools([WEATHER]), [*messages, called, *results], stream)
    return {
        "calls": [[call["name"], call["args"]] for call in called.tool_calls],
        "answer": answer.content,
        "ends": [message.response_metadata["finish_reason"] for message in (called, answer)],
    }


def structured(stream: bool = False, **how: Any) -> dict[str, Any]:
    llm = LLM.with_structured_output(City, **how)
    *_, found = llm.stream(TALK["describe"]) if stream else [llm.invoke(TALK["describe"])]
    return found.model_dump()


tell(
    "langchain-openai",
    {
        "loop": partial(loop, stream=False),
        "loop, streamed": partial(loop, stream=True),
        "required": partial(loop, stream=False, tool_choice="required"),
        "required, streamed": partial(loop, stream=True, tool_choice="required"),
        "named": partial(loop, stream=False, tool_choice="get_weather", strict=True),
        "object, json_schema": partial(structured, method="json_schema"),
        "object, json_schema, strict": partial(structured, method="json_schema", strict=True),
        "object, json_schema, streamed": partial(structured, method="json_schema", stream=True),
        "object, function_calling": partial(structured, method="function_calling"),
        "object, function_calling, streamed": partial(structured, method="function_calling", stream=True),
        "object, json_mode": partial(structured, method="json_mode"),
    },
)
