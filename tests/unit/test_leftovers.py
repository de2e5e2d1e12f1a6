"""What no model is shown has a name; what is all words, or asks for nothing, has none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from janflask.errors import InvalidRequestError
from janflask.inference.forms.answer_forms import answer_form
from janflask.inference.leftovers import (
    Leftover,
    holds_anything,
    of_message,
    of_messages,
    of_part,
    of_run,
    refuse,
)
from janflask.storage.records import Assistant, Message, RunDraft, Thread, ThreadAssistant, words_of

TEXT: dict[str, Any] = {"type": "text", "text": {"value": "words", "annotations": []}}
URL = {"url": "data:image/png;base64,aaaa"}
# As Jan 0.4 and 0.5 wrote them: the words inside, the place of the file as an annotation of theirs.
JAN_IMAGE = {"type": "image", "text": {"value": "What is this?", "annotations": ["threads/t/files/m.png"]}}
JAN_PDF = {"type": "pdf", "text": {"value": "Sum up", "annotations": ["threads/t/files/m.pdf"], "name": "a", "size": 9}}
MESSAGE = Message(id="msg_1", thread_id="t", created_ms=1, content=(TEXT,))
THREAD = Thread(id="t", created_ms=1, updated_ms=1)
JAN = Assistant(id="jan", created_ms=1)
ENTRY = ThreadAssistant(assistant_id="jan")
RETRIEVAL = {"type": "retrieval", "enabled": False, "useTimeWeightedRetriever": False, "settings": {"top_k": 2}}


def test_an_answerer_that_cannot_be_read_is_not_replaced_in_silence() -> None:
    """A thread whose file names somebody in an unknown form is answered by whom the run names, or by nobody."""
    thread = replace(THREAD, extra={"assistants": [{"name": "Ada"}]})
    entry = replace(ENTRY, extra={"model": "tiny", "instructions": ["Be brief."]})
    found = of_run(RunDraft(), thread, entry, JAN, {})
    assert [item.reason for item in found] == [
        "assistants of the thread cannot be read: set assistant_id in the run",
        "model of the thread's assistant jan cannot be read: set model in the run",
        "instructions of the thread's assistant jan cannot be read: set instructions in the run",
    ]
    assert not of_run(RunDraft(assistant_id="jan", model="tiny", instructions=""), thread, entry, JAN, {})
    assert not of_run(RunDraft(), replace(THREAD, model_id="tiny"), replace(ENTRY, extra={"model": "other"}), JAN, {})


# --- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([TEXT, TEXT], "words\nwords"),
        ("plain", "plain"),
        (["plain", TEXT], "plain\nwords"),
        ([{"type": "text", "text": "plain"}], "plain"),
        ([JAN_IMAGE], "What is this?"),
        ([JAN_PDF], "Sum up"),
        ([{"type": "image_url", "image_url": URL, "text": {"value": "look"}}, TEXT], "look\nwords"),
        ([{"type": "image_url", "image_url": URL}, TEXT], "words"),
        ([{"type": "refusal", "refusal": "I won't."}], "I won't."),
        ([{"type": "reasoning", "text": {"value": "Hm"}}, TEXT], "words"),
        ([{"type": "text", "text": {"annotations": []}}], ""),
        ([{"type": "text", "text": {"value": 5}}, None, 5], ""),
        (None, ""),
        ({"type": "text"}, ""),
    ],
)
def test_the_words_of_a_message(content: object, words: str) -> None:
    assert words_of(content) == words


# --- messages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "what"),
    [
        (TEXT, None),
        ({"type": "text", "text": "plain"}, None),
        ({"type": "text", "text": {"annotations": []}}, None),
        ({"type": "text", "text": {"value": 5}}, "a text that cannot be read"),
        ({"type": "refusal", "refusal": "No."}, None),
        ({"type": "reasoning", "text": {"value": "Hm"}}, None),
        (JAN_IMAGE, "a picture (image)"),
        ({"type": "image", "text": {"value": "no picture", "annotations": []}}, None),
        (JAN_PDF, "a document (pdf)"),
        ({"type": "image_url", "image_url": URL}, "a picture (image_url)"),
        ({"type": "image_url", "image_url": URL, "text": {"value": "x"}}, "a picture (image_url)"),
        ({"type": "image_file", "image_file": {"file_id": "file-1"}}, "a picture (image_file)"),
        ({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, "a sound (input_audio)"),
        ({"type": "tool_call", "tool_name": "search", "output": "x"}, "a tool's call (tool_call)"),
        ({"type": "hologram", "text": "x"}, "a part of the type 'hologram'"),
        ({"type": ["x"]}, "a part of the type \"['x']\""),
        ({}, "a part without a type"),
    ],
    ids=str,
)
def test_a_part(part: dict[str, Any], what: str | None) -> None:
    assert of_part(part) == what


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({}, []),
        ({"content": ()}, []),
        ({"content": (TEXT, JAN_IMAGE)}, ["a picture (image)"]),
        ({"file_ids": ("file-1",)}, ["the file file-1"]),
        (
            {
                "file_ids": ("file-1", "file-2"),
                "attachments": (
                    {"file_id": "file-1", "tools": [{"type": "file_search"}, {"type": "code_interpreter"}]},
                ),
            },
            ["the file file-1 (for file_search, code_interpreter)", "the file file-2"],
        ),
        ({"attachments": ({"file_id": ["x"], "tools": 5},)}, ["the file ['x']"]),
        ({"attachments": ({}, {"file_id": None, "tools": []}), "file_ids": ("",)}, []),
        (
            {"attachments": ({"name": "a.txt"}, {"tools": [{"type": "x"}]})},
            ["the file a.txt", "the file without a name (for x)"],
        ),
        ({"role": "function"}, ["words in the role of 'function'"]),
        ({"role": "tool"}, []),
        ({"role": "system"}, []),
        ({"content": (), "extra": {"content": {"type": "text"}}}, ["content that cannot be read"]),
        ({"extra": {"file_ids": 5}}, ["file_ids that cannot be read"]),
        ({"extra": {"tool_calls": [{"id": "1"}]}}, ["calls that cannot be read (tool_calls)"]),
        ({"extra": {"tool_calls": [], "session_id": "s"}}, []),
        ({"metadata": {"a": [1]}}, []),
        (
            {"metadata": {"inline_file_contents": [{"name": "a", "content": "b"}]}},
            ["the text of a file (metadata.inline_file_contents)"],
        ),
    ],
    ids=str,
)
def test_a_message(fields: dict[str, Any], what: list[str]) -> None:
    assert of_message(replace(MESSAGE, **fields)) == what


def test_without_tools_files_are_not_asked_for() -> None:
    attached = replace(MESSAGE, attachments=({"file_id": "file-1", "tools": []},), content=(JAN_PDF,))
    assert of_message(attached, without_tools=True) == []
    assert of_message(replace(attached, content=(JAN_PDF, JAN_IMAGE)), without_tools=True) == ["a picture (image)"]


def test_the_place_of_a_new_message_and_the_name_of_a_stored_one() -> None:
    picture = replace(MESSAGE, content=(TEXT, JAN_IMAGE, JAN_IMAGE))
    (stored,) = of_messages([MESSAGE, picture], {})
    assert stored.param == "thread_id"
    assert stored.reason == (
        "message msg_1 holds a picture (image), which no model here is shown: give the message other content, delete "
        "it, or keep it from being shown by truncation_strategy"
    )
    (new,) = of_messages([replace(picture, file_ids=("file-1",))], {"msg_1": "additional_messages.0"})
    assert new.param == "additional_messages.0"
    assert new.reason == (
        "additional_messages.0 holds a picture (image) and the file file-1, which no model here is shown: leave it "
        'out, or answer without its files by tool_choice "none"'
    )


def test_not_everything_is_told_in_one_error() -> None:
    refuse([])
    with pytest.raises(InvalidRequestError, match=r"^r0; r1; r2; r3; 2 more$") as caught:
        refuse([Leftover(f"p{number}", f"r{number}") for number in range(6)])
    assert (caught.value.param, caught.value.code) == ("p0", "invalid_value")


# --- who answers ----------------------------------------------------------------------------------------------------


def told(
    draft: RunDraft | None = None,
    thread: Thread = THREAD,
    entry: ThreadAssistant = ENTRY,
    assistant: Assistant = JAN,
    **parameters: Any,
) -> list[str]:
    found = of_run(draft or RunDraft(), thread, entry, assistant, parameters)
    return [f"{item.param}: {item.reason}" for item in found]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tools": (RETRIEVAL,)},  # as Jan wrote its default assistant
        {"tools": ({**RETRIEVAL, "enabled": True},)},  # and with its experimental features
        {"tools": ({"type": "file_search"},)},
        {"tools": ({"type": "code_interpreter", "enabled": False},)},
        {"tools": ({"type": "function", "function": {"name": "f"}}, RETRIEVAL)},  # a function can be called
        {"tool_resources": {"code_interpreter": {"file_ids": []}, "file_search": {}}},
    ],
    ids=str,
)
def test_what_asks_for_nothing(fields: dict[str, Any]) -> None:
    assert told(assistant=replace(JAN, **fields)) == []
    assert told(entry=replace(ENTRY, extra=fields)) == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tools": ({"type": "code_interpreter"},)}, "assistant jan has tools (code_interpreter); only functions can"),
        ({"extra": {"tools": "many"}}, "assistant jan has tools that cannot be read"),
        ({"file_ids": ("file-1",)}, "assistant jan has files (file_ids)"),
        ({"tool_resources": {"file_search": {"vector_store_ids": ["v"]}}}, "assistant jan has tool_resources"),
    ],
    ids=str,
)
def test_what_an_assistant_asks_for(fields: dict[str, Any], reason: str) -> None:
    (found,) = told(assistant=replace(JAN, **fields))
    assert found.startswith(f"assistant_id: {reason}")
    if "extra" not in fields:
        assert told(entry=replace(ENTRY, extra=fields)) == [found], "as a thread's entry has it"


def test_the_entry_has_the_say_and_the_run_before_it() -> None:
    tutor = replace(JAN, tools=({"type": "code_interpreter"},))
    assert len(told(assistant=tutor)) == 1
    assert told(assistant=tutor, entry=replace(ENTRY, extra={"tools": []})) == []
    assert len(told(assistant=tutor, entry=replace(ENTRY, extra={"tools": None}))) == 1
    assert told(RunDraft(tools=()), assistant=tutor) == []
    assert len(told(RunDraft(tool_choice="auto"), assistant=tutor)) == 1
    assert told(RunDraft(tool_choice="none"), assistant=tutor) == []


def test_what_a_thread_asks_for() -> None:
    held = replace(THREAD, tool_resources={"file_search": {"vector_store_ids": ["v"]}})
    (found,) = told(thread=held)
    assert found.startswith("thread_id: the thread has tool_resources; ")
    assert told(RunDraft(tool_choice="none"), thread=held) == []
    assert told(tools=[{"type": "code_interpreter"}])[0].startswith(
        "thread_id: the thread's parameters name tools (code_"
    )
    assert told(tools=[{"type": "function", "function": {"name": "f"}}]) == []


@pytest.mark.parametrize(
    ("resources", "held"),
    [(None, False), ({}, False), ({"a": {"b": []}}, False), ({"a": {"b": [{}]}}, True), (5, True)],
)
def test_resources(resources: object, held: bool) -> None:
    assert holds_anything(resources) is held


@pytest.mark.parametrize("form", [None, "", {}, "auto", "text", {"type": "text"}])
def test_forms_that_ask_for_nothing(form: object) -> None:
    assert answer_form(form) is None


@pytest.mark.parametrize("form", [5, "json", ["text"], {"type": "yaml"}])
def test_forms_that_nobody_knows(form: object) -> None:
    with pytest.raises(InvalidRequestError, match=r"^response_format"):
        answer_form(form)
