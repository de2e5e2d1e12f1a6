"""What the library ``llm`` does over both ways to a server that extra-openai-models.yaml can name; see ``report``."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

from report import BASE_URL, MAX_TOKENS, MODEL, TALK, get_weather, tell

# llm looks for its files in $LLM_USER_PATH as soon as it is imported.
FOLDER = Path(os.environ["HOME"])
os.environ["LLM_USER_PATH"] = str(FOLDER)
WAYS = ("chat", "responses")
COMMON = {"model_name": MODEL, "api_base": BASE_URL, "supports_tools": True, "supports_schema": True}
MODELS = [{"model_id": way, **COMMON, "responses": way == "responses"} for way in WAYS]
(FOLDER / "extra-openai-models.yaml").write_text(json.dumps(MODELS))  # JSON is YAML

import llm  # noqa: E402

GIVEN: dict[str, Any] = {"temperature": 0, "max_tokens": MAX_TOKENS}
CITY = {
    "type": "object",
    "properties": {name: {"type": "string", "maxLength": 20} for name in ("name", "country")},
    "required": ["name", "country"],
    "additionalProperties": False,
}


def loop(way: str, stream: bool) -> dict[str, Any]:
    """The model calls, is told what came of it, and answers."""
    asked, called, result, answered = TALK["earlier"]
    call = called["tool_calls"][0]
    arguments = json.loads(call["function"]["arguments"])
    messages = [
        llm.user(asked["content"]),
        llm.assistant(llm.parts.ToolCallPart(call["function"]["name"], arguments, tool_call_id=call["id"])),
        llm.tool_message(
            llm.parts.ToolResultPart(call["function"]["name"], result["content"], tool_call_id=call["id"])
        ),
        llm.assistant(answered["content"]),
    ]
    chain = (
        llm.get_model(way)
        .conversation()
        .chain(TALK["question"], messages=messages, tools=[get_weather], stream=stream, options=GIVEN)
    )
    pieces = list(chain)
    calls = [[call.name, call.arguments] for response in chain._responses for call in response.tool_calls()]
    return {"calls": calls, "answer": "".join(pieces)}


def structured(way: str, stream: bool) -> dict[str, Any]:
    answer = llm.get_model(way).prompt(TALK["describe"], schema=CITY, stream=stream, **GIVEN)
    found: dict[str, Any] = json.loads(answer.text())
    return found


KINDS = [(way, f"{way}{', streamed' if stream else ''}", stream) for way in WAYS for stream in (False, True)]
tell(
    "llm",
    {
        **{f"loop, {name}": partial(loop, way, stream) for way, name, stream in KINDS},
        **{f"object, {name}": partial(structured, way, stream) for way, name, stream in KINDS},
    },
)
