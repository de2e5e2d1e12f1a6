"""Threads with lines that came as items are answered by runs, and what runs make is seen as items."""

from __future__ import annotations

from dataclasses import replace

from janflask.inference.parts import ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from janflask.services.items import drafted
from janflask.storage.items import CallDraft, Item, ItemDraft, OutputDraft, ReasoningDraft, readable_items
from janflask.storage.records import MessageDraft, Run, RunStatus, text_part
from tests.unit.runner.run_world import CONTEXT, RunWorld, calling, saying

TOOLS = {"tools": ({"type": "function", "function": {"name": "look"}},)}
THOUGHT, CALL, OUTPUT = ReasoningDraft("Hm"), CallDraft("c1", "look", "{}"), OutputDraft("c1", "blue")


def said(text: str, role: str = "user") -> MessageDraft:
    return MessageDraft(role=role, content=(text_part(text),))


def added(world: RunWorld, thread_id: str, *drafts: ItemDraft) -> None:
    def unknown(item_id: str) -> Item:
        raise AssertionError(item_id)

    before = list(world.repository.threads.all_messages(thread_id))
    places = [""] * len(drafts)
    lines = drafted(thread_id, drafts, places, unknown, max_bytes=1 << 20, before=before)
    world.repository.threads.append(thread_id, lines)


def kinds(world: RunWorld, thread_id: str) -> list[str]:
    return [
        f"{item.kind} {item.text or (item.call.name if item.call else '')}".strip()
        for line in world.repository.threads.all_messages(thread_id)
        for item in readable_items(line)
    ]


def shown(world: RunWorld) -> list[object]:
    return [(turn.role, *turn.parts) for turn in world.model.requests[-1].messages]


def test_a_thread_goes_on_through_items_and_runs_and_back() -> None:
    world = RunWorld(calling(("r1", "look", "{}"), thought="Hm"), saying("It is blue."), saying("Still."))
    thread_id = world.thread()
    added(world, thread_id, said("How is it?"), THOUGHT, CALL, OUTPUT)
    run = world.run(thread_id, **TOOLS)
    world.waiting(run)
    called = [("user", TextPart("How is it?")), ("assistant", ReasoningPart("Hm"), ToolCallPart("c1", "look", "{}"))]
    assert shown(world) == [*called, ("tool", ToolResultPart("blue", "c1"))], "with what it thought on the way"
    world.submit(run, r1="grey")
    assert world.done(run).status is RunStatus.COMPLETED
    added(world, thread_id, said("And now?"), CALL, OUTPUT)
    assert world.done(world.run(thread_id)).status is RunStatus.COMPLETED
    assert shown(world) == [
        ("user", TextPart("How is it?")),
        ("assistant", ToolCallPart("c1", "look", "{}")),
        ("tool", ToolResultPart("blue", "c1")),
        ("assistant", ToolCallPart("r1", "look", "{}")),
        ("tool", ToolResultPart("grey", "r1")),
        ("assistant", TextPart("It is blue.")),
        ("user", TextPart("And now?")),
        ("assistant", ToolCallPart("c1", "look", "{}")),
        ("tool", ToolResultPart("blue", "c1")),
    ]
    assert kinds(world, thread_id) == [
        "message How is it?",
        "reasoning Hm",
        "function_call look",
        "function_call_output blue",
        "function_call look",
        "function_call_output grey",
        "message It is blue.",
        "message And now?",
        "function_call look",
        "function_call_output blue",
        "message Still.",
    ]


def test_what_does_not_fit_goes_with_its_calls() -> None:
    """What a user says before a call is answered begins no window: its output would be shown without it."""
    world = RunWorld(saying("ok"))
    thread_id = world.thread()
    long = " ".join(["word"] * (CONTEXT // 2))
    added(world, thread_id, said(long), said(long, "assistant"), said("Look!"), CALL, said("Well?"), OUTPUT)
    run: Run = world.done(world.run(thread_id))
    assert run.status is RunStatus.COMPLETED
    assert [turn.role for turn in world.model.requests[-1].messages] == ["user", "assistant", "user", "tool"]
    assert len(run.left_out) == 2


def test_calls_that_nobody_can_read_fail_the_run_by_name() -> None:
    world = RunWorld(saying("ok"))
    thread_id = world.thread("Hi")
    added(world, thread_id, CALL)
    last = list(world.repository.threads.all_messages(thread_id))[-1]

    broken = replace(last, extra={"tool_calls": [{"id": "c1"}]})
    world.repository.threads.update_message(thread_id, last.id, lambda _: broken)
    run = world.done(world.run(thread_id))
    assert (run.status, run.error_code) == (RunStatus.FAILED, "invalid_prompt")
    assert last.id in str(run.error_message)
    assert world.model.requests == []
