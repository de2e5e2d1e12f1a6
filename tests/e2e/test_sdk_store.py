"""The official SDK drives the store: threads, messages, assistants and files. No model is needed for that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import openai
import pydantic
import pytest
from openai.types import FileDeleted, FileObject
from openai.types.beta import Assistant, AssistantDeleted, Thread, ThreadDeleted
from openai.types.beta.threads import Message, MessageDeleted

from tests.e2e.server import Server, serving

pytestmark = [
    pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
]
Parsed = TypeVar("Parsed", bound=pydantic.BaseModel)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers over an empty data folder."""
    with serving(tmp_path_factory.mktemp("store") / "data", JANFLASK_WORKERS="2") as server:
        yield server


@pytest.fixture
def sdk(server: Server) -> Iterator[openai.OpenAI]:
    with server.sdk() as client:
        yield client


def strictly(kind: type[Parsed], parsed: Parsed) -> Parsed:
    """The SDK builds objects without checking; this checks, and that what we add of our own has no wrong place."""
    assert type(parsed) is kind
    kind.model_validate(parsed.to_dict(), strict=True)
    missing = {name for name, field in kind.model_fields.items() if field.is_required()} - parsed.model_fields_set
    assert not missing
    return parsed


def texts(messages: Any) -> list[str]:
    return [part.text.value for message in messages for part in message.content]


# --- threads --------------------------------------------------------------------------------------------------------


def test_a_thread_from_its_beginning_to_its_end(sdk: openai.OpenAI) -> None:
    threads = sdk.beta.threads
    thread = strictly(Thread, threads.create(metadata={"user": "abc"}))
    assert (thread.object, thread.metadata) == ("thread", {"user": "abc"})
    assert strictly(Thread, threads.retrieve(thread.id)) == thread
    changed = strictly(Thread, threads.update(thread.id, metadata={"user": "def", "more": "x"}))
    assert changed.metadata == {"user": "def", "more": "x"}
    assert strictly(Thread, threads.retrieve(thread.id)).metadata == changed.metadata
    gone = strictly(ThreadDeleted, threads.delete(thread.id))
    assert (gone.id, gone.deleted, gone.object) == (thread.id, True, "thread.deleted")
    for call in threads.retrieve, threads.update, threads.delete:
        with pytest.raises(openai.NotFoundError) as caught:
            call(thread.id)
        assert caught.value.code is not None


def test_a_thread_with_its_first_messages(sdk: openai.OpenAI) -> None:
    given: Any = [
        {"role": "user", "content": "one", "metadata": {"n": "1"}},
        {"role": "assistant", "content": [{"type": "text", "text": "two"}, {"type": "text", "text": "three"}]},
    ]
    thread = strictly(Thread, sdk.beta.threads.create(messages=given))
    first, second = (strictly(Message, message) for message in sdk.beta.threads.messages.list(thread.id, order="asc"))
    assert (first.role, texts([first]), first.metadata) == ("user", ["one"], {"n": "1"})
    assert (second.role, texts([second])) == ("assistant", ["two", "three"])
    assert first.thread_id == second.thread_id == thread.id


def test_tool_resources_of_a_thread(sdk: openai.OpenAI) -> None:
    given: Any = {"code_interpreter": {"file_ids": []}, "file_search": {"vector_store_ids": ["vs_1"]}}
    thread = strictly(Thread, sdk.beta.threads.create(tool_resources=given))
    assert thread.tool_resources is not None
    assert thread.tool_resources.to_dict() == given
    assert strictly(Thread, sdk.beta.threads.retrieve(thread.id)) == thread


# --- messages -------------------------------------------------------------------------------------------------------


def test_a_message_from_its_beginning_to_its_end(sdk: openai.OpenAI) -> None:
    thread = sdk.beta.threads.create()
    messages = sdk.beta.threads.messages
    message = strictly(Message, messages.create(thread.id, role="user", content="Hello", metadata={"a": "b"}))
    assert (texts([message]), message.metadata, message.status) == (["Hello"], {"a": "b"}, "completed")
    assert (message.role, message.thread_id, message.run_id) == ("user", thread.id, None)
    assert strictly(Message, messages.retrieve(message.id, thread_id=thread.id)) == message
    changed = strictly(Message, messages.update(message.id, thread_id=thread.id, metadata={"c": "d"}))
    assert (changed.metadata, changed.content) == ({"c": "d"}, message.content)
    assert strictly(Message, messages.retrieve(message.id, thread_id=thread.id)) == changed
    gone = strictly(MessageDeleted, messages.delete(message.id, thread_id=thread.id))
    assert (gone.id, gone.deleted) == (message.id, True)
    assert list(messages.list(thread.id)) == []
    with pytest.raises(openai.NotFoundError):
        messages.retrieve(message.id, thread_id=thread.id)


def test_content_in_parts(sdk: openai.OpenAI) -> None:
    thread = sdk.beta.threads.create()
    picture = sdk.files.create(file=("picture.png", b"\x89PNG"), purpose="vision")
    content: Any = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_file", "image_file": {"file_id": picture.id, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/x.png"}},
    ]
    created = strictly(Message, sdk.beta.threads.messages.create(thread.id, role="user", content=content))
    assert [part.type for part in created.content] == ["text", "image_file", "image_url"]
    assert strictly(Message, sdk.beta.threads.messages.retrieve(created.id, thread_id=thread.id)) == created


def test_attachments(sdk: openai.OpenAI) -> None:
    thread = sdk.beta.threads.create()
    file = sdk.files.create(file=("notes.txt", b"notes"), purpose="assistants")
    attachments: Any = [{"file_id": file.id, "tools": [{"type": "file_search"}]}]
    messages = sdk.beta.threads.messages
    message = strictly(Message, messages.create(thread.id, role="user", content="x", attachments=attachments))
    assert message.attachments is not None
    assert [attachment.file_id for attachment in message.attachments] == [file.id]
    with pytest.raises(openai.ConflictError):
        sdk.files.delete(file.id)
    messages.delete(message.id, thread_id=thread.id)
    assert sdk.files.delete(file.id).deleted
    with pytest.raises(openai.BadRequestError):
        messages.create(thread.id, role="user", content="x", attachments=attachments)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 4, 5, 100])
def test_pages_in_both_directions(sdk: openai.OpenAI, order: Any, limit: int) -> None:
    thread = sdk.beta.threads.create()
    messages = sdk.beta.threads.messages
    for number in range(10):
        messages.create(thread.id, role="user", content=str(number))
    expected = [str(number) for number in range(10)]
    if order == "desc":
        expected.reverse()
    page = messages.list(thread.id, limit=limit, order=order)
    assert texts(page.data) == expected[:limit]
    assert page.has_next_page() == (limit < 10)
    everything = [strictly(Message, message) for message in page]  # the SDK asks for page after page
    assert texts(everything) == expected
    back: list[Any] = [everything[-1]]
    while True:
        before = messages.list(thread.id, limit=limit, order=order, before=back[0].id)
        back = before.data + back
        if not before.has_next_page() or not before.data:
            break
    assert texts(back) == expected
    between = messages.list(thread.id, limit=100, order=order, after=everything[2].id, before=everything[6].id)
    assert texts(between) == expected[3:6]


def test_messages_of_a_run(sdk: openai.OpenAI) -> None:
    thread = sdk.beta.threads.create(messages=[{"role": "user", "content": "x"}])
    assert list(sdk.beta.threads.messages.list(thread.id, run_id="run_none")) == []


# --- assistants -----------------------------------------------------------------------------------------------------


def test_an_assistant_from_its_beginning_to_its_end(sdk: openai.OpenAI) -> None:
    assistants = sdk.beta.assistants
    function = {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "number"}}}}
    tools: Any = [{"type": "code_interpreter"}, {"type": "file_search"}, {"type": "function", "function": function}]
    given: Any = {
        "model": "*",
        "name": "Tutor",
        "description": "Explains.",
        "instructions": "Be brief.",
        "tools": tools,
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "top_p": 0.9,
        "response_format": "auto",
    }
    assistant = strictly(Assistant, assistants.create(**given))
    assert {name: assistant.to_dict()[name] for name in given if name != "tools"} == {
        name: value for name, value in given.items() if name != "tools"
    }
    assert [tool.type for tool in assistant.tools] == ["code_interpreter", "file_search", "function"]
    assert strictly(Assistant, assistants.retrieve(assistant.id)) == assistant
    changed = strictly(Assistant, assistants.update(assistant.id, name="Other", temperature=1.0, tools=[]))
    assert (changed.name, changed.temperature, changed.tools) == ("Other", 1.0, [])
    assert changed.instructions == "Be brief."
    assert assistant.id in [strictly(Assistant, listed).id for listed in assistants.list()]
    assert strictly(AssistantDeleted, assistants.delete(assistant.id)).deleted
    with pytest.raises(openai.NotFoundError):
        assistants.retrieve(assistant.id)


def test_jan_is_always_there(sdk: openai.OpenAI) -> None:
    jan = strictly(Assistant, sdk.beta.assistants.retrieve("jan"))
    assert jan.model == "*"
    assert "jan" in [assistant.id for assistant in sdk.beta.assistants.list()]
    with pytest.raises(openai.ConflictError):
        sdk.beta.assistants.delete("jan")


def test_pages_of_assistants(sdk: openai.OpenAI) -> None:
    made = [sdk.beta.assistants.create(model="*", name=str(number)).id for number in range(5)]
    listed = [assistant.id for assistant in sdk.beta.assistants.list(limit=2, order="asc")]
    assert [name for name in listed if name in made] == made
    newest = sdk.beta.assistants.list(limit=2)
    assert [assistant.id for assistant in newest.data] == [made[4], made[3]]
    page = sdk.beta.assistants.list(limit=2, before=made[1])
    assert [assistant.id for assistant in page.data] == [made[3], made[2]]
    for name in made:
        sdk.beta.assistants.delete(name)


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_file_from_its_beginning_to_its_end(sdk: openai.OpenAI, tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "data.bin").write_bytes(content)
    file = strictly(FileObject, sdk.files.create(file=tmp_path / "data.bin", purpose="user_data"))
    assert (file.filename, file.bytes, file.purpose) == ("data.bin", len(content), "user_data")
    assert file.status in ("uploaded", "processed")
    assert strictly(FileObject, sdk.files.retrieve(file.id)) == file
    assert sdk.files.content(file.id).read() == content
    assert file.id in [strictly(FileObject, listed).id for listed in sdk.files.list()]
    assert file.id not in [listed.id for listed in sdk.files.list(purpose="batch")]
    gone = strictly(FileDeleted, sdk.files.delete(file.id))
    assert (gone.id, gone.deleted) == (file.id, True)
    for call in sdk.files.retrieve, sdk.files.content, sdk.files.delete:
        with pytest.raises(openai.NotFoundError):
            call(file.id)


def test_pages_of_files(sdk: openai.OpenAI) -> None:
    made = [sdk.files.create(file=(f"{n}.txt", str(n).encode()), purpose="batch").id for n in range(5)]
    assert [file.id for file in sdk.files.list(limit=2, purpose="batch", order="asc")] == made
    assert [file.id for file in sdk.files.list(limit=2, purpose="batch")] == made[::-1]
