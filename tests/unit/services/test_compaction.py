"""Compaction: which part of a conversation a summary stands for, how it is made, and what a client brings back."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from janflask.errors import (
    ContextLengthExceededError,
    EngineError,
    InvalidEncryptedContentError,
    TemplateGivenUpError,
)
from janflask.inference.backend import BackendInfo, Counted
from janflask.inference.backends import Backends
from janflask.inference.deltas import Done, Event, Finished, ReasoningDelta, Started, TextDelta
from janflask.inference.requests import ChatMessage, ChatRequest, TemplateRequest, TokenizeRequest
from janflask.inference.tries import Tries
from janflask.inference.waiting import Waiter
from janflask.ipc.messages.engine import MAX_TEXT
from janflask.ipc.messages.generation import Timings, Usage
from janflask.services import compaction
from janflask.services.compacted import shown, summary_turns, told
from janflask.services.compaction import Compaction, Compactions
from janflask.services.seals import Seals
from janflask.storage.items import (
    CALL_ID,
    CALLS,
    COMPACTION,
    REASONING,
    CallDraft,
    ItemDraft,
    ItemKind,
    OutputDraft,
    ReasoningDraft,
    SealedDraft,
    SummaryDraft,
    items_of,
    message_ids_of,
)
from janflask.storage.records import Message, MessageDraft, Run

WAITER, MODEL = Waiter(), "tiny"
RUN = Run(
    id="run_1",
    thread_id="t",
    assistant_id="jan",
    message_id="msg_1",
    step_id="step_1",
    created_ms=0,
    expires_ms=0,
    model=MODEL,
)
TIMINGS = Timings(cache_n=0, prompt_n=0, prompt_ms=0, predicted_n=0, predicted_ms=0, queue_ms=0)


@dataclass
class FakeModel:
    """Its tokens are words; what it is asked to sum up it answers by ``says``."""

    ctx_len: int | None = 800
    says: Sequence[str] = ("the ", "gist")
    requests: list[ChatRequest] = field(default_factory=list)
    counted: list[int] = field(default_factory=list)  # characters
    gives_up: bool = False

    def of(self, model_id: str) -> FakeModel:
        assert model_id == MODEL
        return self

    def info(self, waiter: Waiter) -> BackendInfo:
        return BackendInfo(self.ctx_len)

    def count(self, request: TemplateRequest | TokenizeRequest, waiter: Waiter, tries: Tries) -> Counted:
        if isinstance(request, TokenizeRequest):
            assert len(request.content) <= MAX_TEXT
            self.counted.append(len(request.content))
            return Counted(len(request.content.split()))
        if self.gives_up:
            raise TemplateGivenUpError("too long")
        return Counted(sum(len(message.text.split()) for message in request.messages))

    def chat(self, request: ChatRequest, waiter: Waiter, beat: float, tries: Tries) -> Iterator[list[Event]]:
        self.requests.append(request)
        number = len(self.requests)
        yield []
        yield [Started(7), ReasoningDelta(0, "hm"), *(TextDelta(0, f"{piece}") for piece in self.says)]
        usage = Usage(prompt_tokens=100 * number, completion_tokens=2, cached_tokens=number, reasoning_tokens=1)
        yield [Finished(0, "stop"), Done(usage, TIMINGS)]

    @property
    def asked(self) -> list[str]:
        """The words of each request."""
        return [request.messages[-1].text for request in self.requests]


class World:
    def __init__(self, folder: Path, **model: Any) -> None:
        self.model = FakeModel(**model)
        self.seals = Seals(folder)
        self.compactions = Compactions(cast(Backends, self.model), self.seals)

    def whole(self, messages: Sequence[Message], **more: Any) -> Compaction:
        return self.compactions.whole(MODEL, messages, WAITER, Tries(), **more)

    def older(self, messages: Sequence[Message], threshold: int) -> Compaction | None:
        return self.compactions.older(MODEL, messages, threshold, WAITER, Tries())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def message(number: int, role: str, text: str = "", **extra: Any) -> Message:
    content = ({"type": "text", "text": {"value": text, "annotations": []}},) if text else ()
    return Message(id=f"msg_{number}", thread_id="t", created_ms=number, role=role, content=content, extra=extra)


def call(number: int, *names: str, text: str = "") -> Message:
    calls = [
        {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": "{}"}} for name in names
    ]
    return message(number, "assistant", text, **{CALLS: calls})


def output(number: int, name: str, text: str) -> Message:
    return message(number, "tool", text, **{CALL_ID: f"call_{name}"})


def words(count: int, word: str = "w") -> str:
    return " ".join([word] * count)


def numbers(messages: Sequence[Message]) -> list[int]:
    return [int(item.id.removeprefix("msg_")) for item in messages]


TALK = [
    message(0, "system", "be kind"),
    message(1, "user", words(30, "first")),
    message(2, "assistant", words(30, "answer"), **{REASONING: "secret thoughts"}),
    message(3, "user", words(30, "second")),
    message(4, "assistant", words(30, "reply")),
    message(5, "user", "third"),
]


# --- which part -------------------------------------------------------------------------------------------------------


def kept_of(world: World, messages: Sequence[Message], threshold: int) -> list[int] | None:
    made = world.older(messages, threshold)
    return None if made is None else [int(name.removeprefix("msg_")) for name in made.kept]


def test_the_newest_quarter_of_the_threshold_stays_with_the_instructions(world: World) -> None:
    assert kept_of(world, TALK, 256) == [0, 3, 4, 5]  # a quarter are 64 tokens
    assert kept_of(world, TALK, 252) == [0, 5]  # never an answer without what it answers
    assert kept_of(world, TALK, 4) == [0, 5]  # the newest stays however long it is
    asked = world.model.asked
    assert "first" in asked[0]
    assert "second" not in asked[0]
    assert "second" in asked[1]
    assert "third" not in asked[1]
    assert not any("be kind" in text or "secret thoughts" in text for text in asked)


def test_the_threshold_is_no_more_than_what_leaves_room_to_answer(world: World) -> None:
    world.model.ctx_len = 160
    assert kept_of(world, TALK, 100_000) == [0, 5]  # a quarter of 120 tokens: 30, and a word of who says it


def test_calls_stay_with_their_outputs_and_with_what_the_user_asked_for(world: World) -> None:
    work = [
        message(0, "user", words(50, "old")),
        message(1, "assistant", "yes"),
        message(2, "user", "look"),
        message(3, "user", "everywhere"),
        call(4, "here"),
        output(5, "here", words(60, "long")),
        call(6, "there", "where", text="and"),
        output(7, "there", words(20, "found")),
        output(8, "where", words(20, "nothing")),
    ]
    assert kept_of(world, work, 40) == [2, 3, 6, 7, 8]
    assert "Call of here:\n{}" in world.model.asked[0]
    assert "long long" in world.model.asked[0]
    assert "old old" in world.model.asked[0]
    assert "look" not in world.model.asked[0]
    assert kept_of(world, work, 520) == [2, 3, 4, 5, 6, 7, 8]


def test_nothing_older_is_no_summary(world: World) -> None:
    for messages in ([], TALK[:2], TALK[1:2], [message(1, "assistant", "hi")], [message(1, "assistant"), TALK[1]]):
        assert kept_of(world, messages, 1) is None
    assert world.model.requests == []


def test_each_message_is_counted_once(world: World) -> None:
    world.model.ctx_len = None
    many = [message(number, "user" if number % 2 else "assistant", "a word") for number in range(2000)]
    world.older(many, 4 * 3 * 1000)
    assert len(world.model.counted) < 1100


# --- what a model is shown --------------------------------------------------------------------------------------------


def line(made: Compaction | None, number: int) -> Message:
    assert made is not None
    return replace(made.message(RUN), id=f"msg_{number}", created_ms=number)


def test_a_model_is_shown_the_newest_summary_and_what_it_keeps(world: World) -> None:
    first = line(world.older(TALK, 256), 6)
    assert numbers(shown([*TALK, first])) == [0, 6, 3, 4, 5]
    more = [*TALK, first, message(7, "assistant", words(30)), message(8, "user", "fourth")]
    assert numbers(shown(more)) == [0, 6, 3, 4, 5, 7, 8]
    second = line(world.older(shown(more), 4), 9)
    assert numbers(shown([*more, second])) == [0, 9, 8]
    assert "Summary of what was before:\nthe gist" in world.model.asked[-1]
    assert shown(TALK) == TALK
    assert shown([]) == []


def test_what_is_deleted_meanwhile_is_not_kept(world: World) -> None:
    made = line(world.older(TALK, 256), 6)
    assert numbers(shown([item for item in [*TALK, made] if item.id != "msg_4"])) == [0, 6, 3, 5]


@pytest.mark.parametrize("field", [{}, {"kept": None}, {"kept": "msg_1"}, {"kept": [1, "msg_5", {}]}])
def test_a_summary_that_somebody_wrote_by_hand_is_read_as_far_as_it_goes(field: dict[str, Any]) -> None:
    made = message(6, "assistant", "gist", **{COMPACTION: field})
    assert numbers(shown([*TALK, made])) == ([6, 5] if isinstance(field.get("kept"), list) else [6])


def test_turns_alternate_around_a_summary(world: World) -> None:
    made = line(world.older(TALK, 256), 6)
    assert [turn.role for turn in summary_turns(made)] == ["user", "assistant"]
    assert summary_turns(made)[1] == ChatMessage.of("assistant", "the gist")


def test_the_line_is_one_item(world: World) -> None:
    made = line(world.older(TALK, 256), 6)
    assert [(item.kind, item.id, item.text) for item in items_of(made)] == [(ItemKind.COMPACTION, "cmp_6", "the gist")]
    assert message_ids_of("cmp_6")[0] == "msg_6"
    assert made.run_id == "run_1"
    assert told(made) == "Summary of what was before:\nthe gist"


# --- when -------------------------------------------------------------------------------------------------------------


def test_it_is_due_above_the_threshold_or_three_quarters_of_the_context(world: World) -> None:
    def due(count: int, threshold: int) -> bool:
        prompt = TemplateRequest(model=MODEL, messages=(ChatMessage.of("user", words(count)),), tokenize=True)
        return world.compactions.due(prompt, threshold, WAITER, Tries())

    assert (due(100, 100), due(101, 100)) == (False, True)
    assert (due(600, 10_000), due(601, 10_000)) == (False, True)
    world.model.ctx_len = None
    assert not due(9000, 10_000)
    long = TemplateRequest(model=MODEL, messages=(ChatMessage.of("user", "w" * (MAX_TEXT + 1)),), tokenize=True)
    assert world.compactions.due(long, 10_000, WAITER, Tries())
    world.model.gives_up = True
    assert due(1, 100)


# --- how the model is asked -------------------------------------------------------------------------------------------


def test_it_is_asked_for_words_alone_and_for_few(world: World) -> None:
    made = world.whole(TALK, instructions="Speak like a pirate.")
    (request,) = world.model.requests
    assert request.max_tokens == 100  # an eighth of the context
    assert request.thought_tokens == 0
    assert not request.tools
    assert not request.keep_state
    assert [turn.role for turn in request.messages] == ["system", "user"]
    assert request.messages[0].text.endswith("Speak like a pirate.")
    assert made.usage == Usage(prompt_tokens=100, completion_tokens=2, cached_tokens=1, reasoning_tokens=1)


def test_what_is_longer_than_the_context_is_summed_up_in_parts(world: World) -> None:
    world.model.ctx_len = 300
    chance = random.Random(5)
    talk = [
        message(number, "user" if number % 2 else "assistant", f"n{number} " + words(chance.randrange(1, 90)))
        for number in range(40)
    ]
    talk.append(message(40, "user", "begin " + words(3000, "huge") + " end"))
    made = world.whole(talk)
    asked = world.model.asked
    assert len(asked) > 12
    for number, request in enumerate(world.model.requests):
        length = sum(len(turn.text.split()) for turn in request.messages)
        assert length + 37 <= 300
        assert ("Summary of what was before:\nthe gist" in asked[number]) == (number > 0)
    everything = " ".join(asked).split()
    for number in range(40):
        assert everything.count(f"n{number}") == 1
    assert everything.count("begin") == everything.count("end") == 1
    assert 2950 <= everything.count("huge") <= 3000  # a piece may begin in the middle of a word
    assert made.usage.prompt_tokens == 100 * sum(range(1, len(asked) + 1))
    assert made.usage.completion_tokens == 2 * len(asked)


def test_a_context_that_nobody_can_tell_is_taken_for_long_enough(world: World) -> None:
    world.model.ctx_len = None
    world.whole([message(1, "user", words(100_000))])
    assert len(world.model.requests) == 1
    assert world.model.requests[0].max_tokens == compaction.LONGEST


def test_a_context_without_room_is_told_of(world: World) -> None:
    world.model.ctx_len = 60
    with pytest.raises(ContextLengthExceededError, match="no room to sum up"):
        world.whole(TALK)


def test_a_model_that_says_nothing_is_an_error(world: World) -> None:
    world.model.says = (" ", "\n")
    with pytest.raises(EngineError, match="no summary") as caught:
        world.whole(TALK)
    assert caught.value.code == "compaction_failed"


def test_the_users_newest_words_stand_in_a_whole_compaction_as_they_are(world: World) -> None:
    world.model.ctx_len = 400  # 50 tokens of a summary
    made = world.whole(TALK)
    assert (
        made.text == f"The user's own words:\n\n{words(30, 'second')}\n\nthird\n\nWhat was said and done:\n\nthe gist"
    )
    assert made.kept == ("msg_0",)
    assert world.whole([message(1, "assistant", "hi")]).text == "the gist"


# --- what a client brings back ----------------------------------------------------------------------------------------


def test_a_compaction_brings_everything_that_it_kept(world: World) -> None:
    work = [
        *TALK,
        message(6, "developer", "in German"),
        message(7, "user", "look"),
        message(8, "assistant", "I look", **{REASONING: "hm"}),
        call(9, "here", text="now"),
        output(10, "here", "found"),
    ]
    made = world.older(work, 60)
    assert made is not None
    before, after = (
        MessageDraft(role="user", content=TALK[1].content),
        MessageDraft(role="user", content=TALK[3].content),
    )
    drafts, places = world.compactions.unsealed(
        [before, SealedDraft("compaction", made.encrypted_content), after], ["input.0", "input.1", "input.2"]
    )
    expected: list[ItemDraft] = [
        before,
        MessageDraft(role="system", content=work[0].content),
        MessageDraft(role="developer", content=work[6].content),
        SummaryDraft("the gist", made.encrypted_content, 2),
        MessageDraft(role="user", content=work[7].content),
        ReasoningDraft("hm"),
        MessageDraft(role="assistant", content=work[8].content),
        MessageDraft(role="assistant", content=work[9].content),
        CallDraft("call_here", "here", "{}"),
        OutputDraft("call_here", "found"),
        after,
    ]
    assert list(drafts) == expected
    assert list(places) == ["input.0", *["input.1"] * 9, "input.2"]


def test_one_that_is_not_ours_is_refused_by_its_place(world: World, tmp_path: Path) -> None:
    others = World(tmp_path / "others").whole(TALK).encrypted_content
    for content in (others, world.seals.sealed("thinking", json.dumps({"summary": "", "kept": []})), "", "gAAAA"):
        with pytest.raises(InvalidEncryptedContentError) as caught:
            world.compactions.unsealed(
                [ReasoningDraft("hm"), SealedDraft("compaction", content)], ["input.0", "input.1"]
            )
        assert caught.value.param == "input.1.encrypted_content"


def test_long_instructions_are_not_told(world: World) -> None:
    world.whole(TALK, instructions=words(100))
    world.whole(TALK, instructions=words(101))
    assert [request.messages[0].text.count("w w") > 0 for request in world.model.requests] == [True, False]
