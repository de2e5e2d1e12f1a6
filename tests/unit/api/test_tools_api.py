"""Tools in chats: shown to the model, called in its own format, told as OpenAI does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from flask.testing import FlaskClient

from janflask.errors import InvalidRequestError
from janflask.inference.calls.tool_schemas import tool_schemas
from janflask.inference.requests import CallChoice
from janflask.schemas.chat import ChatRequestSchema
from tests.fakes.scripted import say
from tests.unit.api.conftest import World
from tests.unit.api.stored import refused

FUNCTION = {
    "name": "get_weather",
    "description": "The weather at a place.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}
TOOLS = [{"type": "function", "function": FUNCTION}]
USER = {"role": "user", "content": "Weather in Paris?"}
CHAT: dict[str, Any] = {"model": "tiny", "messages": [USER], "tools": TOOLS}
OLD: dict[str, Any] = {"tools": None, "functions": [FUNCTION]}
SAID = (
    "I ",
    "look.\n<tool",
    '_call>\n{"name": "get_wea',
    'ther", "arguments": {"pla',
    'ce": "Paris"}}',
    "\n</tool_call>",
)
CALL = {
    "id": "call_0123456789",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"place":"Paris"}'},
}
RESULT = {"role": "tool", "tool_call_id": CALL["id"], "content": "sunny"}
LINE = '<tool_call>\n{"name": "get_weather", "arguments": {"place": "Paris"}}\n</tool_call>'


@pytest.fixture(autouse=True)
def _qwen(world: World, llama_templates: Path) -> None:
    world.runs_as(chat_template=(llama_templates / "Qwen-Qwen2.5-7B-Instruct.jinja").read_text())
    world.engine.script = say(*SAID)


def whole(client: FlaskClient, **more: Any) -> dict[str, Any]:
    answer = client.post("/v1/chat/completions", json={**CHAT, **more})
    assert answer.status_code == 200, answer.json
    choice = answer.get_json()["choices"][0]
    assert isinstance(choice, dict)
    return choice


def prompt(client: FlaskClient, world: World, *messages: Any, **more: Any) -> str:
    """What the engine is given, which is what apply-template says."""
    body = {**CHAT, "messages": [USER, *messages], **more}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.json
    found = world.engine.requests[-1].prompt
    assert client.post("/v1/apply-template", json=body).json == {"prompt": found}
    return str(found)


def test_a_call_in_a_message(client: FlaskClient, world: World) -> None:
    choice = whole(client)
    call = choice["message"]["tool_calls"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "I look."
    assert call == {
        "id": call["id"],
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"place": "Paris"}'},
    }
    assert world.engine.requests[-1].markers == ("<tool_call>", "</tool_call>")
    shown = str(world.engine.requests[-1].prompt)
    assert '<tools>\n{"type": "function", "function": {"name": "get_weather"' in shown


def test_a_call_alone_has_no_content(client: FlaskClient, world: World) -> None:
    world.engine.script = say(LINE)
    assert whole(client)["message"]["content"] is None


def test_deltas_of_a_call(client: FlaskClient) -> None:
    answer = client.post("/v1/chat/completions", json={**CHAT, "stream": True})
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line.startswith("data: ")]
    choices = [choice for line in lines[:-1] for choice in json.loads(line)["choices"]]
    calls = [call for choice in choices for call in choice["delta"].get("tool_calls", ())]
    assert calls[0]["function"] == {"name": "get_weather", "arguments": ""}
    assert calls[0]["type"] == "function"
    assert len(calls[0]["id"]) == 9
    assert all(call == {"index": 0, "function": call["function"]} for call in calls[1:])
    assert [call["function"]["arguments"] for call in calls] == ["", '{"pla', 'ce": "Paris"}']
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == "I look."
    assert choices[-1]["finish_reason"] == "tool_calls"


def test_two_calls_and_only_the_first(client: FlaskClient, world: World) -> None:
    world.engine.script = say(f"{LINE}\n{LINE}")
    assert [call["function"]["name"] for call in whole(client)["message"]["tool_calls"]] == ["get_weather"] * 2
    assert len(whole(client, parallel_tool_calls=False)["message"]["tool_calls"]) == 1


def test_arguments_that_max_tokens_cut(client: FlaskClient, world: World) -> None:
    world.engine.script = say('<tool_call>{"name": "get_weather", "arguments": {"place": "Pa', reason="length")
    choice = whole(client)
    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"place": "Pa'


def test_a_call_that_was_begun_is_told_whole(client: FlaskClient, world: World) -> None:
    begun = {"role": "assistant", "content": f'{LINE}\n<tool_call>{{"name": "get_weather", "arguments": {{"place": "Pa'}
    world.engine.script = say('ris"}}</tool_call>')
    choice = whole(client, messages=[USER, begun], continue_final_message=True)
    assert [call["function"] for call in choice["message"]["tool_calls"]] == [
        {"name": "get_weather", "arguments": '{"place": "Paris"}'}
    ]
    assert choice["finish_reason"] == "tool_calls"
    world.engine.script = say("Yes.")
    choice = whole(client, messages=[USER, {**begun, "content": LINE}], continue_final_message=True)
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Yes.", "stop")


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "nobody", "arguments": {}}</tool_call>',
        f"```\n{LINE}\n```",
        "<tool_call>Hm</tool_call>",
        "<tool_call>",
    ],
)
def test_what_is_no_call_is_text(client: FlaskClient, world: World, text: str) -> None:
    world.engine.script = say(text)
    choice = whole(client)
    assert (choice["message"]["content"], choice["finish_reason"]) == (text, "stop")
    assert "tool_calls" not in choice["message"]


@pytest.mark.parametrize("more", [{"tool_choice": "none"}, {"tools": []}, {"tools": None, "tool_choice": "auto"}])
def test_without_tools_nothing_is_a_call(client: FlaskClient, world: World, more: dict[str, Any]) -> None:
    world.engine.script = say(LINE)
    assert whole(client, **more)["message"]["content"] == LINE
    assert "get_weather" not in str(world.engine.requests[-1].prompt)


@pytest.mark.parametrize("content", [None, "", "I look."])
def test_history_as_agents_send_it(client: FlaskClient, world: World, content: str | None) -> None:
    called = {"role": "assistant", "content": content, "tool_calls": [CALL]}
    result = {**RESULT, "content": [{"type": "text", "text": "sunny"}]}
    shown = prompt(client, world, called, result)
    words = f"{content}\n" if content else ""
    assert shown.endswith(
        f"<|im_start|>assistant\n{words}{LINE}<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\nsunny\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )
    assert prompt(client, world, {**called, "tools": []}, result) == shown


def test_a_layout_without_a_place_for_tools(client: FlaskClient, world: World) -> None:
    world.runs_as(chat_template="{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}")  # fmt: skip # noqa: E501
    shown = prompt(client, world, {"role": "assistant", "content": None, "tool_calls": [CALL]}, RESULT)
    assert shown.startswith("<system># Tools\n\nYou may call one or more functions")
    assert shown.endswith(
        '<user>Weather in Paris?<assistant><tool_call>\n{"name": "get_weather", "arguments": {"place":"Paris"}}\n'
        "</tool_call><user><tool_response>\nsunny\n</tool_response><assistant>"
    )
    assert whole(client)["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
    world.runs_as(chat_template=None)
    assert "# Tools" in prompt(client, world)
    assert whole(client)["finish_reason"] == "tool_calls"


def test_mistral_takes_ids_of_nine_characters_only(client: FlaskClient, world: World, llama_templates: Path) -> None:
    world.runs_as(chat_template=(llama_templates / "mistralai-Mistral-Nemo-Instruct-2407.jinja").read_text())
    shown = prompt(client, world, {"role": "assistant", "content": "", "tool_calls": [CALL]}, RESULT)
    ids = [piece.split('"')[0] for piece in shown.split('"id": "')[1:]]
    assert len(ids) == 1
    assert len(ids[0]) == 9
    assert shown.count(ids[0]) == 2


def test_functions_as_they_were(client: FlaskClient, world: World) -> None:
    choice = whole(client, **OLD)
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "get_weather", "arguments": '{"place": "Paris"}'}
    shown = prompt(
        client,
        world,
        {"role": "assistant", "content": None, "function_call": CALL["function"]},
        {"role": "function", "name": "get_weather", "content": "sunny"},
        **OLD,
    )
    assert LINE in shown
    assert "<tool_response>\nsunny\n</tool_response>" in shown
    assert "tool_calls" not in whole(client, **OLD, function_call="none")["message"]


def test_the_sdk_finds_the_calls(server: str) -> None:
    sdk = openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0)
    arguments: dict[str, Any] = {"model": "tiny", "messages": [USER], "tools": TOOLS}
    message = sdk.chat.completions.create(**arguments).choices[0].message
    assert message.tool_calls is not None
    with sdk.chat.completions.stream(**arguments) as stream:
        streamed = stream.get_final_completion().choices[0].message
    assert streamed.tool_calls is not None
    found = [calls[0].function for calls in (message.tool_calls, streamed.tool_calls)]  # type: ignore[union-attr]
    assert [(item.name, item.arguments) for item in found] == [("get_weather", '{"place": "Paris"}')] * 2


def named(name: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named(name) for name in names]}}


def flat(choice: dict[str, Any]) -> dict[str, Any]:
    """As the Responses API writes it."""
    if "function" in choice:
        return {"type": "function", **choice["function"]}
    inner = choice["allowed_tools"]
    return {"type": "allowed_tools", **inner, "tools": [flat(tool) for tool in inner["tools"]]}


TWO = {"tools": [*TOOLS, {"type": "function", "function": {"name": "get_time"}}]}
AUTO, REQUIRED = CallChoice.AUTO, CallChoice.REQUIRED


@pytest.mark.parametrize(
    ("choice", "mode", "names", "parallel"),
    [
        ("auto", AUTO, None, True),
        (None, AUTO, None, True),
        ({"type": "auto"}, AUTO, None, True),
        ("required", REQUIRED, None, True),
        ("any", REQUIRED, None, True),
        ({"type": "required"}, REQUIRED, None, True),
        (named("get_time"), REQUIRED, {"get_time"}, False),
        (flat(named("get_time")), REQUIRED, {"get_time"}, False),
        (allowed("auto", "get_time"), AUTO, {"get_time"}, True),
        (allowed("required", "get_time", "get_weather"), REQUIRED, {"get_time", "get_weather"}, True),
        (flat(allowed("required", "get_time")), REQUIRED, {"get_time"}, True),
    ],
)
def test_whether_to_call_and_what(choice: Any, mode: CallChoice, names: set[str] | None, parallel: bool) -> None:
    request = ChatRequestSchema().load({**CHAT, **TWO, "tool_choice": choice})
    assert (request.call_choice, request.callable_tools, request.parallel_calls) == (mode, names, parallel)
    assert [tool.name for tool in request.tools] == ["get_weather", "get_time"]
    assert {tool.name for tool in request.callables} == (names or {"get_weather", "get_time"})


def test_whether_to_call_a_function_as_it_was_asked() -> None:
    request = ChatRequestSchema().load({**CHAT, **OLD, "function_call": {"name": "get_weather"}})
    assert (request.call_choice, request.callable_tools) == (REQUIRED, {"get_weather"})
    assert (request.parallel_calls, request.calls_function) == (False, True)
    assert ChatRequestSchema().load({**CHAT, **OLD, "function_call": "auto"}).call_choice is AUTO


@pytest.mark.parametrize("is_old", [False, True])
def test_a_schema_that_no_call_can_be_held_to_is_named_by_its_place_in_the_request(is_old: bool) -> None:
    odd = {"name": "odd", "parameters": {"type": "object", "properties": {"x": {"not": {}}}}}
    listed: dict[str, Any] = {"tools": [*TWO["tools"], {"type": "function", "function": odd}]}
    body = {**listed, "tool_choice": allowed("auto", "get_time", "odd")}
    if is_old:
        body = {**OLD, "functions": [FUNCTION, odd], "function_call": {"name": "odd"}}
    request = ChatRequestSchema().load({**CHAT, **body})
    with pytest.raises(InvalidRequestError) as found:
        tool_schemas(request.callables, "functions" if is_old else "tools")
    place = "functions.1.parameters" if is_old else "tools.2.function.parameters"
    assert found.value.param == f"{place}.properties.x.not"


def test_strict_is_handed_on() -> None:
    tool = {"type": "function", "function": {**FUNCTION, "strict": True}}
    assert [tool.strict for tool in ChatRequestSchema().load({**CHAT, "tools": [tool, *TWO["tools"][1:]]}).tools] == [
        True,
        False,
    ]


def test_only_what_may_be_called_is_a_call(client: FlaskClient, world: World) -> None:
    """The model is shown all tools, so that their part of the prompt stays in the cache."""
    choice = whole(client, **TWO, tool_choice=allowed("auto", "get_time"))
    assert (choice["message"]["content"], choice["finish_reason"]) == ("".join(SAID), "stop")
    shown = str(world.engine.requests[-1].prompt)
    assert whole(client, **TWO, tool_choice=allowed("auto", "get_weather"))["finish_reason"] == "tool_calls"
    assert str(world.engine.requests[-1].prompt) == shown
    assert whole(client, **TWO)["finish_reason"] == "tool_calls"
    assert str(world.engine.requests[-1].prompt) == shown


def test_none_as_an_object(client: FlaskClient, world: World) -> None:
    assert whole(client, tool_choice={"type": "none"})["message"]["content"] == "".join(SAID)
    assert "get_weather" not in str(world.engine.requests[-1].prompt)


def test_a_form_beside_tools_is_of_the_words(client: FlaskClient, world: World) -> None:
    """An answer that calls is none that the form is for; one that does not is checked."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "required": ["a"]}}}
    world.engine.script = say(LINE)
    choice = whole(client, response_format=form)
    assert (choice["finish_reason"], choice["message"]["refusal"]) == ("tool_calls", None)
    world.engine.script = say('{"a":1}')
    choice = whole(client, response_format=form)
    assert (choice["message"]["content"], choice["message"]["refusal"]) == ('{"a":1}', None)
    world.engine.script = say("{}")
    assert "required property" in whole(client, response_format=form)["message"]["refusal"]
    assert whole(client, response_format=form, tool_choice="required")["finish_reason"] == "stop"


def test_an_object_that_was_asked_for_is_no_call(client: FlaskClient, world: World) -> None:
    """Though it begins as a call without markers does."""
    said = '{"name":"get_weather","arguments":{"place":"Paris"}}'
    world.engine.script = say(said)
    assert whole(client)["finish_reason"] == "tool_calls"
    choice = whole(client, response_format={"type": "json_object"})
    assert (choice["message"]["content"], choice["finish_reason"]) == (said, "stop")


NOT_HIS = [USER, {**USER, "tool_calls": [CALL]}]
NO_FUNCTION = [USER, {"role": "assistant", "tool_calls": [{"id": "x"}]}]
NO_ID = [USER, {"role": "assistant", "tool_calls": [{**CALL, "id": None}]}]


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools.0.type", "must be function"),
        ({"tools": [{"type": "function"}]}, "tools.0.function", "is required"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name", "1 to 128 letters"),
        ({"tools": TOOLS * 2}, "tools.1.function.name", "comes twice"),
        ({"tools": None, "functions": [FUNCTION] * 2}, "functions.1.name", "comes twice"),
        ({"tools": {}}, "tools", "must be a list"),
        (
            {"tools": [{"type": "function", "function": {**FUNCTION, "parameters": {"type": "string"}}}]},
            "tools.0.function.parameters.type",
            "must be object",
        ),
        ({"tool_choice": "always"}, "tool_choice", "must be one of"),
        ({"tool_choice": 5}, "tool_choice", "must be a string or an object"),
        ({"tools": None, "tool_choice": "required"}, "tool_choice", "needs `tools`"),
        ({"tools": [], "tool_choice": named("x")}, "tool_choice", "needs `tools`"),
        ({"tool_choice": named("x")}, "tool_choice.function.name", "none of the request's tools, which are get_weath"),
        ({"tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name", "is none of the request's tools"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function", "is required"),
        ({"tool_choice": {"type": "function", "function": "x"}}, "tool_choice.function", "must be an object"),
        ({"tool_choice": named(None)}, "tool_choice.function.name", "is required"),
        ({"tool_choice": named(5)}, "tool_choice.function.name", "must be a string"),
        ({"tool_choice": {"type": "custom", "custom": {"name": "x"}}}, "tool_choice.type", "must be function or allow"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.mode", "is required"),
        ({"tool_choice": {**allowed("auto"), "allowed_tools": 5}}, "tool_choice.allowed_tools", "must be an object"),
        ({"tool_choice": allowed("always", "x")}, "tool_choice.allowed_tools.mode", "must be auto or required"),
        ({"tool_choice": allowed("auto")}, "tool_choice.allowed_tools.tools", "a tool at least"),
        (
            {"tool_choice": allowed("auto", "get_weather", "x")},
            "tool_choice.allowed_tools.tools.1.function.name",
            "is none of the request's tools",
        ),
        (
            {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]}},
            "tool_choice.tools.0.type",
            "must be function, not 'mcp'",
        ),
        ({**OLD, "function_call": "required"}, "function_call", "must be one of none, auto, or an object"),
        ({**OLD, "function_call": {"name": "x"}}, "function_call.name", "is none of the request's tools"),
        ({**OLD, "function_call": {}}, "function_call.name", "is required"),
        ({"functions": [FUNCTION]}, "functions", "together with `tools`"),
        ({"messages": NOT_HIS}, "messages.1.tool_calls", "belongs to an assistant's message"),
        ({"messages": NO_FUNCTION}, "messages.1.tool_calls.0.function", "is required"),
        ({"messages": NO_ID}, "messages.1.tool_calls.0.id", "must not be null"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(
    client: FlaskClient, world: World, change: dict[str, Any], param: str, words: str
) -> None:
    error = refused(client.post("/v1/chat/completions", json={**CHAT, **change}), 400, param)
    assert words in error["message"]
    assert world.engine.requests == []
