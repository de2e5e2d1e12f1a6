"""Chat templates: the three layouts, and what a template can't do to the server."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from jinja2 import TemplateError

from janflask.errors import ConflictError, InvalidRequestError, TemplateGivenUpError
from janflask.inference.layout import template_process, template_renderer, templates
from janflask.inference.layout.template_layouts import render_chatml, render_jan, render_plain
from janflask.inference.layout.template_process import Rendered, TemplateRenderer
from janflask.inference.layout.templates import ChatTemplates
from janflask.inference.requests import ChatMessage
from tests.fakes.scripted import INFO

SYSTEM = ChatMessage.of("system", "Be brief.")
USER = ChatMessage.of("user", "Hi")
ANSWER = ChatMessage.of("assistant", "Hello!")
AGAIN = ChatMessage.of("user", "And now?")
JAN = "<|system|>\n{system_message}<|user|>\n{prompt}<|assistant|>"


@pytest.fixture
def chats() -> Iterator[ChatTemplates]:
    chats = ChatTemplates()
    yield chats
    chats.close()


@pytest.fixture
def environment() -> Any:
    """The renderer's environment, in this process."""
    return template_renderer.environment()


def rendered(environment: Any, source: str, **context: Any) -> str:
    return str(environment.from_string(source).render(**context))


# --- which layout -----------------------------------------------------------------------------------------------------


def test_the_template_of_the_gguf(chats: ChatTemplates) -> None:
    prompt = chats.prompt([SYSTEM, USER, ANSWER, AGAIN], INFO, None)
    assert prompt.text == "<s>[system] Be brief.\n[user] Hi\n[assistant] Hello!\n[user] And now?\n[assistant] "
    assert prompt.stop == ()


def test_jans_template_comes_first(chats: ChatTemplates) -> None:
    assert chats.prompt([USER], INFO, JAN).text == "<|system|>\n<|user|>\nHi<|assistant|>"


def test_chatml_for_a_vocabulary_that_has_its_words(chats: ChatTemplates) -> None:
    prompt = chats.prompt([SYSTEM, USER], replace(INFO, chat_template=None, knows_chatml=True), None)
    assert prompt.text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert prompt.stop == ("<|im_end|>",)


def test_plain_text_comes_last(chats: ChatTemplates) -> None:
    prompt = chats.prompt([SYSTEM, USER, ANSWER, AGAIN], replace(INFO, chat_template=None), None)
    assert prompt.text == ("System:\nBe brief.\n\nUser:\nHi\n\nAssistant:\nHello!\n\nUser:\nAnd now?\n\nAssistant:\n")
    assert prompt.stop == ("\n\nUser:", "\nUser:")
    assert render_plain([USER], ask=False) == "User:\nHi\n\n"


@pytest.mark.parametrize(
    ("template", "add_bos", "bos_token", "add_special"),
    [
        ("{{ bos_token }}x", True, "<s>", False),
        ("x{{ bos_token }}", True, "<s>", True),
        ("x", True, "<s>", True),
        ("{{ bos_token }}x", False, "<s>", True),
        ("x", True, "", True),
    ],
)
def test_there_is_never_a_second_bos(
    chats: ChatTemplates, template: str, add_bos: bool, bos_token: str, add_special: bool
) -> None:
    info = replace(INFO, chat_template=template + "{{ messages[0].content }}", add_bos=add_bos, bos_token=bos_token)
    assert chats.prompt([USER], info, None).add_special is add_special


def test_the_variables_of_a_template(chats: ChatTemplates) -> None:
    source = "{{ bos_token }}|{{ eos_token }}|{{ add_generation_prompt }}|{{ enable_thinking }}|{{ tools is defined }}"
    source += "|{{ messages[0].content }}"
    info = replace(INFO, chat_template=source)
    assert chats.prompt([USER], info, None, {"enable_thinking": False}).text == "<s>|</s>|True|False|False|Hi"


def test_the_fields_of_a_message(chats: ChatTemplates) -> None:
    info = replace(INFO, chat_template="{% for m in messages %}{{ m | tojson }}{% endfor %}")
    messages = [
        ChatMessage.of("developer", "d"),
        ChatMessage.of("user", "é<b>\n", name="Ann"),
        ChatMessage.of("tool", "t", tool_call_id="call_1"),
    ]
    assert chats.prompt(messages, info, None).text == (
        '{"role": "system", "content": "d"}'
        '{"role": "user", "content": "é<b>\\n", "name": "Ann"}'
        '{"role": "tool", "content": "t", "tool_call_id": "call_1"}'
    )


@pytest.mark.parametrize("name", sorted(templates.RESERVED))
def test_a_request_can_not_set_the_servers_variables(chats: ChatTemplates, name: str) -> None:
    with pytest.raises(InvalidRequestError, match=name) as caught:
        chats.prompt([USER], INFO, None, {name: "x"})
    assert caught.value.param == f"chat_template_kwargs.{name}"


# --- Jan's template ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "messages", "text"),
    [
        (JAN, [USER], "<|system|>\n<|user|>\nHi<|assistant|>"),
        (JAN, [SYSTEM, USER], "<|system|>\nBe brief.<|user|>\nHi<|assistant|>"),
        (
            JAN,
            [SYSTEM, USER, ANSWER, AGAIN],
            "<|system|>\nBe brief.<|user|>\nHi<|assistant|>Hello!<|user|>\nAnd now?<|assistant|>",
        ),
        (JAN, [USER, AGAIN], "<|system|>\n<|user|>\nHi\n\nAnd now?<|assistant|>"),
        (JAN, [ANSWER, USER], "<|system|>\n<|user|>\n<|assistant|>Hello!<|user|>\nHi<|assistant|>"),
        (JAN, [USER, ANSWER], "<|system|>\n<|user|>\nHi<|assistant|>Hello!<|user|>\n<|assistant|>"),
        (JAN, [SYSTEM, SYSTEM, USER], "<|system|>\nBe brief.\n\nBe brief.<|user|>\nHi<|assistant|>"),
        ("[INST] {prompt} [/INST]", [SYSTEM, USER], "[INST] Be brief.\n\nHi [/INST]"),
        ("{prompt}", [USER, ANSWER, AGAIN], "HiHello!And now?"),
        ("{prompt} {system_message}", [SYSTEM, USER], "Be brief.\n\nHi {system_message}"),
        (JAN, [ChatMessage.of("user", "{prompt} {0}")], "<|system|>\n<|user|>\n{prompt} {0}<|assistant|>"),
    ],
)
def test_jans_layout(template: str, messages: list[ChatMessage], text: str) -> None:
    assert render_jan(template, messages) == text


def test_jans_template_for_chatml_is_chatml() -> None:
    """The turns of a longer conversation come out as the real template has them."""
    template = (
        "<|im_start|>system\n{system_message}<|im_end|>\n<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    )
    messages = [SYSTEM, USER, ANSWER, AGAIN]
    assert render_jan(template, messages) == render_chatml(messages)


def test_jans_template_without_a_prompt() -> None:
    with pytest.raises(ConflictError, match="prompt_template"):
        render_jan("{system_message}", [USER])


# --- the environment ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for i in range(3) %}\n  {% if i == 1 %}{% continue %}{% endif %}\n{{ i }}\n{% endfor %}", "0\n2\n"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{{ '<a>&' }}", "<a>&"),
        ("{{ {'b': '<é>', 'a': [1, none]} | tojson }}", '{"b": "<é>", "a": [1, null]}'),
        ("{{ {'a': 1} | tojson(indent=2) }}", '{\n  "a": 1\n}'),
        ("{% generation %}x{{ 1 }}{% endgeneration %}", "x1"),
        ("{% set ns = namespace(n=0) %}{% for i in range(3) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "3"),
        ("{{ missing }}{{ missing is defined }}", "False"),
        ("{{ 'a,b'.split(',')[1].upper() }}", "B"),
    ],
)
def test_what_templates_use(environment: Any, source: str, text: str) -> None:
    assert rendered(environment, source) == text


def test_the_date(environment: Any) -> None:
    before = datetime.now().strftime("%Y")
    assert rendered(environment, "{{ strftime_now('%Y') }}") in (before, datetime.now().strftime("%Y"))


def test_a_template_can_refuse(environment: Any) -> None:
    with pytest.raises(TemplateError, match="roles must alternate"):
        rendered(environment, "{{ raise_exception('roles must alternate') }}")


# --- the process ----------------------------------------------------------------------------------------------------


def text(renderer: TemplateRenderer, **context: Any) -> str:
    (rendered,) = renderer.render([context])
    assert rendered.error is None
    return rendered.text


def refusal(source: str) -> InvalidRequestError:
    chats = ChatTemplates()
    try:
        with pytest.raises(InvalidRequestError) as caught:
            chats.prompt([USER], replace(INFO, chat_template=source), None)
    finally:
        chats.close()
    assert caught.value.param == "messages"
    assert caught.value.code == "chat_template_error"
    return caught.value


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ raise_exception('only user and assistant') }}", "only user and assistant"),
        ("{% if %}", "line 1"),
        ("{% no_such_tag %}", "no_such_tag"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ 1 // 0 }}", "zero"),
        ("{{ messages.x.y }}", "no attribute"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{{ range(1000000) }}", "range"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "without an end"),
        ("{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", "more than 8000000 characters"),
        ("{{ 'x' * 9000000 }}", "more than 8000000 characters"),
        ("{{ 'x' * 10 ** 10 }}", "1024 MiB of memory" if sys.platform == "linux" else "more than 8000000"),
    ],
)
def test_what_a_template_can_not_do(source: str, reason: str) -> None:
    assert reason in refusal(source).message


ENDLESS = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "one call into C": "{{ (10 ** 7) ** (10 ** 7) }}",
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_template_that_never_ends_is_given_up(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    be_impatient(monkeypatch, tmp_path)
    given_up = refusal(ENDLESS[kind])
    assert "too long" in given_up.message
    assert isinstance(given_up, TemplateGivenUpError)
    assert given_up.code == "chat_template_error"


def be_impatient(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    source = template_process.RENDERER.read_text().replace("MAX_SECONDS = 5.0", "MAX_SECONDS = 0.5")
    assert "MAX_SECONDS = 0.5" in source
    impatient = tmp_path / "renderer.py"
    impatient.write_text(source)
    monkeypatch.setattr(template_process, "RENDERER", impatient)


def test_a_template_that_never_ends_for_the_probes_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """It is killed for them, once, and then renders as it would have without them."""
    be_impatient(monkeypatch, tmp_path)
    source = "{% if messages[0].content != 'Hi' or messages | length > 1 %}" + ENDLESS["loops"] + "{% endif %}Hi"
    renders: list[int] = []
    plain = TemplateRenderer.render

    def counted(self: TemplateRenderer, contexts: Any) -> list[Rendered]:
        renders.append(len(contexts))
        return plain(self, contexts)

    monkeypatch.setattr(TemplateRenderer, "render", counted)
    chats = ChatTemplates()
    info = replace(INFO, chat_template=source)
    try:
        assert chats.prompt([USER], info, None).text == "Hi"
        asked = len(renders)
        assert chats.prompt([USER], info, None).text == "Hi"
    finally:
        chats.close()
    assert renders[0] > 10
    assert max(renders[asked:]) == 1, "it is not asked again"


def test_a_renderer_goes_on_after_its_process_died() -> None:
    renderer = TemplateRenderer("{{ x }}")
    try:
        assert text(renderer, x="one") == "one"
        process = renderer._process
        assert process is not None
        process.kill()
        process.wait()
        assert text(renderer, x="two") == "two"
    finally:
        renderer.close()


def test_a_reason_has_a_limit() -> None:
    assert len(refusal("{{ raise_exception('x' * 1000000) }}").message) < 2000


def test_a_renderer_goes_on_after_a_refusal() -> None:
    renderer = TemplateRenderer("{% if x %}{{ raise_exception('no') }}{% endif %}fine")
    try:
        assert renderer.render([{"x": True}, {"x": False}]) == [Rendered(error="no"), Rendered("fine")]
        assert text(renderer, x=False) == "fine"
    finally:
        renderer.close()


def test_the_length_is_limited_over_all_that_is_rendered_at_once() -> None:
    renderer = TemplateRenderer("{{ 'x' * 5000000 }}")
    try:
        first, second = renderer.render([{}, {}])
    finally:
        renderer.close()
    assert (len(first.text), first.error) == (5_000_000, None)
    assert "more than 8000000 characters" in str(second.error)


def test_long_and_odd_text_goes_both_ways() -> None:
    long = "é🙂\x00\n" * 200_000
    renderer = TemplateRenderer("{{ x }}")
    try:
        assert renderer.render([{"x": long}]) == [Rendered(long)]
    finally:
        renderer.close()


def test_many_threads_share_a_renderer() -> None:
    renderer = TemplateRenderer("{{ x }}")
    answers: dict[int, str] = {}

    def work(number: int) -> None:
        answers[number] = text(renderer, x=str(number) * 1000)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        renderer.close()
    assert answers == {number: str(number) * 1000 for number in range(16)}


def test_closing_leaves_no_process() -> None:
    renderer = TemplateRenderer("x")
    text(renderer)
    process = renderer._process
    assert process is not None
    renderer.close()
    assert process.returncode is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    renderer.close()


def test_a_process_ends_with_its_input() -> None:
    renderer = TemplateRenderer("x")
    try:
        text(renderer)
        process = renderer._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0
    finally:
        renderer.close()


def test_only_a_few_processes_are_kept(chats: ChatTemplates) -> None:
    for number in range(templates.MAX_RENDERERS + 2):
        info = replace(INFO, chat_template="{{ messages[0].content }} " + str(number))
        assert chats.prompt([USER], info, None).text == f"Hi {number}"
    assert len(chats._templates) == templates.MAX_RENDERERS
    assert list(chats._templates) == [f"{{{{ messages[0].content }}}} {number}" for number in (2, 3, 4, 5)]
