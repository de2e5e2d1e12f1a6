"""What of a thread's messages a model is shown, what is left out by name, and what ends a run."""

from __future__ import annotations

from typing import Any

import pytest

from janflask.files import ids
from janflask.runner.titles import title_of
from janflask.storage.jan import message_from_json
from janflask.storage.records import Run, RunStatus, Thread
from tests.unit.runner.run_world import RunWorld, saying

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa"}}
JAN_IMAGE = {"type": "image", "text": {"value": "What is this?", "annotations": ["threads/t/files/a.png"]}}
JAN_PDF = {"type": "pdf", "text": {"value": "Sum up", "annotations": ["threads/t/files/a.pdf"], "name": "a", "size": 1}}
BOOM = {"type": "text", "text": {"value": "Out of memory", "annotations": []}}


def said(text: str, role: str = "user", **fields: Any) -> dict[str, Any]:
    """A line of ``messages.jsonl``."""
    return {"role": role, "status": "ready", "content": [{"type": "text", "text": {"value": text}}], **fields}


class Talk:
    """A thread of these lines, with ids m0, m1 and so on; and what came of a run of it."""

    def __init__(self, *lines: dict[str, Any], **fields: Any) -> None:
        self.world = RunWorld(saying("ok"))
        self.thread_id = ids.new_id(ids.THREAD)
        now = ids.now_ms()
        messages = [
            message_from_json({"created": now + number, **line}, self.thread_id, f"m{number}")
            for number, line in enumerate(lines)
        ]
        self.world.repository.threads.create(Thread(id=self.thread_id, created_ms=now, updated_ms=now), messages)
        self.run: Run = self.world.done(self.world.run(self.thread_id, **fields))

    @property
    def shown(self) -> list[tuple[str, str]]:
        (request,) = self.world.model.requests
        return [(message.role, message.text) for message in request.messages]


def test_the_words_in_a_documents_part_are_shown_and_make_the_title() -> None:
    talk = Talk(said("", content=[JAN_PDF]), said("Which?", "assistant"), said("That one."), tool_choice="none")
    assert talk.run.status is RunStatus.COMPLETED
    assert talk.shown == [("user", "Sum up"), ("assistant", "Which?"), ("user", "That one.")]
    assert talk.world.repository.threads.get(talk.thread_id).title == "Sum up"
    assert title_of(talk.world.repository.threads.all_messages(talk.thread_id)) == "Sum up"


def test_a_picture_part_that_is_all_words_is_shown() -> None:
    assert Talk(said("", content=[{"type": "image", "text": {"value": "Hi", "annotations": []}}])).shown == [
        ("user", "Hi")
    ]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (said("", content=[JAN_IMAGE]), "a picture (image)"),
        (said("", content=[JAN_PDF]), "a document (pdf)"),
        (said("", "assistant", content=[IMAGE]), "a picture (image_url)"),
        (said("x", file_ids=["file-1"]), "the file file-1"),
        (said("x", "function"), "the role of 'function'"),
    ],
    ids=str,
)
def test_what_is_found_only_now_ends_the_run_by_name(line: dict[str, Any], what: str) -> None:
    talk = Talk(said("a"), line, said("b"))
    assert (talk.run.status, talk.run.error_code) == (RunStatus.FAILED, "invalid_prompt")
    assert talk.run.error_message is not None
    assert "message m1 holds" in talk.run.error_message
    assert what in talk.run.error_message
    assert talk.world.model.requests == []


@pytest.mark.parametrize("fields", [{"last_messages": 1}, {}])
def test_what_is_not_shown_anyway_does_no_harm(fields: dict[str, Any]) -> None:
    """Left out by number, or since it does not fit."""
    many = "many " * (20 if fields else 45)
    talk = Talk(said("", content=[JAN_IMAGE]), said("I see.", "assistant"), said(many), **fields)
    assert talk.run.status is RunStatus.COMPLETED
    assert talk.shown == [("user", many)]
    assert talk.run.left_out == ("m0", "m1")


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "error", "content": [BOOM], "error_code": "unknown"},
        {"status": "error", "content": []},
        {"status": "error", "content": [{"type": "text", "text": {"annotations": []}}]},
        {"status": "error", "content": [BOOM], "incomplete_details": {}},
        {"status": "ready", "content": [BOOM], "metadata": {"error": "Out of memory", "error_code": "unknown"}},
    ],
    ids=str,
)
def test_an_error_is_not_shown_and_is_named(fields: dict[str, Any]) -> None:
    talk = Talk(said("a"), said("", "assistant", **fields), said("b"))
    assert talk.shown == [("user", "a"), ("user", "b")]
    assert talk.run.left_out == ("m1",)


def test_an_error_is_named_among_those_that_do_not_fit() -> None:
    talk = Talk(said("old"), said("", "assistant", status="error", content=[BOOM]), said("new"), last_messages=1)
    assert talk.run.left_out == ("m0", "m1")


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "stopped"},
        {"status": "stopped", "incomplete_details": {"reason": "run_failed"}},
        {"status": "stopped", "incomplete_details": {"reason": "run_cancelled"}},
        {"status": "ready", "metadata": {"error": "something that its text does not say"}},
    ],
    ids=str,
)
def test_what_an_answer_had_said_before_it_ended_is_shown(fields: dict[str, Any]) -> None:
    talk = Talk(said("a"), said("The sea", "assistant", **fields), said("b"))
    assert talk.shown == [("user", "a"), ("assistant", "The sea"), ("user", "b")]
    assert talk.run.left_out == ()


def test_every_role_of_a_chat_is_shown() -> None:
    talk = Talk(
        said("Be brief.", "system"), said("a"), said("4", "tool", tool_call_id="call_1"), said("b", "developer")
    )
    assert talk.shown == [("system", "Be brief."), ("user", "a"), ("tool", "4"), ("developer", "b")]
    assert [message.tool_call_id for message in talk.world.model.requests[0].messages] == [None, None, "call_1", None]


def test_a_thread_of_errors_has_nothing_to_answer() -> None:
    talk = Talk(said("", "assistant", status="error", content=[BOOM]))
    assert talk.run.status is RunStatus.FAILED
    assert "no message that could be answered" in (talk.run.error_message or "")
