"""The chat templates of real models, out of llama.cpp's sources: what they render, and that no word is ever lost.

Those that are not among them (Gemma 3, Mistral Small 3.1, SmolVLM, Llama Guard) are written here in their shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Template, TemplateError

from janflask.errors import InvalidRequestError
from janflask.inference.layout import template_renderer
from janflask.inference.layout.templates import ChatTemplates
from janflask.inference.requests import ChatMessage
from tests.fakes.scripted import INFO

COUNT = 70  # templates in the pinned sources
# What templates need that no request holds by itself.
VARIABLES = {"functions": "none", "datetime": "today", "date_string": "26 Jul 2024"}


def system(text: str) -> ChatMessage:
    return ChatMessage.of("system", text)


def user(text: str) -> ChatMessage:
    return ChatMessage.of("user", text)


def assistant(text: str, reasoning: str | None = None) -> ChatMessage:
    return ChatMessage.of("assistant", text, reasoning=reasoning)


@pytest.fixture(scope="module")
def chats() -> Iterator[ChatTemplates]:
    chats = ChatTemplates()
    yield chats
    chats.close()


def prompt(chats: ChatTemplates, source: str, messages: list[ChatMessage], **how: Any) -> str:
    info = replace(INFO, chat_template=source, bos_token="<BOS>", eos_token="<EOS>")
    return chats.prompt(messages, info, None, VARIABLES, **how).text


# --- a dozen layouts --------------------------------------------------------------------------------------------------

CONVERSATION = [system("Be brief."), user("Hi"), assistant("Hello!"), user("And now?")]
TODAY = "{today}"
LLAMA_3 = (
    "<BOS><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024"
    "\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nAnd now?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
)
CHATML = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n"
    "<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n"
)
GRANITE = (
    "<|start_of_role|>system<|end_of_role|>Be brief.<|end_of_text|>\n"
    "<|start_of_role|>user<|end_of_role|>Hi<|end_of_text|>\n"
    "<|start_of_role|>assistant<|end_of_role|>Hello!<|end_of_text|>\n"
    "<|start_of_role|>user<|end_of_role|>And now?<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>"
)
GEMMA = (
    "<BOS><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n"
    "<start_of_turn>user\nAnd now?<end_of_turn>\n<start_of_turn>model\n"
)
GPT_OSS = (
    "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\n"
    "Current date: {today}\n\nReasoning: medium\n\n# Valid channels: analysis, commentary, final. Channel must be "
    "included for every message.<|end|><|start|>developer<|message|># Instructions\n\nBe brief.\n\n<|end|>"
    "<|start|>user<|message|>Hi<|end|><|start|>assistant<|channel|>final<|message|>Hello!<|end|>"
    "<|start|>user<|message|>And now?<|end|><|start|>assistant"
)
LAYOUTS = {
    "meta-llama-Llama-3.1-8B-Instruct": LLAMA_3,
    "meta-llama-Llama-3.3-70B-Instruct": LLAMA_3,
    "mistralai-Mistral-Nemo-Instruct-2407": "<BOS>[INST]Hi[/INST]Hello!<EOS>[INST]Be brief.\n\nAnd now?[/INST]",
    "Mistral-Small-3.2-24B-Instruct-2506": (
        "<BOS>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Hi[/INST]Hello!<EOS>[INST]And now?[/INST]"
    ),
    "google-gemma-2-2b-it": GEMMA,
    "Qwen-Qwen2.5-7B-Instruct": CHATML,
    "Qwen-Qwen3-0.6B": CHATML,
    "microsoft-Phi-3.5-mini-instruct": (
        "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello!<|end|>\n<|user|>\nAnd now?<|end|>\n"
        "<|assistant|>\n"
    ),
    "deepseek-ai-DeepSeek-V3.1": (
        "<BOS>Be brief.<｜User｜>Hi<｜Assistant｜><think></think>Hello!<｜end▁of▁sentence｜>"  # noqa: RUF001 - its words
        "<｜User｜>And now?<｜Assistant｜><think></think>"  # noqa: RUF001
    ),
    "openai-gpt-oss-120b": GPT_OSS,
    "ibm-granite-granite-3.3-2B-Instruct": GRANITE,
    "ibm-granite-granite-4.0": GRANITE,
    "LFM2-8B-A1B": f"<BOS>{CHATML}",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_real_layout(chats: ChatTemplates, llama_templates: Path, name: str) -> None:
    source = (llama_templates / f"{name}.jinja").read_text()
    before = datetime.now().strftime("%Y-%m-%d")
    text = prompt(chats, source, CONVERSATION)
    after = datetime.now().strftime("%Y-%m-%d")
    assert text in {LAYOUTS[name].replace(TODAY, day) for day in (before, after)}


def test_command_r(chats: ChatTemplates, llama_templates: Path) -> None:
    source = (llama_templates / "CohereForAI-c4ai-command-r7b-12-2024-tool_use.jinja").read_text()
    text = prompt(chats, source, CONVERSATION)
    start = "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|>"
    assert text.startswith("<BOS><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|># System Preamble\n")
    assert text.endswith(
        f"conflict with system preamble instructions.\nBe brief.{start}<|USER_TOKEN|>Hi{start}<|CHATBOT_TOKEN|>"
        f"<|START_RESPONSE|>Hello!<|END_RESPONSE|>{start}<|USER_TOKEN|>And now?{start}<|CHATBOT_TOKEN|>"
        "<|START_THINKING|><|END_THINKING|>"
    )


# What follows a run that failed, and what those templates take that want turns to alternate.
@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "google-gemma-2-2b-it",
            "<BOS><start_of_turn>user\nBe brief.\n\nHi\n\nAnd now?<end_of_turn>\n<start_of_turn>model\n",
        ),
        ("mistralai-Mistral-Nemo-Instruct-2407", "<BOS>[INST]Be brief.\n\nHi\n\nAnd now?[/INST]"),
        (
            "Mistral-Small-3.2-24B-Instruct-2506",
            "<BOS>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Hi\n\nAnd now?[/INST]",
        ),
        (
            "Qwen-Qwen2.5-7B-Instruct",  # knows such turns, which stay two
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n",
        ),
    ],
)
def test_two_turns_of_the_user_in_a_row(chats: ChatTemplates, llama_templates: Path, name: str, text: str) -> None:
    messages = [system("Be brief."), user("Hi"), user("And now?")]
    assert prompt(chats, (llama_templates / f"{name}.jinja").read_text(), messages) == text


@pytest.mark.parametrize(
    ("name", "messages", "text"),
    [
        (
            "google-gemma-2-2b-it",  # a greeting comes first
            [system("Be brief."), assistant("Hello!"), user("Hi")],
            "<BOS><start_of_turn>user\nBe brief.<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n"
            "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
        ),
        (
            "google-gemma-2-2b-it",
            [assistant("Hello!"), user("Hi")],
            "<BOS><start_of_turn>user\n<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n"
            "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
        ),
        (
            "Mistral-Small-3.2-24B-Instruct-2506",  # knows a system message, and wants the user to begin
            [system("Be brief."), assistant("Hello!"), user("Hi")],
            "<BOS>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST][/INST]Hello!<EOS>[INST]Hi[/INST]",
        ),
        (
            "mistralai-Mistral-Nemo-Instruct-2407",  # shows its system message before a user's last words only
            [system("Be brief."), user("Hi"), assistant("Hello!")],
            "<BOS>[INST]Be brief.\n\nHi[/INST]Hello!<EOS>",
        ),
        (
            "MiniMax-M1",  # forgets a system message in the middle
            [system("Be brief."), user("Hi"), assistant("Hello!"), system("Be kind."), user("And now?")],
            "<begin_of_document><beginning_of_sentence>system ai_setting=assistant\nBe brief.<end_of_sentence>\n"
            "<beginning_of_sentence>user name=user\nHi<end_of_sentence>\n"
            "<beginning_of_sentence>ai name=assistant\nHello!<end_of_sentence>\n"
            "<beginning_of_sentence>user name=user\nBe kind.\n\nAnd now?<end_of_sentence>\n"
            "<beginning_of_sentence>ai name=assistant\n",
        ),
        (
            "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",  # keeps the last system message only
            [system("Be brief."), system("Be kind."), user("Hi")],
            "<BOS>Be brief.\n\nBe kind.<｜User｜>Hi<｜Assistant｜><think>\n",  # noqa: RUF001
        ),
        (
            "Qwen3.5-4B",  # wants a question of the user
            [system("Be brief.")],
            "<|im_start|>user\nBe brief.<|im_end|>\n<|im_start|>assistant\n<think>\n",
        ),
    ],
)
def test_as_far_as_the_template_needs_it(
    chats: ChatTemplates, llama_templates: Path, name: str, messages: list[ChatMessage], text: str
) -> None:
    assert prompt(chats, (llama_templates / f"{name}.jinja").read_text(), messages) == text


# --- layouts that read parts ------------------------------------------------------------------------------------------

SMOLVLM = (  # a blank stands where there is no picture first
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
LLAMA_GUARD = (  # the newest turns of a conversation between user and agent, as parts
    "{% for message in messages %}{% if message['role'] == 'user' %}User: {% elif message['role'] == 'assistant' %}"
    "Agent: {% else %}{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "{% for content in message['content'] %}{% if content['type'] == 'text' %}{{ content['text'] | trim }}{% endif %}"
    "{% endfor %}{{ '\n\n' }}{% endfor %}<END CONVERSATION>"
)
MISTRAL_SMALL_31 = (  # parts for the system message, a text or parts for the others
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{% set system_message = messages[0]['content'][0]['text'] %}"
    "{% set loop_messages = messages[1:] %}{% else %}{% set system_message = 'Default.' %}"
    "{% set loop_messages = messages %}{% endif %}[SYSTEM_PROMPT]{{ system_message }}[/SYSTEM_PROMPT]"
    "{% for message in loop_messages %}{% if message['role'] == 'user' %}[INST]{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for block in message['content'] %}{{ block['text'] }}{% endfor %}{% endif %}"
    "[/INST]{% elif message['role'] == 'system' %}[SYSTEM_PROMPT]{{ message['content'][0]['text'] }}[/SYSTEM_PROMPT]"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
GEMMA_3 = (  # the system text goes in front of the first user's words; a text or parts
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% if messages[0]['content'] is string %}"
    "{% set first = messages[0]['content'] + '\n\n' %}{% else %}{% set first = messages[0]['content'][0]['text'] + "
    "'\n\n' %}{% endif %}{% set loop_messages = messages[1:] %}{% else %}{% set first = '' %}"
    "{% set loop_messages = messages %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "<start_of_turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ first if loop.first else '' }}{% if message['content'] is string %}{{ message['content'] | trim }}"
    "{% elif message['content'] is iterable %}{% for item in message['content'] %}{% if item['type'] == 'text' %}"
    "{{ item['text'] | trim }}{% endif %}{% endfor %}{% endif %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


@pytest.mark.parametrize(
    ("source", "messages", "text"),
    [
        (SMOLVLM, [user("Hi")], "<|im_start|>User: Hi<end_of_utterance>\nAssistant:"),
        (
            SMOLVLM,
            CONVERSATION,
            "<|im_start|>System: Be brief.<end_of_utterance>\nUser: Hi<end_of_utterance>\n"
            "Assistant: Hello!<end_of_utterance>\nUser: And now?<end_of_utterance>\nAssistant:",
        ),
        (LLAMA_GUARD, CONVERSATION[1:], "User: Hi\n\nAgent: Hello!\n\nUser: And now?\n\n<END CONVERSATION>"),
        (LLAMA_GUARD, CONVERSATION[:2], "User: Be brief.\n\nHi\n\n<END CONVERSATION>"),
        (
            MISTRAL_SMALL_31,
            CONVERSATION,
            "<BOS>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Hi[/INST]Hello!<EOS>[INST]And now?[/INST]",
        ),
        (GEMMA_3, CONVERSATION, GEMMA),
        (
            GEMMA_3,
            [user("Hi"), user("And now?")],
            "<BOS><start_of_turn>user\nHi\n\nAnd now?<end_of_turn>\n<start_of_turn>model\n",
        ),
    ],
)
def test_a_template_gets_the_form_that_it_reads(
    chats: ChatTemplates, source: str, messages: list[ChatMessage], text: str
) -> None:
    assert prompt(chats, source, messages) == text


def test_a_template_that_takes_either_form_gets_text(chats: ChatTemplates) -> None:
    source = "{% for m in messages %}{{ 'text ' if m.content is string else 'parts ' }}{{ m.content }}{% endfor %}"
    assert prompt(chats, source, [user("Hi")]) == "text Hi"


def test_a_list_that_is_only_printed_is_not_read(chats: ChatTemplates) -> None:
    source = "{% if messages[0].content is string %}{% else %}{{ messages[0].content }}{% endif %}"
    with pytest.raises(InvalidRequestError, match=r"messages\.0: .* leaves out what this user message says"):
        prompt(chats, source, [user("Hi")])


# --- all of them ------------------------------------------------------------------------------------------------------

# Words that occur in no template, a common one beside them: "Hi" is everywhere, and may vanish all the same.
ORDINARY = {
    "user": [user("Hi wordzero")],
    "system": [system("Brief wordzero"), user("Hi wordone")],
    "conversation": [user("Hi wordzero"), assistant("Yes wordone"), user("So wordtwo")],
    "with system": [system("Brief wordzero"), user("Hi wordone"), assistant("Yes wordtwo"), user("So wordthree")],
}
ODD = {
    "two of the user's": [user("Hi wordzero"), user("So wordone")],
    "two of the assistant's": [user("Hi wordzero"), assistant("Yes wordone"), assistant("No wordtwo"), user("a")],
    "two systems": [system("Brief wordzero"), system("Kind wordone"), user("Hi wordtwo")],
    "system later": [user("Hi wordzero"), assistant("Yes wordone"), system("Kind wordtwo"), user("So wordthree")],
    "system twice": [system("a wordzero"), user("b wordone"), assistant("c wordtwo"), system("d wordthree"), user("e")],
    "system last": [system("Brief wordzero"), user("Hi wordone"), system("Kind wordtwo")],
    "system alone": [system("Brief wordzero")],
    "assistant first": [assistant("Welcome wordzero"), user("Hi wordone")],
    "assistant first, system": [system("Brief wordzero"), assistant("Welcome wordone"), user("Hi wordtwo")],
    "assistant last": [system("Brief wordzero"), user("Hi wordone"), assistant("Yes wordtwo")],
    "assistant alone": [assistant("Welcome wordzero")],
    "nothing said between": [user("Hi wordzero"), assistant(""), user("So wordone")],
    "developer": [ChatMessage.of("developer", "Brief wordzero"), user("Hi wordone")],
    "after a failed run": [system("Brief wordzero"), user("Hi wordone"), user("So wordtwo"), assistant("a"), user("b")],
}


def all_said(messages: list[ChatMessage], text: str) -> bool:
    return all(word in text for message in messages for word in message.text.split() if word.startswith("word"))


TOOL = [user("Hi"), assistant("Yes"), ChatMessage.of("tool", "wordzero", tool_call_id="abcdefghi")]


@dataclass(frozen=True)
class Outcome:
    """Of one template and one conversation: what it gives by itself (None: it refuses), and what we make of it."""

    by_itself: str | None
    ours: str | InvalidRequestError


@pytest.fixture(scope="module")
def outcomes(llama_templates: Path) -> dict[str, dict[str, Outcome]]:
    return {path.stem: dict(of_template(path.read_text())) for path in sorted(llama_templates.glob("*.jinja"))}


def of_template(source: str) -> Iterator[tuple[str, Outcome]]:
    chats, template = ChatTemplates(), template_renderer.environment().from_string(source)
    try:
        for kind, messages in {**ORDINARY, **ODD, "tool": TOOL}.items():
            try:
                ours: str | InvalidRequestError = prompt(chats, source, messages)
            except InvalidRequestError as error:
                ours = error
            yield kind, Outcome(directly(template, messages), ours)
    finally:
        chats.close()


def directly(template: Template, messages: list[ChatMessage]) -> str | None:
    """What the template gives for the conversation as it is; None if it refuses."""
    entries = [{"role": message.role, "content": message.text} for message in messages]
    context = {**VARIABLES, "messages": entries, "add_generation_prompt": True}
    try:
        return template.render(context, bos_token="<BOS>", eos_token="<EOS>")
    except (TemplateError, TypeError, ValueError):
        return None


def test_what_a_template_renders_by_itself_stays_as_it_is(outcomes: dict[str, dict[str, Outcome]]) -> None:
    assert len(outcomes) == COUNT
    compared = 0
    for name, kinds in outcomes.items():
        for kind, messages in (ORDINARY | ODD).items():
            outcome = kinds[kind]
            if outcome.by_itself is not None and all_said(messages, outcome.by_itself) and kind != "developer":
                assert outcome.ours == outcome.by_itself, (name, kind)
                compared += 1
    assert compared > COUNT * 12


def test_ordinary_conversations_are_never_changed(outcomes: dict[str, dict[str, Outcome]]) -> None:
    changed = {
        (name, kind)
        for name, kinds in outcomes.items()
        for kind in ORDINARY
        if kinds[kind].ours != kinds[kind].by_itself
    }
    assert changed == {("google-gemma-2-2b-it", "system"), ("google-gemma-2-2b-it", "with system")}


def test_no_word_of_any_conversation_is_lost(outcomes: dict[str, dict[str, Outcome]]) -> None:
    needed = 0
    for name, kinds in outcomes.items():
        for kind, messages in (ORDINARY | ODD).items():
            outcome = kinds[kind]
            assert isinstance(outcome.ours, str), (name, kind, outcome.ours)
            assert all_said(messages, outcome.ours), (name, kind)
            needed += outcome.by_itself is None or not all_said(messages, outcome.by_itself)
    assert needed > COUNT, "templates that take everything prove nothing"


def test_a_tools_result_is_shown_or_refused(outcomes: dict[str, dict[str, Outcome]]) -> None:
    """Tool calls are not served yet: a result hangs in the air, and several templates pass over it."""
    named = 0
    for name, kinds in outcomes.items():
        ours = kinds["tool"].ours
        if isinstance(ours, InvalidRequestError):
            assert ours.code == "chat_template_error"
            named += ours.param == "messages.2"
        else:
            assert all_said(TOOL, ours), name
    assert named >= 3
