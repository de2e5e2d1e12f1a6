"""Templates that take less than a conversation holds, and models without one: through gunicorn, engines and the SDK."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.e2e.server import JANFLASK, Server, environment, run, serving
from tests.models.tiny import install, write_chat

pytestmark = [
    pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
]

SMOLVLM = (
    "{% for m in messages %}{{ m.role }}: {% for part in m.content %}{{ part.text }}{% endfor %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
FORGETFUL = "{% for m in messages[-2:] %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory, llama_templates: Path) -> Path:
    files, folder = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("templates") / "data"
    own: Any = {"turn_words": ("<start_of_turn>", "<end_of_turn>")}
    models = {
        "gemma": {"template": (llama_templates / "google-gemma-2-2b-it.jinja").read_text(), **own},
        "smolvlm": {"template": SMOLVLM},
        "forgetful": {"template": FORGETFUL},
        "base": {"template": None, **own},
        "base-chatml": {"template": None},
    }
    for name, about in models.items():
        install(folder, name, write_chat(files / f"{name}.gguf", **about), settings={"ctx_len": 512})
    return folder


@pytest.fixture(scope="module")
def server(data_dir: Path) -> Iterator[Server]:
    with serving(data_dir, JANFLASK_CTX_LEN="auto", JANFLASK_N_PARALLEL="2") as server:
        yield server


@pytest.fixture
def sdk(server: Server) -> Iterator[openai.OpenAI]:
    with server.sdk() as client:
        yield client


def laid_out(server: Server, model: str, messages: list[dict[str, Any]], **more: Any) -> str:
    answer = server.post("/v1/apply-template", json={"model": model, "messages": messages, **more})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["prompt"])


def test_an_assistant_with_instructions_on_gemma_2(server: Server, sdk: openai.OpenAI) -> None:
    """A run that failed leaves two messages of the user in a row: the thread goes on all the same."""
    assistant = sdk.beta.assistants.create(model="gemma", instructions="Be brief.")
    thread = sdk.beta.threads.create(messages=[{"role": "user", "content": "Hi"}])
    failed = sdk.beta.threads.runs.create_and_poll(
        thread_id=thread.id,
        assistant_id=assistant.id,
        max_prompt_tokens=256,
        max_completion_tokens=4,
        extra_body={"logit_bias": {"999999": 1}},  # no token of this model
    )
    assert failed.status == "failed", failed
    sdk.beta.threads.messages.create(thread.id, role="user", content="And now?")
    done = sdk.beta.threads.runs.create_and_poll(
        thread_id=thread.id, assistant_id=assistant.id, max_completion_tokens=4, temperature=0
    )
    assert done.status in ("completed", "incomplete"), done.last_error
    assert done.usage is not None
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "user", "content": "And now?"},
    ]
    text = laid_out(server, "gemma", messages)
    joined = "user\nBe brief.\n\nHi\n\nAnd now?"
    assert text == f"<|endoftext|><start_of_turn>{joined}<end_of_turn>\n<start_of_turn>model\n"
    tokens = server.post("/v1/tokenize", json={"model": "gemma", "content": text}).json()["count"]
    assert done.usage.prompt_tokens == tokens


def test_a_template_of_parts(server: Server, sdk: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "you"}]}]
    assert laid_out(server, "smolvlm", messages) == "user: Hi\nyou\nassistant:"
    answer = sdk.chat.completions.create(model="smolvlm", messages=messages, max_tokens=4)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len("user: Hi\nyou\nassistant:") - 2  # " a" and "ou" are tokens of their own


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_template_leaves_out_is_refused_by_name(sdk: openai.OpenAI, stream: bool) -> None:
    messages: Any = [
        {"role": "user", "content": "First"},
        {"role": "assistant", "content": "Yes"},
        {"role": "user", "content": "Second"},
    ]
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model="forgetful", messages=messages, max_tokens=4, stream=stream)
    assert (caught.value.param, caught.value.code) == ("messages.0", "chat_template_error")
    assert "leaves out what this user message says" in caught.value.message


def test_going_on_with_the_last_message(server: Server, sdk: openai.OpenAI) -> None:
    """The same answer as to the same prompt, and only what is new."""
    messages: Any = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "the cat "}]
    go_on = {"add_generation_prompt": False, "continue_final_message": True}
    prompt = laid_out(server, "smolvlm", messages, **go_on)
    assert prompt == "user: Hi\nassistant: the cat "
    chat = sdk.chat.completions.create(
        model="smolvlm", messages=messages, max_tokens=8, temperature=0, extra_body=go_on
    )
    text = sdk.completions.create(model="smolvlm", prompt=prompt, max_tokens=8, temperature=0)
    assert chat.choices[0].message.content == text.choices[0].text
    assert chat.usage is not None
    assert text.usage is not None
    assert chat.usage.prompt_tokens == text.usage.prompt_tokens


def test_models_without_a_template(server: Server, data_dir: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    plain = "System:\nBe brief.\n\nUser:\nHi\n\nAssistant:\n"
    chatml = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    for name, text, words in (("base", plain, "plain text"), ("base-chatml", chatml, "ChatML")):
        assert laid_out(server, name, messages) == text
        (note,) = server.model(name)["notes"]
        assert (
            f"its file has no chat template: without a settings.prompt_template its chats are laid out as {words}"
            in note
        )
        assert note in (data_dir / "logs" / f"engine-{name}.log").read_text()
        shown = run([*JANFLASK, "models", "show", name, "--url", server.url], environment(data_dir, server.port))
        assert " ".join(shown.stdout.split()).count("its file has no chat template") == 1, shown
    assert server.model("gemma")["notes"] == []
