"""Runs that go on with the last message of their thread: it gets more words, once, whatever ends in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from janflask.errors import EngineCrashedError, EngineError, InvalidRequestError
from janflask.files import ids
from janflask.inference.backend import BackendInfo
from janflask.inference.deltas import Event, ReasoningDelta, Started
from janflask.inference.requests import ChatRequest
from janflask.inference.waiting import Waiter
from janflask.services.continuing import continued, grown
from janflask.storage.items import CALLS, REASONING, summary_field
from janflask.storage.records import Continued, Message, Run, RunStatus, text_part
from janflask.storage.run_log import texts_of
from tests.fakes.crossing import crossing
from tests.unit.runner.run_world import CONTEXT, RunWorld, Script, calling, failing, hanging, message, saying, watch

FUNCTIONS = ({"type": "function", "function": {"name": "look"}},)


def begun(world: RunWorld, text: str = "Once upon", thought: str = "", **fields: Any) -> Message:
    """The last message of a new thread: an answer that broke off."""
    thread_id = world.thread("Tell me a story")
    extra = {REASONING: thought} if thought else {}
    answer = replace(message(thread_id, text, role="assistant"), status="incomplete", run_id="run_old", extra=extra)
    answer = replace(answer, incomplete_details={"reason": "max_tokens"}, incomplete_ms=answer.created_ms, **fields)
    world.repository.threads.append(thread_id, [answer])
    return answer


def going_on(world: RunWorld, last: Message, **fields: Any) -> Run:
    run = world.run(last.thread_id, continued=continued(last), **fields)
    return world.repository.runs.update(run.thread_id, run.id, lambda run: replace(run, message_id=last.id))


def only(world: RunWorld, last: Message) -> Message:
    """The answer, of which there is one."""
    question, answer = world.repository.threads.all_messages(last.thread_id)
    assert question.role == "user"
    assert answer.id == last.id
    return answer


def said(world: RunWorld, run: Run) -> str:
    """All that the run's events say."""
    events = [change for change in watch(world.runner, run) if isinstance(change, tuple)]
    return "".join(text for _, part in events for text in texts_of(part))


def test_the_message_has_more_words_and_is_whole() -> None:
    world = RunWorld(saying(" a", " time"))
    last = begun(world, metadata={"mine": 1})
    run = world.done(going_on(world, last))
    answer = only(world, last)
    assert answer.text == "Once upon a time"
    assert (answer.status, answer.incomplete_details, answer.run_id) == ("completed", None, run.id)
    assert (answer.created_ms, answer.metadata, answer.completed_ms) == (last.created_ms, {"mine": 1}, run.completed_ms)
    assert said(world, run) == "Once upon a time"


def test_the_model_is_shown_an_open_turn() -> None:
    world = RunWorld(saying("!"))
    last = begun(world, "Well", thought="Hm")
    world.done(going_on(world, last))
    (request,) = world.model.requests
    assert [turn.text for turn in request.messages] == ["Tell me a story"]
    assert (request.begun, request.begun_reasoning) == ("Well", "Hm")
    assert only(world, last).extra == {REASONING: "Hm"}


def test_thoughts_that_broke_off_go_on() -> None:
    world = RunWorld(saying("Well"))
    last = begun(world, "", thought="Hm")
    world.done(going_on(world, last))
    assert world.model.requests[0].begun_reasoning == "Hm"
    assert (only(world, last).text, only(world, last).extra) == ("Well", {REASONING: "Hm"})


def test_what_was_there_is_a_part_of_the_prompt() -> None:
    world = RunWorld(saying("x", "y"))  # says that its prompt has 7 tokens and its answer 2
    run = world.done(going_on(world, begun(world, "a b c")))
    assert (run.prompt_tokens, run.completion_tokens) == (7, 2)
    assert run.first_token_ms is not None


@pytest.mark.parametrize("words", [1, CONTEXT - 7])
def test_what_was_there_is_not_counted_as_the_answer(words: int) -> None:
    """With 4 tokens of a question, so many of the message and a context of 64."""
    world = RunWorld(saying("x"))
    world.done(going_on(world, begun(world, "a " * words), max_completion_tokens=5))
    assert world.model.requests[0].max_tokens == min(5, CONTEXT - 4 - words)


@pytest.mark.parametrize(("words", "shown"), [(2, 2), (3, 1)])
def test_what_was_there_is_of_what_the_model_is_shown_at_most(words: int, shown: int) -> None:
    """With questions of 4 tokens."""
    world = RunWorld(saying("x"))
    thread_id = world.thread("What is the time?", "Tell me a story")
    last = message(thread_id, "a " * words, role="assistant")
    world.repository.threads.append(thread_id, [last])
    world.done(going_on(world, last, max_prompt_tokens=10))
    assert len(world.model.requests[0].messages) == shown


def test_more_than_the_model_is_to_be_shown_stays_as_it_is() -> None:
    world = RunWorld(saying("x"))
    last = begun(world, "a b c")
    run = world.done(going_on(world, last, max_prompt_tokens=6))
    assert (run.status, run.incomplete_reason) == (RunStatus.INCOMPLETE, "max_prompt_tokens")
    assert only(world, last) == last
    assert not world.model.requests


def test_a_message_that_leaves_no_room_is_too_long_and_stays_as_it_is() -> None:
    world = RunWorld(saying("x"))
    last = begun(world, "a " * (CONTEXT - 4))
    run = world.done(going_on(world, last))
    assert run.status is RunStatus.FAILED
    assert f"{CONTEXT} tokens" in (run.error_message or "")
    assert only(world, last) == last


@pytest.mark.parametrize("pieces", [(), (" a",)])
def test_an_engine_that_dies_takes_and_doubles_nothing(pieces: tuple[str, ...]) -> None:
    world = RunWorld(failing(EngineCrashedError("it died"), *pieces), saying(" time"))
    last = begun(world, "Once upon", thought="Hm")
    run = world.done(going_on(world, last))
    assert only(world, last).text == said(world, run) == "Once upon" + "".join(pieces) + " time"
    assert [request.begun for request in world.model.requests] == ["Once upon", "Once upon" + "".join(pieces)]
    assert (run.prompt_tokens, run.completion_tokens) == (7 - len(pieces), 1 + len(pieces))


def test_a_runner_that_ends_leaves_the_rest_to_the_next() -> None:
    world = RunWorld(hanging(" a"))
    last = begun(world)
    run = going_on(world, last)
    world.saying(run, "Once upon a")
    world.runner.close()
    assert only(world, last) == last
    world.model.scripts = [saying(" time")]
    world.new_runner()
    world.done(run)
    assert only(world, last).text == said(world, run) == "Once upon a time"


@pytest.mark.parametrize("dies_before", ["append", "close"])
def test_its_end_is_written_once(dies_before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = RunWorld(saying(" a"))
    last = begun(world)
    run = going_on(world, last)
    world.done(run)
    runs = world.repository.runs
    fields = {"status": RunStatus.IN_PROGRESS, "completed_ms": None}
    runs.update(run.thread_id, run.id, lambda run: replace(run, **fields))
    if dies_before == "append":
        world.repository.threads.update_message(run.thread_id, last.id, lambda _: last)
    world.model.scripts = [saying("")]
    world.new_runner()
    assert world.done(run).status is RunStatus.COMPLETED
    assert only(world, last).text == "Once upon a"


@pytest.mark.parametrize(
    ("script", "status", "text"),
    [
        (failing(EngineError("out of luck")), RunStatus.FAILED, "Once upon"),
        (failing(EngineError("out of luck"), " a"), RunStatus.FAILED, "Once upon a"),
        (saying(" a", reason="length"), RunStatus.INCOMPLETE, "Once upon a"),
    ],
)
def test_it_is_as_whole_as_the_run(script: Script, status: RunStatus, text: str) -> None:
    world = RunWorld(script)
    last = begun(world)
    run = world.done(going_on(world, last))
    answer = only(world, last)
    assert run.status is status
    assert answer.text == text
    assert answer == last or (answer.run_id == run.id and answer.status == "incomplete")
    assert (answer == last) == (text == "Once upon")


def test_one_that_is_cancelled_keeps_what_it_said() -> None:
    world = RunWorld(hanging(" a"))
    last = begun(world)
    run = going_on(world, last)
    world.saying(run, "Once upon a")
    world.runner.cancel(run.thread_id, run.id)
    world.done(run)
    assert (only(world, last).text, only(world, last).incomplete_details) == (
        "Once upon a",
        {"reason": "run_cancelled"},
    )


def test_it_may_call_functions() -> None:
    world = RunWorld(calling(("call_1", "look", "{}"), text=" the sea"), saying("It is blue."))
    last = begun(world)
    waiting = world.waiting(going_on(world, last, tools=FUNCTIONS))
    assert waiting.status is RunStatus.REQUIRES_ACTION
    world.submit(waiting, call_1="blue")
    world.done(waiting)
    _, first, second = world.repository.threads.all_messages(last.thread_id)
    assert (first.id, first.text, first.run_id) == (last.id, "Once upon the sea", waiting.id)
    assert second.text == "It is blue."
    assert [turn.text for turn in world.model.requests[1].messages] == ["Tell me a story", "Once upon the sea", "blue"]


def test_later_rounds_have_messages_only_of_what_they_say() -> None:
    look = calling(("call_1", "look", "{}"), text=" the sea")
    world = RunWorld(look, calling(("call_2", "look", "{}")), saying("It is blue."))
    last = begun(world)
    first = world.waiting(going_on(world, last, tools=FUNCTIONS))
    second = world.waiting(world.submit(first, call_1="blue"))
    world.done(world.submit(second, call_2="blue"))
    texts = [message.text for message in world.repository.threads.all_messages(last.thread_id)]
    assert texts == ["Tell me a story", "Once upon the sea", "It is blue."]


def test_thoughts_of_later_rounds_are_begun_anew_where_they_cannot_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def thinking(request: ChatRequest, waiter: Waiter) -> Iterator[list[Event]]:
        yield [Started(7), ReasoningDelta(0, "Hm")]
        raise crossing(EngineCrashedError("it died"))

    world = RunWorld(calling(("call_1", "look", "{}")), thinking, saying("It is blue."))
    monkeypatch.setattr(world.model, "info", lambda *_, **__: BackendInfo(CONTEXT, continues_thoughts=False))
    last = begun(world)
    waiting = world.waiting(going_on(world, last, tools=FUNCTIONS))
    assert world.done(world.submit(waiting, call_1="blue")).status is RunStatus.COMPLETED


def test_a_message_that_was_changed_meanwhile_is_left_alone() -> None:
    world = RunWorld(saying(" a"))
    last = begun(world)
    run = going_on(world, last)
    changed = replace(last, content=(text_part("Twice"),))
    world.repository.threads.update_message(last.thread_id, last.id, lambda _: changed)
    ended = world.done(run)
    assert ended.status is RunStatus.FAILED
    assert "changed" in (ended.error_message or "")
    assert only(world, last) == changed


@pytest.mark.parametrize(
    ("info", "text"),
    [(BackendInfo(CONTEXT, continues=False), "Once"), (BackendInfo(CONTEXT, continues_thoughts=False), "")],
)
def test_what_would_begin_anew_is_not_asked(info: BackendInfo, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = RunWorld(saying("x"))
    monkeypatch.setattr(world.model, "info", lambda *_, **__: info)
    last = begun(world, text, thought="Hm")
    run = world.done(going_on(world, last))
    assert run.status is RunStatus.FAILED
    assert "cannot continue" in (run.error_message or "")
    assert only(world, last) == last
    assert not world.model.requests


# --- what can be continued, and how it grows ------------------------------------------------------------------------

ANSWER = Message(id="msg_1", thread_id="t", created_ms=5, role="assistant", content=(text_part("Once"),))
PICTURE = {"type": "image_url", "image_url": {"url": "data:,"}}


def test_what_can_be_continued() -> None:
    assert continued(ANSWER) == Continued(message_id="msg_1", created_ms=5, text=4, reasoning=0)
    assert continued(replace(ANSWER, content=(), extra={REASONING: "Hm"})).reasoning == 2
    jan = ({"type": "reasoning", "text": {"value": "Hm", "annotations": []}}, text_part("a"), text_part("b"))
    assert continued(replace(ANSWER, content=jan)).text == len("a\nb")


@pytest.mark.parametrize(
    ("last", "why"),
    [
        (None, "has no message"),
        (replace(ANSWER, role="user"), "'user', not an assistant's"),
        (replace(ANSWER, content=()), "is empty"),
        (replace(ANSWER, content=(text_part("a"), PICTURE)), "does not end with text"),
        (replace(ANSWER, content=({"type": "text", "text": 3},)), "does not end with text"),
        (replace(ANSWER, content=(text_part("a"), {"type": "refusal", "refusal": "no"})), "no answer in words"),
        (replace(ANSWER, extra={CALLS: [{"id": "call_1"}]}), "no answer in words"),
        (replace(ANSWER, extra=summary_field([], "")), "no answer in words"),
        (replace(ANSWER, status="incomplete", incomplete_details={"reason": "error"}), "no answer in words"),
    ],
)
def test_what_cannot(last: Message | None, why: str) -> None:
    with pytest.raises(InvalidRequestError, match=why) as caught:
        continued(last)
    assert caught.value.param == "continue_last"


def test_a_message_grows_at_its_end_and_keeps_the_rest() -> None:
    annotated = {"type": "text", "text": {"value": "b", "annotations": [{"type": "x"}]}}
    before = replace(
        ANSWER, content=(text_part("a"), annotated), file_ids=("file-1",), extra={"tool_rounds": [], "x": 1}
    )
    run = Run(
        id=ids.new_id(ids.RUN),
        thread_id="t",
        assistant_id="jan",
        message_id="msg_1",
        step_id="step_1",
        created_ms=7,
        expires_ms=9,
        model="m",
        continued=continued(before),
    )
    reply = replace(ANSWER, content=(text_part("a\nb and c"),), run_id=run.id, created_ms=8, extra={REASONING: "Hm"})
    after = grown(before, reply, run)
    assert after.content == (text_part("a"), {"type": "text", "text": {**annotated["text"], "value": "b and c"}})  # type: ignore[dict-item]
    assert (after.created_ms, after.file_ids) == (5, ("file-1",))
    assert after.extra == {"tool_rounds": [], "x": 1, REASONING: "Hm"}
    assert grown(after, reply, run) == after
