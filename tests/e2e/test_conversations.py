"""One store: what Jan's routes, runs, items and responses write is one conversation, and is deleted as one."""

from __future__ import annotations

from typing import Any

import openai
import pydantic
import pytest
from openai.types.conversations import ConversationItem

from tests.e2e.server import MODEL, Server

pytestmark = [
    pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
]

ITEM: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ConversationItem)
CALLS: Any = [
    {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "I have to look."}]},
    {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": '{"at": "sea"}'},
    {"type": "function_call_output", "call_id": "call_1", "output": "The sea is blue."},
]


def items(sdk: openai.OpenAI, name: str) -> list[Any]:
    found = list(sdk.conversations.items.list(name, order="asc", limit=3))
    return [ITEM.validate_python(item.to_dict(), strict=True) for item in found]


def test_a_conversation_goes_on_through_every_api(sdk: openai.OpenAI) -> None:
    threads = sdk.beta.threads  # deprecated, and still there
    thread = threads.create(messages=[{"role": "user", "content": "Say hi."}])
    name = thread.id.replace("thread_", "conv_")
    first = threads.runs.create_and_poll(
        thread_id=thread.id,
        assistant_id="jan",
        model=MODEL,
        max_completion_tokens=8,
        temperature=0,
        poll_interval_ms=50,
    )
    assert first.status in ("completed", "incomplete")
    sdk.conversations.items.create(name, items=[{"role": "user", "content": "How is the sea?"}, *CALLS])
    second = sdk.responses.create(model=MODEL, conversation=name, input=[], max_output_tokens=16)
    assert second.conversation is not None
    assert second.conversation.id == name
    third = threads.runs.create_and_poll(
        thread_id=name,
        assistant_id="jan",
        model=MODEL,
        max_completion_tokens=8,
        additional_messages=[{"role": "user", "content": "And the sky?"}],
        poll_interval_ms=50,
    )
    assert third.status in ("completed", "incomplete")

    seen = items(sdk, name)
    kinds = ["message", "message", "message", "reasoning", "function_call", "function_call_output"]
    assert [item.type for item in seen] == [*kinds, "message", "message", "message"]
    assert seen[6].content[0].text == second.output_text
    messages = list(threads.messages.list(thread.id, order="asc", limit=3))
    roles = ["user", "assistant", "user", "assistant", "tool", "assistant", "user", "assistant"]
    assert [message.role for message in messages] == roles
    assert [item.id for item in seen if item.type == "message"] == [
        message.id for number, message in enumerate(messages) if number not in (3, 4)
    ]

    assert sdk.conversations.delete(name).deleted
    for gone in (
        lambda: threads.retrieve(thread.id),
        lambda: sdk.responses.retrieve(second.id),
        lambda: threads.runs.retrieve(first.id, thread_id=thread.id),
        lambda: sdk.conversations.items.list(name),
    ):
        with pytest.raises(openai.NotFoundError):
            gone()


def test_a_response_that_made_its_thread_is_a_conversation(sdk: openai.OpenAI, server: Server) -> None:
    response = sdk.responses.create(model=MODEL, input=[{"role": "user", "content": "Hi"}, *CALLS], max_output_tokens=8)
    (newest,) = server.get("/v1/conversations?limit=1").json()["data"]
    name = newest["id"]
    seen = items(sdk, name)
    assert [item.type for item in seen][:4] == ["message", "reasoning", "function_call", "function_call_output"]
    assert [item.id for item in seen][4:] == [item.id for item in response.output]
    page = sdk.responses.input_items.list(response.id, order="asc")
    assert [item.id for item in page] == [item.id for item in seen][:4]
