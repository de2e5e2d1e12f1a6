"""That every word reaches the prompt: reasoning, answers that are gone on with, and what is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from janflask.errors import InvalidRequestError
from janflask.inference.layout.template_check import MAX_MOVED, left_out, marked, unmarked
from janflask.inference.layout.template_messages import entries, shapes
from janflask.inference.layout.template_probe import BLOCK, CallForms, Forms, probe
from janflask.inference.layout.template_process import TemplateRenderer
from janflask.inference.layout.templates import ChatTemplates
from janflask.inference.parts import ToolCallPart
from janflask.inference.requests import ChatMessage
from tests.fakes.scripted import INFO

TOKENS = {"bos_token": "<BOS>", "eos_token": "<EOS>", "add_generation_prompt": True}
STRICT = (  # alternating, no system role
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}{% endif %}"
    "[{{ m.role }}] {{ m.content | trim }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


def system(text: str) -> ChatMessage:
    return ChatMessage.of("system", text)


def user(text: str, name: str | None = None) -> ChatMessage:
    return ChatMessage.of("user", text, name=name)


def assistant(text: str, reasoning: str | None = None) -> ChatMessage:
    return ChatMessage.of("assistant", text, reasoning=reasoning)


def tool(text: str) -> ChatMessage:
    return ChatMessage.of("tool", text, tool_call_id="abcdefghi")


@pytest.fixture
def chats() -> Iterator[ChatTemplates]:
    chats = ChatTemplates()
    yield chats
    chats.close()


def prompt(chats: ChatTemplates, source: str, messages: list[ChatMessage], **how: Any) -> str:
    info = replace(INFO, chat_template=source, bos_token="<BOS>", eos_token="<EOS>")
    return chats.prompt(messages, info, None, **how).text


# --- what was thought before an answer --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("Qwen-Qwen3-0.6B", "reasoning_content"),
        ("ByteDance-Seed-OSS", "reasoning_content"),
        ("deepseek-ai-DeepSeek-V3.2", "reasoning_content"),
        ("openai-gpt-oss-120b", "thinking"),
        ("LFM2.5-8B-A1B", "thinking"),
        ("upstage-Solar-Open-100B", "reasoning"),
        ("mistralai-Ministral-3-14B-Reasoning-2512", BLOCK),
        ("google-gemma-2-2b-it", "reasoning_content"),  # reads none
    ],
)
def test_where_a_template_reads_the_reasoning(llama_templates: Path, name: str, where: str) -> None:
    renderer = TemplateRenderer((llama_templates / f"{name}.jinja").read_text())
    try:
        found = probe(renderer, TOKENS)
        assert found == Forms(frozenset(), where, answers=True, calls=found.calls)
    finally:
        renderer.close()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (  # of an earlier answer as of the last
            "ByteDance-Seed-OSS",
            "<seed:bos>assistant\n<seed:think>Be nice.</seed:think>\nHello!<seed:eos>"
            "<seed:bos>user\nAnd now?<seed:eos><seed:bos>assistant\n",
        ),
        (
            "mistralai-Ministral-3-14B-Reasoning-2512",
            "[INST]Hi[/INST][THINK]Be nice.[/THINK]Hello!<EOS>[INST]And now?[/INST]",
        ),
        (  # its own rule: not of an answer that was followed by a question
            "Qwen-Qwen3-0.6B",
            "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n",
        ),
    ],
)
def test_earlier_reasoning(chats: ChatTemplates, llama_templates: Path, name: str, text: str) -> None:
    messages = [user("Hi"), assistant("Hello!", "Be nice."), user("And now?")]
    assert prompt(chats, (llama_templates / f"{name}.jinja").read_text(), messages).endswith(text)


def test_the_newest_reasoning(chats: ChatTemplates, llama_templates: Path) -> None:
    source = (llama_templates / "Qwen-Qwen3-0.6B.jinja").read_text()
    assert prompt(chats, source, [user("Hi"), assistant("Hel", "Be nice.")], go_on=True) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\nBe nice.\n</think>\n\nHel"
    )


# --- an answer that is gone on with -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Qwen-Qwen2.5-7B-Instruct", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello "),
        ("google-gemma-2-2b-it", "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello "),
        ("mistralai-Mistral-Nemo-Instruct-2407", "[INST]Hi[/INST]Hello "),
        ("microsoft-Phi-3.5-mini-instruct", "<|user|>\nHi<|end|>\n<|assistant|>\nHello "),
        ("openai-gpt-oss-120b", "<|start|>assistant<|channel|>final<|message|>Hello "),
    ],
)
def test_going_on_in_the_middle_of_a_message(chats: ChatTemplates, llama_templates: Path, name: str, text: str) -> None:
    """Its blank at the end stays, whether the template trims or not."""
    source = (llama_templates / f"{name}.jinja").read_text()
    assert prompt(chats, source, [user("Hi"), assistant("Hello ")], go_on=True).endswith(text)


@pytest.mark.parametrize(
    ("info", "jan", "text"),
    [
        ({"knows_chatml": True}, None, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHel"),
        ({}, None, "User:\nHi\n\nAssistant:\nHel"),
        ({}, "U:{prompt} A:", "U:Hi A:Hel"),
    ],
)
def test_going_on_in_the_other_layouts(chats: ChatTemplates, info: dict[str, Any], jan: str | None, text: str) -> None:
    without = replace(INFO, chat_template=None, **info)
    assert chats.prompt([user("Hi"), assistant("Hel")], without, jan, go_on=True).text == text


def test_going_on_with_what_the_template_leaves_out(chats: ChatTemplates) -> None:
    source = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    with pytest.raises(InvalidRequestError, match="leaves out the message that is to be continued"):
        prompt(chats, source, [user("Hi"), assistant("Hel")], go_on=True)


# --- what is refused by name ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "messages", "number"),
    [
        ("{{ messages[-1].content }}", [user("Hi"), assistant("Yes"), user("Hi")], 0),  # "Hi" alone proves nothing
        ("{{ messages[0].content }}", [user("Hi"), assistant("Yes"), user("So")], 2),
        (
            "{% for m in messages %}{% if m.role == 'user' or loop.index0 < 2 %}{{ m.content }}{% endif %}{% endfor %}",
            [user("Hi"), assistant("Yes"), user("So"), assistant("No"), user("Oh")],
            3,
        ),
        ("{% for m in messages %}{{ m.content[:5] }}{% endfor %}", [user("Hi"), assistant("Y"), user("a long one")], 2),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", [user("HI"), assistant("Y"), user("low")], 2),
        ("nothing", [system("Be brief.")], 0),
    ],
)
def test_a_message_that_is_left_out_is_named(
    chats: ChatTemplates, source: str, messages: list[ChatMessage], number: int
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        prompt(chats, source, messages)
    assert caught.value.message.startswith(f"messages.{number}: the model's chat template leaves out")
    assert (caught.value.param, caught.value.code) == (f"messages.{number}", "chat_template_error")


def test_a_template_that_shows_no_answers(chats: ChatTemplates) -> None:
    source = "{% for m in messages if m.role != 'assistant' %}{{ m.content }}|{% endfor %}"
    assert prompt(chats, source, [user("Hi"), assistant("Yes"), user("So")]) == "Hi|So|"


def test_the_first_refusal_is_told(chats: ChatTemplates) -> None:
    """Not that of a conversation which the client never sent."""
    with pytest.raises(InvalidRequestError, match="only tools, not 2"):
        prompt(chats, "{{ raise_exception('only tools, not ' ~ messages | length) }}", [user("a"), user("b")])


def test_marks_that_a_template_refuses_prove_nothing(chats: ChatTemplates) -> None:
    source = "{% for m in messages %}{{ m.content if m.content == 'Hi' else raise_exception('greet!') }}{% endfor %}"
    assert prompt(chats, source, [user("Hi")]) == "Hi"


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("<u> two\n  lines </u>", " two\nlines\n"),
        ('{"content": "say \\"two\\"\\nlines\\tÉ"}', 'say "two"\nlines\tÉ'),
        ('{"content": "\\u00c9t\\u00e9"}', "Été"),
        ("<u>say it</u>", "say it /no_think"),
        ("<u>say it</u> /no_think", "say /no_think it"),
        ("<u></u>", "  \n"),
    ],
)
def test_words_that_are_there(text: str, content: str) -> None:
    assert left_out(text, [user(content)]) is None


@pytest.mark.parametrize(
    ("text", "messages", "number"),
    [
        ("one two", [user("one three")], 0),
        ("two one", [user("one two")], 0),
        ("one two", [user("one"), assistant("gone"), user("two")], None),
        ("two one", [tool("one"), tool("two")], None),  # results in the order of their calls
        ("one", [user("one"), user("one")], None),  # for marks to find
        ("be brief one two", [user("one"), system("be brief"), user("two")], None),
        ("one", [user("one"), tool("2")], 1),
    ],
)
def test_where_words_are_missing(text: str, messages: list[ChatMessage], number: int | None) -> None:
    assert left_out(text, messages) == number


def test_only_so_many_messages_are_looked_for_out_of_their_order() -> None:
    messages = [tool(f"w{number:04}") for number in range(MAX_MOVED + 2)]
    text = " ".join(message.text for message in reversed(messages))
    assert left_out(text, messages[: MAX_MOVED + 1]) is None
    assert left_out(text, messages) == MAX_MOVED + 1


def test_marks() -> None:
    messages = [system("Hi"), user("Hi"), assistant(""), tool("Hi"), user("Hi")]
    shown = marked(messages)
    assert [message.text == "Hi" for message in shown] == [False, False, False, True, False]
    assert shown[2].text == ""
    text = " ".join(message.text for message in shown)
    assert unmarked(text, messages) is None
    assert unmarked(text.replace(shown[1].text, ""), messages) == 1


# --- plainer conversations --------------------------------------------------------------------------------------------


def plain(messages: list[ChatMessage], *, ask: bool = True) -> list[list[tuple[str, str]]]:
    """The shapes that differ from the one before."""
    found: list[list[tuple[str, str]]] = []
    for shape in shapes(messages, ask=ask):
        pairs = [(message.role, message.text) for message in shape]
        if pairs not in found[-1:]:
            found.append(pairs)
    return found


@pytest.mark.parametrize(
    ("messages", "steps"),
    [
        ([user("a"), assistant("b"), user("c")], []),
        ([system("s"), user("a")], [[("user", "s\n\na")]]),
        ([user("a"), user("b")], [[("user", "a\n\nb")]]),
        (
            [user("a"), assistant("b"), system("s"), user("c")],
            [[("user", "a"), ("assistant", "b"), ("user", "s\n\nc")]],
        ),
        (
            [system("s"), user("a"), system("t")],
            [[("system", "s"), ("user", "a\n\nt")], [("user", "s\n\na\n\nt")]],
        ),
        (
            [assistant("a"), user("b")],
            [[("user", ""), ("assistant", "a"), ("user", "b")]],
        ),
        (
            [assistant("a"), user("b"), assistant("c"), system("s"), user("d")],
            [
                [("assistant", "a"), ("user", "b"), ("assistant", "c"), ("user", "s\n\nd")],
                [("user", ""), ("assistant", "a"), ("user", "b"), ("assistant", "c"), ("user", "s\n\nd")],
            ],
        ),
        ([user("a"), assistant(""), user("b")], [[("user", "a\n\nb")]]),
        ([user("a"), tool("1"), tool("2"), user("b")], []),
        ([user("")], []),
    ],
)
def test_plainer_conversations(messages: list[ChatMessage], steps: list[list[tuple[str, str]]]) -> None:
    assert plain(messages)[1:] == steps


def test_an_answer_asked_after_an_answer() -> None:
    messages = [user("a"), assistant("b")]
    assert plain(messages) == [[("user", "a"), ("assistant", "b")], [("user", "a"), ("assistant", "b"), ("user", "")]]
    assert len(plain(messages, ask=False)) == 1


def test_names_and_reasoning_of_joined_turns() -> None:
    joined = list(shapes([user("a", "Ann"), user("b", "Ann"), assistant("c", "x"), assistant("d", "y")], ask=False))[1]
    assert joined == (user("a\n\nb", "Ann"), assistant("c\n\nd", "x\n\ny"))
    assert list(shapes([user("a", "Ann"), user("b", "Bob")], ask=True))[1] == (user("a\n\nb"),)


def test_a_conversation_of_everything_at_once(chats: ChatTemplates) -> None:
    messages = [
        *(system("one"), assistant("two"), user("three"), user("four"), assistant(""), user("five")),
        *(assistant("six"), assistant("seven"), system("eight"), user("nine"), system("ten")),
    ]
    assert prompt(chats, STRICT, messages) == (
        "[user] one\n[assistant] two\n[user] three\n\nfour\n\nfive\n[assistant] six\n\nseven\n"
        "[user] eight\n\nnine\n\nten\n[assistant]"
    )


@pytest.mark.parametrize("written", ['{"city": "Par', "[" * 100_000])
def test_arguments_that_are_no_object_are_shown_as_they_are(written: str) -> None:
    message = ChatMessage(role="assistant", parts=(ToolCallPart("call00001", "look", written),))
    shown = entries((message,), Forms(calls=CallForms(tools=True, calls=True)))
    assert shown[0]["tool_calls"][0]["function"]["arguments"] == {"arguments": written}
