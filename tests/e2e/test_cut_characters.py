"""An answer that ``max_tokens`` cuts within a character: no U+FFFD of the server's own, however it is asked for.

The model is made to say the first token of a character over and over: each is broken by the next, the last is cut.
"""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.e2e.server import MODEL, Server

pytestmark = [
    pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
]

PARTY = "🎉"
MESSAGES: Any = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def half(server: Server) -> tuple[int, list[int]]:
    """The token that begins the character, and its bytes."""
    first, *rest = server.post("/v1/tokenize", json={"model": MODEL, "content": PARTY, "with_pieces": True}).json()[
        "tokens"
    ]
    assert rest
    return first["id"], first["piece"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_chat(sdk: openai.OpenAI, half: tuple[int, list[int]], count: int) -> None:
    token, raw = half
    asked: Any = {
        "model": MODEL,
        "messages": MESSAGES,
        "max_tokens": count,
        "temperature": 0,
        "logit_bias": {str(token): 100},
        "logprobs": True,
    }
    choice = sdk.chat.completions.create(**asked).choices[0]
    assert choice.message.content == "\ufffd" * (count - 1)
    assert choice.finish_reason == "length"
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert [entry.bytes for entry in choice.logprobs.content] == [raw] * count
    with sdk.chat.completions.create(**asked, stream=True) as stream:
        deltas = [chunk.choices[0] for chunk in stream]
    assert "".join(delta.delta.content or "" for delta in deltas) == "\ufffd" * (count - 1)
    streamed = [entry.bytes for delta in deltas if delta.logprobs for entry in delta.logprobs.content or []]
    assert streamed == [raw] * count


def test_a_completion(sdk: openai.OpenAI, half: tuple[int, list[int]]) -> None:
    asked: Any = {"model": MODEL, "prompt": "Hi", "max_tokens": 2, "temperature": 0, "logit_bias": {str(half[0]): 100}}
    assert sdk.completions.create(**asked).choices[0].text == "\ufffd"
    assert sdk.completions.create(**asked, echo=True).choices[0].text == "Hi\ufffd"
    with sdk.completions.create(**asked, stream=True) as stream:
        assert "".join(chunk.choices[0].text for chunk in stream) == "\ufffd"


def test_a_run(sdk: openai.OpenAI, half: tuple[int, list[int]]) -> None:
    thread = sdk.beta.threads.create(messages=MESSAGES)
    body = {"logit_bias": {str(half[0]): 100}}
    with sdk.beta.threads.runs.stream(
        thread_id=thread.id,
        assistant_id="jan",
        model=MODEL,
        temperature=0,
        max_completion_tokens=2,
        extra_body=body,
    ) as stream:
        assert "".join(stream.text_deltas) == "\ufffd"
    (answer, _) = sdk.beta.threads.messages.list(thread.id).data
    assert answer.content[0].type == "text"
    assert answer.content[0].text.value == "\ufffd"
    assert answer.status == "incomplete"
