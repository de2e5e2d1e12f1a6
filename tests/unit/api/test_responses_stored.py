"""Stored responses: their routes and their events, over a service that plays what a runner would do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import openai
import pytest
from flask import Flask
from flask.testing import FlaskClient

from janflask.api.plumbing.context import EXTENSION
from janflask.errors import NotFoundError, UnavailableError
from janflask.files import ids
from janflask.ipc.messages.runner import RunChanged, RunSaid
from janflask.services import endings
from janflask.services.answers import AnswerService
from janflask.services.replies import reply_message
from janflask.storage.answers import AnswerDraft
from janflask.storage.records import Message, Run, RunKind, RunStatus
from janflask.storage.rounds import Call
from janflask.storage.run_log import LogEvent, ReasoningEvent, TextEvent, missing, reasoning_of, texts_of
from tests.unit.api.responses import FUNCTION, checked, kinds, strict, told

THREAD = ids.new_id(ids.THREAD)
LOGPROB = {"token": "He", "logprob": -0.5, "bytes": [72, 101], "top_logprobs": []}
USED = {"prompt_tokens": 7, "cached_tokens": 4, "completion_tokens": 3, "reasoning_tokens": 1}


def whole(**more: Any) -> Callable[[Run], Run]:
    return lambda run: replace(run, replied_ms=run.created_ms, **endings.ended("stop"), **USED, **more)


def cut(run: Run) -> Run:
    return replace(run, replied_ms=run.created_ms, **endings.ended("length"), **USED)


def broken(run: Run) -> Run:
    return replace(run, status=RunStatus.FAILED, failed_ms=1, error_code="server_error", error_message="it broke")


@dataclass
class FakeAnswers:
    """One response that says ``said`` and then ends as ``end`` has it."""

    said: Sequence[LogEvent] = (ReasoningEvent("Hm"), TextEvent("Hel"), TextEvent("lo"))
    end: Callable[[Run], Run] = field(default_factory=whole)
    drafts: list[AnswerDraft] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    breaks_off: bool = False
    _run: Run | None = None

    def create(self, draft: AnswerDraft) -> Run:
        self.drafts.append(draft)
        now = ids.now_ms()
        self._run = Run(
            id=ids.new_answer_id(ids.RESPONSE, THREAD),
            thread_id=THREAD,
            assistant_id="",
            message_id=ids.new_id(ids.MESSAGE),
            step_id=ids.new_id("step_"),
            created_ms=now,
            expires_ms=now + 60_000,
            model=draft.model or "tiny",
            kind=RunKind.RESPONSE,
            asked=draft.asked,
            tools=draft.tools,
            tool_choice=draft.tool_choice,
            top_logprobs=draft.top_logprobs,
            metadata=draft.metadata,
        )
        return self._run

    def get(self, answer_id: str, kind: RunKind) -> Run:
        if self._run is None or self._run.id != answer_id:
            raise NotFoundError(f"there is no response {answer_id[:128]!r}", param="response_id")
        return self._run

    def finished(self, run: Run, waiter: Any, beat: float) -> Run:
        self._run = self.end(replace(run, started_ms=run.created_ms))
        return self._run

    def watch(self, run: Run, waiter: Any, beat: float) -> Iterator[RunChanged | RunSaid | None]:
        yield RunChanged(run)
        events: list[LogEvent] = []
        if not run.status.is_final:
            run = replace(run, status=RunStatus.IN_PROGRESS, started_ms=run.created_ms)
            events += missing(run, ())
            yield RunSaid(1, list(events))
            yield RunChanged(run)
            yield None
            for said in self.said:
                events.append(said)
                yield RunSaid(len(events), [said])
                if self.breaks_off:
                    raise UnavailableError("the runner is gone")
            run = self.finished(run, waiter, beat)
            yield RunChanged(run)
            last = missing(run, events)
            yield RunSaid(len(events) + 1, last)
            return
        yield RunSaid(1, self.events(run))

    def events(self, run: Run) -> list[LogEvent]:
        begun = replace(run, status=RunStatus.IN_PROGRESS, replied_ms=None, refusal="", wanted=())
        events = [*missing(begun, ()), *self.said]
        return [*events, *missing(run, events)]

    def output(self, run: Run) -> list[Message]:
        if run.status is RunStatus.QUEUED:
            return []
        return [reply_message(run, "".join(texts_of(self.said)), reasoning_of(self.said))]

    input_items = AnswerService.input_items

    def input(self, run: Run) -> list[Message]:
        return [
            Message(
                id=f"msg_{number}",
                thread_id=THREAD,
                created_ms=number,
                content=({"type": "text", "text": {"value": str(number), "annotations": []}},),
            )
            for number in range(3)
        ]

    def cancel(self, answer_id: str, kind: RunKind) -> Run:
        run = self.get(answer_id, kind)
        if run.status.is_final:
            return run
        self.cancelled.append(answer_id)
        self.end = lambda run: replace(run, **endings.cancelled())
        return self.finished(run, None, 0.0)

    def take_back(self, run: Run) -> None:
        self.delete(run.id, run.kind)

    def delete(self, answer_id: str, kind: RunKind) -> None:
        self.get(answer_id, kind)
        self.deleted.append(answer_id)
        self._run = None


@pytest.fixture
def answers(app: Flask) -> FakeAnswers:
    fake = FakeAnswers()
    app.extensions[EXTENSION] = replace(app.extensions[EXTENSION], answers=fake)
    return fake


def test_an_answer_is_waited_for(sdk: openai.OpenAI, answers: FakeAnswers) -> None:
    answer = strict(sdk.responses.create(model="tiny", input="Hi", metadata={"a": "b"}))
    assert (answer.status, answer.output_text, answer.background) == ("completed", "Hello", False)
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    assert answer.usage is not None
    assert answer.usage.output_tokens_details.reasoning_tokens == 1
    assert answer.to_dict()["thread_id"] == THREAD
    assert strict(sdk.responses.retrieve(answer.id)).to_dict() == answer.to_dict()
    assert answers.drafts[0].places == ("input.0",)


def test_a_stream_its_replay_and_the_object_are_the_same(sdk: openai.OpenAI, answers: FakeAnswers) -> None:
    with sdk.responses.stream(model="tiny", input="Hi") as stream:
        first = list(stream)
        final = stream.get_final_response()
    raw = checked(sdk.responses.retrieve(final.id, stream=True))
    assert kinds(raw)[:2] == ["created", "in_progress"]
    assert kinds(raw)[-1] == "completed"
    assert kinds(first) == kinds(raw)
    assert raw[-1].response.to_dict() == sdk.responses.retrieve(final.id).to_dict()
    for number in range(len(raw)):
        rest = list(sdk.responses.retrieve(final.id, stream=True, starting_after=number))
        assert told(rest) == told(raw[number + 1 :])


def test_a_background_response_is_acknowledged_at_once(sdk: openai.OpenAI, answers: FakeAnswers) -> None:
    answer = strict(sdk.responses.create(model="tiny", input="Hi", background=True))
    assert (answer.status, answer.background, answer.output, answer.usage) == ("queued", True, [], None)
    with sdk.responses.stream(response_id=answer.id) as stream:
        events = checked(stream)
        assert stream.get_final_response().output_text == "Hello"
    assert kinds(events)[:3] == ["created", "queued", "in_progress"]
    assert events[0].response.status == "queued"


@pytest.mark.parametrize("stream", [False, True])
def test_what_fails_before_a_word_has_never_been(sdk: openai.OpenAI, answers: FakeAnswers, stream: bool) -> None:
    answers.said = ()
    answers.end = lambda run: replace(broken(run), error_code="context_length_exceeded", error_message="too long")
    if stream:  # a silence begins the stream
        with sdk.responses.stream(model="tiny", input="Hi") as events:
            assert kinds(checked(events)) == ["created", "in_progress", "failed"]
        return
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.responses.create(model="tiny", input="Hi")
    assert (caught.value.code, caught.value.param, len(answers.deleted)) == ("context_length_exceeded", "input", 1)


def test_a_stream_waits_for_the_first_word(client: FlaskClient, answers: FakeAnswers) -> None:
    answers.said = ()
    answers.end = broken
    quick = answers.watch
    answers.watch = lambda *args: (change for change in quick(*args) if change is not None)  # type: ignore[method-assign,assignment]
    answer = client.post("/v1/responses", json={"model": "tiny", "input": "Hi", "stream": True})
    assert (answer.status_code, answer.get_json()["error"]["message"]) == (500, "it broke")
    assert len(answers.deleted) == 1


def test_one_that_fails_in_the_middle_is_kept(sdk: openai.OpenAI, answers: FakeAnswers) -> None:
    answers.end = broken
    answer = strict(sdk.responses.create(model="tiny", input="Hi"))
    assert answer.error is not None
    assert (answer.status, answer.error.code, answer.error.message) == ("failed", "server_error", "it broke")
    assert answers.deleted == []


def test_a_background_failure_is_told_by_the_response(sdk: openai.OpenAI, answers: FakeAnswers) -> None:
    answers.said, answers.end = (), broken
    events = checked(sdk.responses.create(model="tiny", input="Hi", background=True, stream=True))
    assert kinds(events) == ["created", "queued", "in_progress", "failed"]
    assert answers.deleted == []


def test_calls(sdk: openai.OpenAI, answers: FakeAnswers) -> None:
    calls = tuple(Call(id=f"call_{n}", name="get_weather", arguments=f'{{"place": "{n}"}}') for n in range(2))
    answers.said = (TextEvent("I look."),)
    answers.end = whole(wanted=calls)
    with sdk.responses.stream(model="tiny", input="Hi", tools=[FUNCTION]) as stream:
        events = checked(stream)
        final = stream.get_final_response()
    assert [item.type for item in final.output] == ["message", "function_call", "function_call"]
    assert [item.to_dict()["parsed_arguments"] for item in final.output[1:]] == [{"place": "0"}, {"place": "1"}]
    assert kinds(events)[-1] == "completed"
    assert final.output[1].id != final.output[2].id


def test_a_refusal(sdk: openai.OpenAI, answers: FakeAnswers) -> None:
    answers.end = whole(refusal="it is no object")
    events = checked(sdk.responses.create(model="tiny", input="Hi", stream=True))
    assert "refusal.done" in kinds(events)
    parts = events[-1].response.output[1].content
    assert [part.type for part in parts] == ["output_text", "refusal"]
    assert parts[1].refusal == "it is no object"


def test_a_cut(sdk: openai.OpenAI, answers: FakeAnswers) -> None:
    answers.end = cut
    events = checked(sdk.responses.create(model="tiny", input="Hi", stream=True))
    assert kinds(events)[-1] == "incomplete"
    assert events[-1].response.incomplete_details.reason == "max_output_tokens"


def test_log_probabilities_come_out_of_the_log(sdk: openai.OpenAI, answers: FakeAnswers) -> None:
    answers.said = (TextEvent("He", (LOGPROB,)), TextEvent("llo", (LOGPROB,)))
    answer = strict(sdk.responses.create(model="tiny", input="Hi", top_logprobs=1))
    assert answers.drafts[0].top_logprobs == 1
    parts = answer.to_dict()["output"][0]["content"]  # type: ignore[index,call-overload]
    assert parts[0]["logprobs"] == [LOGPROB, LOGPROB]  # type: ignore[index,call-overload]
    events = checked(sdk.responses.retrieve(answer.id, stream=True))
    assert events[-1].response.to_dict()["output"] == answer.to_dict()["output"]


def test_cancelling(sdk: openai.OpenAI, answers: FakeAnswers) -> None:
    answer = sdk.responses.create(model="tiny", input="Hi", background=True)
    assert strict(sdk.responses.cancel(answer.id)).status == "cancelled"
    assert sdk.responses.cancel(answer.id).status == "cancelled", "one that has ended is told as it is"
    assert answers.cancelled == [answer.id]
    events = checked(sdk.responses.retrieve(answer.id, stream=True))
    assert (kinds(events)[-1], events[-1].response.status) == ("incomplete", "cancelled")


def test_input_items(sdk: openai.OpenAI, answers: FakeAnswers) -> None:
    answer = sdk.responses.create(model="tiny", input="Hi")
    assert [item.id for item in sdk.responses.input_items.list(answer.id)] == ["msg_2", "msg_1", "msg_0"]
    page = sdk.responses.input_items.list(answer.id, limit=1, order="asc", after="msg_0")
    assert ([item.id for item in page.data], page.has_more) == (["msg_1"], True)


@pytest.mark.parametrize("part", ["input", "output"])
def test_a_line_that_nobody_can_read_costs_only_itself(
    sdk: openai.OpenAI, answers: FakeAnswers, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    answer = sdk.responses.create(model="tiny", input="Hi")
    odd = Message(id="msg_odd", thread_id=THREAD, created_ms=1, role="assistant", extra={"tool_calls": "edited"})
    monkeypatch.setattr(FakeAnswers, part, lambda *_: [odd])
    assert (sdk.responses.retrieve(answer.id).output == []) is (part == "output")
    assert (list(sdk.responses.input_items.list(answer.id)) == []) is (part == "input")


def test_deleting(sdk: openai.OpenAI, answers: FakeAnswers) -> None:
    answer = sdk.responses.create(model="tiny", input="Hi")
    sdk.responses.delete(answer.id)
    for ask in (sdk.responses.retrieve, sdk.responses.delete, sdk.responses.cancel, sdk.responses.input_items.list):
        with pytest.raises(openai.NotFoundError):
            ask(answer.id)


def test_an_error_of_the_stream_is_not_the_responses(client: FlaskClient, answers: FakeAnswers) -> None:
    answers.breaks_off = True
    answer = client.post("/v1/responses", json={"model": "tiny", "input": "Hi", "stream": True})
    pieces = answer.text.split("\n\n")
    assert pieces[-2].startswith("event: error\n")
    last = pieces[-3]
    number = last[last.index('"sequence_number":') :].split(":")[1].split(",")[0]
    assert f'"sequence_number":{number}' in pieces[-2], "whoever comes back behind it misses nothing"
    assert "the runner is gone" in pieces[-2]


def test_what_is_asked_for(sdk: openai.OpenAI, answers: FakeAnswers) -> None:
    answer = strict(
        sdk.responses.create(
            model="tiny",
            input="Hi",
            conversation={"id": "conv_01hf7yat00n3x8k2d5v7w9c4bm"},
            max_tool_calls=3,
            truncation="auto",
            service_tier="auto",
            prompt_cache_key="k",
            text={"verbosity": "low"},
            extra_body={"top_k": 3, "seed": 5},
        )
    )
    draft = answers.drafts[0]
    assert (draft.conversation, draft.truncates, draft.cache_key) == ("thread_01hf7yat00n3x8k2d5v7w9c4bm", True, "k")
    assert draft.parameters == {"top_k": 3, "seed": 5}
    assert answer.conversation is not None
    assert answer.conversation.id == "conv_01hf7yat00n3x8k2d5v7w9c4bm"
    assert (answer.max_tool_calls, answer.truncation, answer.service_tier) == (3, "auto", "default")
    assert answer.text is not None
    assert answer.text.verbosity == "low"


@pytest.mark.parametrize("query", ["stream=maybe", "stream=true&starting_after=-1", "include=x", "starting_after=x"])
def test_odd_queries(client: FlaskClient, answers: FakeAnswers, query: str) -> None:
    answers.create(AnswerDraft())
    assert answers._run is not None
    assert client.get(f"/v1/responses/{answers._run.id}?{query}").status_code == 400


def test_thoughts_between_words(sdk: openai.OpenAI, answers: FakeAnswers) -> None:
    answers.said = (ReasoningEvent("a"), TextEvent("b"), ReasoningEvent("c"), TextEvent("d"))
    with sdk.responses.stream(model="tiny", input="Hi") as stream:
        events = checked(stream)
        final = stream.get_final_response()
    thought, _ = final.output
    assert thought.type == "reasoning"
    assert thought.content is not None
    assert (thought.content[0].text, final.output_text) == ("ac", "bd")
    told = [event.text for event in events if event.type == "response.reasoning_text.done"]
    assert told == ["a", "ac"], "what goes on ends once more"
    assert [event.text for event in events if event.type == "response.output_text.done"] == ["bd"]
