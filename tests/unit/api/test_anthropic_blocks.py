"""What a model is shown of Anthropic's turns and blocks, and which of them are refused, with their place."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.fakes.scripted import INFO, say
from tests.unit.api.conftest import World

# Every field that a template may know, in a form that is easy to read.
TEMPLATE = (
    "{% if tools %}{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n"
    "{% endif %}{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}'
    "<end>{% endfor %}{% if add_generation_prompt %}<assistant>{% if enable_thinking is defined %}"
    "{{ enable_thinking }}{% endif %}{{ reasoning_effort }}{% endif %}"
)
USER: dict[str, Any] = {"role": "user", "content": "Hi"}
CALL: dict[str, Any] = {"type": "tool_use", "id": "a", "name": "look", "input": {"at": 1}}
CALLED: dict[str, Any] = {"role": "assistant", "content": [CALL]}
TOOL: dict[str, Any] = {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}
ASKED = "<user>Hi<end>"
WROTE = '<assistant><tool_call>\n{"name": "look", "arguments": {"at": 1}}\n</tool_call><end>'


@pytest.fixture(autouse=True)
def _template(world: World) -> None:
    info = replace(INFO, chat_template=TEMPLATE)
    world.supervisor.states["tiny"] = world.supervisor.run("tiny", world.engine, info)


def prompt(client: FlaskClient, world: World, *messages: Any, **more: Any) -> str:
    """What the engine is given, which is what is counted, too."""
    body = {"model": "tiny", "messages": list(messages) or [USER], **more}
    answer = client.post("/v1/messages", json={"max_tokens": 9, **body})
    assert answer.status_code == 200, answer.json
    found = str(world.engine.requests[-1].prompt)
    counted = client.post("/v1/messages/count_tokens", json=body).json
    assert counted == {"input_tokens": 1 + len(found.encode())}  # a byte is a token, and there is one in front
    return found


def leading(shown: str) -> list[str]:
    """The names of the tools that are told in front."""
    return [json.loads(line)["function"]["name"] for line in shown.partition("<")[0].splitlines()]


def refused(client: FlaskClient, *messages: Any, **more: Any) -> tuple[str, str]:
    """The field and the words of a refusal, the same for an answer and for a count."""
    body = {"model": "tiny", "max_tokens": 9, "messages": list(messages) or [USER], **more}
    answers = [client.post(f"/v1/messages{path}", json=body) for path in ("", "/count_tokens")]
    for answer in answers:
        assert answer.status_code == 400, answer.json
        assert answer.json is not None
        assert answer.json["error"]["type"] == "invalid_request_error"
    assert answers[0].json is not None
    assert answers[1].json is not None
    assert answers[0].json["error"] == answers[1].json["error"]
    error = answers[0].json["error"]
    return error["details"]["param"], error["message"]


def result(content: Any = "seen", call: str = "a", **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call, "content": content, **more}]}


def text(*texts: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": item, "cache_control": {"type": "ephemeral"}} for item in texts]


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_system_and_text(client: FlaskClient, world: World) -> None:
    assert prompt(client, world, system="Be kind.") == f"<system>Be kind.<end>{ASKED}<assistant>"
    assert prompt(client, world, system=text("Be", "kind.")) == f"<system>Be\nkind.<end>{ASKED}<assistant>"
    assert prompt(client, world, {"role": "user", "content": text("Hi")}, system=[]) == f"{ASKED}<assistant>"


@pytest.mark.parametrize("number", ["7ee", "f51"])
def test_the_line_that_differs_in_each_request_is_left_out(client: FlaskClient, world: World, number: str) -> None:
    line = f"x-anthropic-billing-header: cc_version=2.1.332.{number}; cc_entrypoint=sdk-cli; cch={number}a0;"
    expected = f"<system>Be kind.<end>{ASKED}<assistant>"
    assert prompt(client, world, system=text(line, "Be kind.")) == expected
    assert prompt(client, world, system=f"{line}\n\nBe kind.") == expected
    assert prompt(client, world, system=line) == f"{ASKED}<assistant>"
    assert line in prompt(client, world, {"role": "user", "content": line})  # a user's words stay


def test_a_system_message_in_between_in_either_form(client: FlaskClient, world: World) -> None:
    """Claude Code sends the same one as blocks first and as a string later."""
    expected = f"{ASKED}<system>Now.<end><assistant>"
    for content in ("Now.", text("Now.")):
        assert prompt(client, world, USER, {"role": "system", "content": content}) == expected


def test_a_system_message_that_passes(client: FlaskClient, world: World) -> None:
    passing = {"role": "system", "content": "Now.", "clear_at": "next_user_message"}
    assert "Now." in prompt(client, world, USER, passing)
    said = {"role": "assistant", "content": "Yes"}
    assert "Now." not in prompt(client, world, USER, passing, said, USER)
    assert "Now." in prompt(client, world, USER, {**passing, "clear_at": "never"}, said, USER)


def test_a_tool_passes_with_the_message_that_added_it(client: FlaskClient, world: World) -> None:
    tools = [{**TOOL, "name": "search"}, {**TOOL, "defer_loading": True}]
    added = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "look"}}
    passing = {"role": "system", "content": [added], "clear_at": "next_user_message"}
    said = {"role": "assistant", "content": "Yes"}
    world.engine.script = say('<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>')
    for messages, calls in (([USER, passing], True), ([USER, passing, said, USER], False)):
        body = {"model": "tiny", "max_tokens": 9, "messages": messages, "tools": tools}
        answer = client.post("/v1/messages", json=body).json or {}
        assert ('"name": "look"' in str(world.engine.requests[-1].prompt)) is calls
        assert (answer["content"][-1]["type"] == "tool_use") is calls


def test_turns_of_one_side_are_one(client: FlaskClient, world: World) -> None:
    assert prompt(client, world, USER, {"role": "user", "content": text("there", "")}) == (
        "<user>Hi\nthere<end><assistant>"
    )
    second = {"role": "assistant", "content": [{**CALL, "id": "b"}]}
    shown = prompt(client, world, USER, CALLED, second, result(), result("found", "b"))
    call = WROTE.removeprefix("<assistant>").removesuffix("<end>")
    assert shown == f"{ASKED}<assistant>{call}{call}<end><tool>seen<end><tool>found<end><assistant>"


def test_calls_and_results(client: FlaskClient, world: World) -> None:
    shown = prompt(client, world, USER, CALLED, result())
    assert shown == f"{ASKED}{WROTE}<tool>seen<end><assistant>"
    assert prompt(client, world, USER, CALLED, result(text("se", "en"))) == shown.replace("seen", "se\nen")
    assert prompt(client, world, USER, CALLED, result(None)) == shown.replace("seen", "")


def test_a_failure_is_told(client: FlaskClient, world: World) -> None:
    assert "<tool>Error: gone<end>" in prompt(client, world, USER, CALLED, result("gone", is_error=True))
    assert "<tool>error 5<end>" in prompt(client, world, USER, CALLED, result("error 5", is_error=True))
    assert "<tool>Error<end>" in prompt(client, world, USER, CALLED, result("", is_error=True))


def test_results_come_before_words(client: FlaskClient, world: World) -> None:
    both = {"role": "user", "content": [*text("And?"), *result()["content"]]}
    assert prompt(client, world, USER, CALLED, both).endswith("<tool>seen<end><user>And?<end><assistant>")


def test_an_answer_that_was_begun(client: FlaskClient, world: World) -> None:
    for content in ("It is", text("It is")):
        assert prompt(client, world, USER, {"role": "assistant", "content": content}) == f"{ASKED}<assistant>It is"
    assert prompt(client, world, USER, {"role": "assistant", "content": ""}) == f"{ASKED}<assistant>"
    thoughts = {"role": "assistant", "content": [thought(client, world)]}
    place, message = refused(client, USER, CALLED, result(), thoughts)
    assert (place, "must hold text" in message) == ("messages.3", True)


# --- thoughts ---------------------------------------------------------------------------------------------------------


def thought(client: FlaskClient, world: World, display: str = "summarized") -> dict[str, Any]:
    """A block of this server's own."""
    body = {"model": "tiny", "max_tokens": 9, "messages": [USER], "thinking": {"type": "adaptive", "display": display}}
    world.engine.script = say("<think>\nHm, so\n</think>\n\nHello")
    answer = client.post("/v1/messages", json=body).json
    assert answer is not None
    block = answer["content"][0]
    assert isinstance(block, dict)
    return block


@pytest.mark.parametrize("display", ["summarized", "omitted"])
def test_thoughts_of_the_answer_under_way_are_shown_again(client: FlaskClient, world: World, display: str) -> None:
    block = thought(client, world, display)
    assert block["thinking"] == ("Hm, so" if display == "summarized" else "")
    called = {"role": "assistant", "content": [block, CALL]}
    shown = f"{ASKED}<assistant><think>\nHm, so\n</think>\n\n{WROTE.removeprefix('<assistant>')}<tool>seen<end>"
    assert prompt(client, world, USER, called, result()) == f"{shown}<assistant>"
    # The user's next question ends that answer.
    later = (USER, called, result(), {"role": "assistant", "content": "It is."}, USER)
    assert "Hm" not in prompt(client, world, *later)
    kept = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    assert "Hm, so" in prompt(client, world, *later, context_management=kept)
    two = {"edits": [{"type": "clear_thinking_20251015", "keep": {"type": "thinking_turns", "value": 2}}]}
    assert "Hm, so" in prompt(client, world, *later, context_management=two)
    assert "Hm" not in prompt(
        client, world, *later, {"role": "assistant", "content": "Yes"}, USER, context_management=two
    )


def test_a_sealed_thought_comes_back_in_either_block(client: FlaskClient, world: World) -> None:
    block = thought(client, world, "omitted")
    redacted = {"type": "redacted_thinking", "data": block["signature"]}
    called = {"role": "assistant", "content": [redacted, CALL]}
    assert "Hm, so" in prompt(client, world, USER, called, result())


@pytest.mark.parametrize("change", [{"thinking": "Hm, no"}, {"signature": "EqQBCgIYAhIM"}, {"signature": ""}])
def test_a_thought_that_is_not_ours_is_refused(client: FlaskClient, world: World, change: dict[str, str]) -> None:
    called = {"role": "assistant", "content": [{**thought(client, world), **change}, CALL]}
    place, message = refused(client, USER, called, result())
    assert place == "messages.1.content.0.signature"
    assert "Invalid `signature` in `thinking` block" in message


def test_a_seal_that_is_not_ours_is_refused(client: FlaskClient) -> None:
    called = {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "EqQBCgIYAhIM"}, CALL]}
    assert refused(client, USER, called, result())[0] == "messages.1.content.0.data"


# --- tools ------------------------------------------------------------------------------------------------------------


def test_deferred_tools_are_told_where_they_are_found(client: FlaskClient, world: World) -> None:
    tools = [{**TOOL, "name": "search"}, {**TOOL, "defer_loading": True}]
    before = prompt(client, world, tools=tools)
    assert leading(before) == ["search"]
    searched = {"role": "assistant", "content": [{**CALL, "name": "search"}]}
    found = result([{"type": "tool_reference", "tool_name": "look"}])
    shown = prompt(client, world, USER, searched, found, tools=tools)
    assert shown.startswith(before.removesuffix("<assistant>"))  # what leads stays as it is, and cached
    definition = {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}
    assert json.dumps({"type": "function", "function": definition}) in shown
    world.engine.script = say('<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>')
    body = {"model": "tiny", "max_tokens": 9, "messages": [USER, searched, found], "tools": tools}
    answer = client.post("/v1/messages", json=body).json
    assert answer is not None
    assert [block["name"] for block in answer["content"]] == ["look"]


def test_a_deferred_tool_that_has_to_be_called_leads(client: FlaskClient, world: World) -> None:
    tools = [{**TOOL, "name": "search"}, {**TOOL, "defer_loading": True}]
    shown = prompt(client, world, tools=tools, tool_choice={"type": "tool", "name": "look"})
    assert leading(shown) == ["search", "look"]


def test_with_a_search_of_the_servers_every_tool_is_told(client: FlaskClient, world: World) -> None:
    search = {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}
    assert leading(prompt(client, world, tools=[search, {**TOOL, "defer_loading": True}])) == ["look"]


def test_tools_that_change_in_mid_conversation(client: FlaskClient, world: World) -> None:
    tools = [{**TOOL, "name": "search"}, {**TOOL, "defer_loading": True}]
    reference = {"type": "tool_reference", "name": "look"}
    added = {"role": "system", "content": [{"type": "tool_addition", "tool": reference}]}
    gone = {"role": "system", "content": [{"type": "tool_removal", "tool": reference}]}
    shown = prompt(client, world, USER, added, tools=tools)
    assert '"name": "look"' in shown
    assert leading(shown) == ["search"]
    assert "look can no longer be called" in prompt(client, world, USER, added, gone, tools=tools)
    place, _ = refused(client, USER, gone, tools=[TOOL], tool_choice={"type": "any"})
    assert place == "tool_choice"


def test_no_tools_and_examples(client: FlaskClient, world: World) -> None:
    assert prompt(client, world, tools=[TOOL], tool_choice={"type": "none"}) == f"{ASKED}<assistant>"
    prompt(client, world, tools=[{"type": "bash_20250124", "name": "bash"}], tool_choice={"type": "none"})
    tools = [{**TOOL, "name": "s"}, {**TOOL, "defer_loading": True, "input_examples": [{"at": 2}]}]
    found = result([{"type": "tool_reference", "tool_name": "look"}])
    assert 'Looks.\\nExamples of its input:\\n{\\"at\\": 2}' in prompt(client, world, USER, CALLED, found, tools=tools)


# --- what is asked of the model ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "True"),
        ({"thinking": {"type": "disabled"}}, "False"),
        ({"thinking": {"type": "adaptive"}}, ""),
        ({"output_config": {"effort": "high"}}, "high"),
        ({"thinking": {"type": "enabled"}, "output_config": {"effort": "xhigh"}}, "Truexhigh"),
    ],
)
def test_how_much_to_think(client: FlaskClient, world: World, more: dict[str, Any], expected: str) -> None:
    assert prompt(client, world, **more) == f"{ASKED}<assistant>{expected}"


def test_sampling_and_what_is_ignored(client: FlaskClient, world: World) -> None:
    ignored = {
        "metadata": {"user_id": "me"},
        "service_tier": "auto",
        "cache_control": {"type": "ephemeral"},
        "betas": ["what-ever-2030-01-01"],
        "mcp_servers": [],
        "inference_geo": "eu",
    }
    prompt(client, world, temperature=0.3, top_p=0.5, top_k=7, seed=3, **ignored)
    sampling = world.engine.requests[-1].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.seed) == (0.3, 0.5, 7, 3)


def test_a_schema_for_the_answer(client: FlaskClient, world: World) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = {"type": "json_schema", "schema": schema}
    for more in ({"output_config": {"format": form}}, {"output_format": form}):
        world.engine.script = say('{"a": 1}')
        prompt(client, world, **more)
        watch = world.engine.requests[-1].watch
        assert watch is not None
        assert watch.answer is not None


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "place", "words"),
    [
        ("Hi", "messages.0", "must be an object with role and content"),
        ({"content": "Hi"}, "messages.0.role", "is required"),
        ({"role": "tool", "content": "Hi"}, "messages.0.role", "must be one of user, assistant, system, not 'tool'"),
        ({"role": "user"}, "messages.0.content", "is required"),
        ({"role": "user", "content": 3}, "messages.0.content", "must be a string or a list of blocks"),
        ({"role": "user", "content": ["Hi"]}, "messages.0.content.0", "must be an object like"),
        ({"role": "user", "content": [{"text": "Hi"}]}, "messages.0.content.0.type", "is required"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages.0.content.0.text", "is required"),
        ({"role": "user", "content": [{"type": "image"}]}, "messages.0.content.0.type", "image is a picture"),
        ({"role": "user", "content": [{"type": "document"}]}, "messages.0.content.0.type", "document is a document"),
        ({"role": "user", "content": [CALL]}, "messages.0.content.0.type", "belongs to an assistant's message"),
        ({"role": "system", "content": [CALL]}, "messages.0.content.0.type", "belongs to an assistant's message"),
        ({"role": "user", "content": [{"type": "mcp_tool_use"}]}, "messages.0.content.0.type", "must be one of text"),
        (
            {"role": "assistant", "content": [{"type": "web_search_tool_result"}]},
            "messages.0.content.0.type",
            "is what a tool of Anthropic's servers did",
        ),
        (
            {"role": "assistant", "content": [{**CALL, "input": "{}"}]},
            "messages.0.content.0.input",
            "must be an object, not a string",
        ),
        ({"role": "assistant", "content": [{**CALL, "id": ""}]}, "messages.0.content.0.id", "1 to 256 characters"),
        (
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "x"}]},
            "messages.0.content.0.signature",
            "is required",
        ),
        (result([{"type": "image"}]), "messages.0.content.0.content.0.type", "image is a picture"),
        (result(3), "messages.0.content.0.content", "must be a string or a list of blocks"),
        (result(is_error="yes"), "messages.0.content.0.is_error", "must be true or false"),
        ({"role": "system", "content": "Hi", "clear_at": []}, "messages.0.clear_at", "must be next_user_message"),
    ],
)
def test_bad_messages(client: FlaskClient, message: Any, place: str, words: str) -> None:
    found, told = refused(client, message)
    assert found == place
    assert told.startswith(place)
    assert words in told


@pytest.mark.parametrize(
    ("messages", "place", "words"),
    [
        ((USER, CALLED), "messages.1.content.0", "is a tool_use without a tool_result in the next message: 'a'"),
        ((USER, CALLED, USER), "messages.1.content.0", "is a tool_use without a tool_result"),
        ((USER, CALLED, USER, {"role": "assistant", "content": "x"}), "messages.1.content.0", "is a tool_use without"),
        ((USER, result()), "messages.1.content.0.tool_use_id", "is no tool_use in the message before: 'a'"),
        ((USER, CALLED, result(), result()), "messages.3.content.0.tool_use_id", "has its tool_result already: 'a'"),
        ((USER, CALLED, result(), CALLED, result()), "messages.3.content.0.id", "comes twice: 'a'"),
        (({"role": "assistant", "content": ""},), "messages", "must hold something to answer"),
    ],
)
def test_calls_and_results_belong_together(client: FlaskClient, messages: Any, place: str, words: str) -> None:
    found, told = refused(client, *messages)
    assert (found, words in told) == (place, True), told


@pytest.mark.parametrize(
    ("more", "place", "words"),
    [
        ({"system": 3}, "system", "must be a string or a list of text blocks"),
        ({"system": [{"type": "image"}]}, "system.0.type", "must be text, not 'image'"),
        ({"tools": {}}, "tools", "must be a list of tools"),
        ({"tools": [3]}, "tools.0", "must be an object with name and input_schema"),
        ({"tools": [{"name": "look"}]}, "tools.0.input_schema", "is required"),
        ({"tools": [{**TOOL, "name": "no spaces"}]}, "tools.0.name", "letters, digits"),
        ({"tools": [{**TOOL, "input_schema": {"type": "array"}}]}, "tools.0.input_schema.type", "must be object"),
        ({"tools": [TOOL, TOOL]}, "tools.1.name", "comes twice: look"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools.0.type", "send it as a custom tool"),
        ({"tools": [{"type": "web_search_20250305"}]}, "tools.0.type", "is a tool of Anthropic's servers"),
        ({"tools": [{**TOOL, "defer_loading": True}]}, "tools", "must hold a tool without `defer_loading`"),
        ({"tools": [{**TOOL, "strict": 1}]}, "tools.0.strict", "must be true or false"),
        ({"tools": [TOOL], "tool_choice": "any"}, "tool_choice", "must be an object with a type"),
        ({"tools": [TOOL], "tool_choice": {"type": []}}, "tool_choice.type", "must be one of auto, any, tool, none"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name", "is required"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name", "is none of"),
        ({"tool_choice": {"type": "any"}}, "tool_choice.type", "needs `tools`"),
        ({"mcp_servers": [{"name": "x"}]}, "mcp_servers", "is not supported"),
        ({"container": "x"}, "container", "is not supported"),
        ({"thinking": {"type": "a lot"}}, "thinking.type", "must be one of enabled, disabled"),
        ({"thinking": {"type": "adaptive", "display": "x"}}, "thinking.display", "must be one of summarized, omitted"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort", "must be one of"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema", "is required"),
        ({"context_management": {"edits": [{"type": "x"}]}}, "context_management.edits.0.type", "must be one of"),
        (
            {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": 0}]}},
            "context_management.edits.0.keep",
            'must be "all"',
        ),
        ({"model": None}, "model", "must not be null"),
        ({"messages": []}, "messages", "must hold from 1 to"),
    ],
)
def test_bad_fields(client: FlaskClient, more: dict[str, Any], place: str, words: str) -> None:
    found, told = refused(client, **more)
    assert found == place, told
    assert words in told


def test_fields_of_answers_only(client: FlaskClient) -> None:
    for more, place in (({"max_tokens": None}, "max_tokens"), ({"stop_sequences": [""]}, "stop_sequences.0")):
        body = {"model": "tiny", "max_tokens": 9, "messages": [USER], **more}
        answer = client.post("/v1/messages", json=body)
        assert answer.status_code == 400
        assert answer.json is not None
        assert answer.json["error"]["details"]["param"] == place
