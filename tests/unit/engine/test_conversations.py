"""Conversations outlive their slots: put away before they are lost, brought back instead of computed, never wrong."""

from __future__ import annotations

import random
import threading
import time
from array import array
from pathlib import Path

import pytest

from janflask.engine import keep_states
from janflask.engine.conversations import LEAST_NAMELESS
from janflask.engine.keep_states import KeepStates
from janflask.engine.server import _is_lasting
from janflask.engine.snapshots import Snapshots
from janflask.engine.state_index import WORTHWHILE
from janflask.files import kv_folder
from janflask.ipc.messages.generation import GenerateRequest
from tests.fakes.fake_context import expected_text

LIMIT = 20.0  # seconds
HISTORY = bytes(random.Random(1).choices(range(97, 123), k=400))
OTHER = bytes(random.Random(2).choices(range(97, 123), k=400))


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    return Snapshots(tmp_path / "kv", "m", "fingerprint", 1 << 24)


@pytest.fixture
def make(make_bench, snapshots):
    def with_snapshots(**options):
        return make_bench(**{"slots": 1, "ctx_len": 1024, "snapshots": snapshots} | options)

    return with_snapshots


def answered(bench, sink) -> str:
    """Steps until the answer is whole; the disk has a thread of its own, so the loop may have nothing to do yet."""
    deadline = time.monotonic() + LIMIT
    while not sink.reasons and not sink.errors:
        if not bench.loop.step():
            time.sleep(0.001)
        assert time.monotonic() < deadline
    assert not sink.errors
    return sink.texts.get(0, "")


def ask(bench, prompt: bytes, conversation: str | None = None, tokens: int = 8, **options):
    sequence, sink = bench.ask(prompt, max_tokens=tokens, conversation=conversation, **options)
    assert answered(bench, sink) == expected_text(prompt, tokens)
    return sequence


def kept(bench) -> None:
    """Waits until what is being written is on the disk."""
    bench.loop.conversations.finish([], LIMIT)


def files(tmp_path: Path) -> list[Path]:
    return list(tmp_path.rglob("*.kv"))


def reads(snapshots, monkeypatch) -> list[array[int]]:
    """The prompts for which the disk is asked from now on."""
    read: list[array[int]] = []
    find = snapshots.find
    monkeypatch.setattr(snapshots, "find", lambda prompt, *rest: read.append(prompt) or find(prompt, *rest))
    return read


def test_an_evicted_conversation_is_not_computed_again(make):
    bench = make()
    ask(bench, HISTORY, "a")
    ask(bench, OTHER, "b")  # takes the only slot
    kept(bench)
    before = bench.context.computed
    sequence = ask(bench, HISTORY + b"and then?", "a")
    assert sequence.n_cached >= len(HISTORY)
    assert bench.context.computed - before < 40
    assert bench.loop.conversations.restored == 1


def test_it_outlives_its_engine(make):
    first = make()
    ask(first, HISTORY, "a")
    first.loop.stop()
    first.loop.run()
    second = make()
    sequence = ask(second, HISTORY + b"and then?", "a")
    assert sequence.n_cached >= len(HISTORY)
    assert second.context.computed < 40


def test_an_edited_history_uses_what_is_still_the_same(make):
    bench = make()
    ask(bench, HISTORY, "a")
    ask(bench, OTHER, "b")
    kept(bench)
    edited = HISTORY[:300] + b"something else" + HISTORY[300:]
    sequence = ask(bench, edited, "a")
    assert sequence.n_cached == 300


def test_too_little_in_common_is_computed(make):
    bench = make()
    ask(bench, HISTORY, "a")
    ask(bench, OTHER, "b")
    kept(bench)
    sequence = ask(bench, HISTORY[: WORTHWHILE - 1] + OTHER, "a")
    assert sequence.n_cached == 0


def test_what_a_slot_still_holds_is_not_read_from_the_disk(make):
    bench = make(slots=2)
    ask(bench, HISTORY, "a")
    ask(bench, HISTORY + b"more", "a")
    assert bench.loop.conversations.restored == 0


def test_a_short_one_is_not_kept(make, tmp_path):
    bench = make()
    ask(bench, b"hello", "a")
    ask(bench, OTHER, "b")
    kept(bench)
    assert files(tmp_path) == []


def test_one_that_is_to_leave_nothing_leaves_nothing(make, tmp_path):
    bench = make()
    ask(bench, HISTORY)
    ask(bench, OTHER)
    bench.loop.stop()
    bench.loop.run()
    assert files(tmp_path) == []


# --- without a name ---------------------------------------------------------------------------------------------------


def chat(bench, prompt: bytes, tokens: int = 8):
    """A request that names no conversation, and whose state may be kept."""
    return ask(bench, prompt, None, tokens, is_lasting=True)


def test_two_that_alternate_on_one_slot_compute_what_is_new(make, tmp_path):
    bench = make()
    texts = [HISTORY, OTHER]
    for text in texts:
        chat(bench, text)
    for number in range(8):
        before = bench.context.computed
        text = texts[number % 2] + expected_text(texts[number % 2], 8).encode() + b" a tool's words: " + HISTORY[:60]
        assert chat(bench, text).n_prompt > 400
        texts[number % 2] = text
        assert bench.context.computed - before < 100
    kept(bench)
    assert len(files(tmp_path)) == 2, "what goes on takes the place of what it came from"


def test_one_without_a_name_outlives_its_engine(make):
    first = make()
    chat(first, HISTORY)
    first.loop.stop()
    first.loop.run()
    second = make()
    assert chat(second, HISTORY + expected_text(HISTORY, 8).encode() + b"and then?").n_cached >= len(HISTORY)


def test_a_prompt_finds_what_a_conversation_left_and_the_other_way_round(make):
    bench = make()
    ask(bench, HISTORY, "a")
    chat(bench, OTHER)
    assert chat(bench, HISTORY + b"and then?").n_cached >= len(HISTORY)
    assert ask(bench, OTHER + b"and now?", "b").n_cached >= len(OTHER)
    assert bench.loop.conversations.restored == 2


@pytest.mark.parametrize(
    ("asked", "lasts"),
    [
        ({}, True),
        ({"keep_state": False}, False),
        ({"cache_prompt": False}, False),
        ({"keep_state": False, "cache_prompt": False, "conversation": "a"}, True),
        ({"n": 2}, False),
        ({"n": 2, "conversation": "a"}, False),
    ],
)
def test_which_requests_leave_something(asked: dict[str, object], lasts: bool):
    assert _is_lasting(GenerateRequest(prompt="x", **asked)) == lasts


def test_small_ones_without_a_name_are_not_kept(make, tmp_path):
    bench = make()
    chat(bench, HISTORY[: LEAST_NAMELESS - 20])
    chat(bench, OTHER)
    kept(bench)
    assert files(tmp_path) == []


def test_what_is_there_but_for_a_few_tokens_is_not_written_again(make, tmp_path):
    bench = make()
    chat(bench, HISTORY)
    ask(bench, OTHER, None)
    kept(bench)
    (path,) = files(tmp_path)
    chat(bench, HISTORY + b"1", tokens=1)
    ask(bench, OTHER, None)
    kept(bench)
    assert files(tmp_path) == [path]


def test_one_that_is_to_leave_nothing_does_not_cost_what_its_slot_held(make, tmp_path):
    bench = make()
    chat(bench, HISTORY)
    ask(bench, HISTORY + b"in private", None, is_lasting=False)
    kept(bench)
    (path,) = files(tmp_path)
    ask(bench, OTHER, None)
    kept(bench)
    assert files(tmp_path) == [path]


def test_a_deleted_conversations_state_is_found_by_nobody(make, tmp_path):
    bench = make()
    ask(bench, HISTORY, "a")
    ask(bench, OTHER, "b")
    kept(bench)
    kv_folder.forget(tmp_path, "a")
    assert chat(bench, HISTORY + b"and then?").n_cached == 0


def test_of_many_that_wait_no_more_are_read_than_there_are_slots(make, snapshots, monkeypatch):
    bench = make()
    ask(bench, HISTORY, "a")
    ask(bench, OTHER, "b")
    kept(bench)
    read = reads(snapshots, monkeypatch)
    prompts = [HISTORY + bytes([97 + i]) * 9 for i in range(6)]
    sinks = [bench.ask(prompt, max_tokens=3, is_lasting=True)[1] for prompt in prompts]
    bench.loop.step()
    assert len(read) <= 1
    for prompt, sink in zip(prompts, sinks, strict=True):
        assert answered(bench, sink) == expected_text(prompt, 3)
    assert len(read) == 1, "the others find it in the slot"


def test_while_the_disk_reads_for_somebody_there_are_no_chores(make, snapshots, monkeypatch):
    class Busy:
        """A chore that is due at once, and ends the loop."""

        def due(self, rested: float) -> float | None:
            return 0.0

        def piece(self) -> None:
            began.set()
            bench.loop.stop()

    bench, began, find = make(), threading.Event(), snapshots.find
    ask(bench, HISTORY, "a")
    ask(bench, OTHER, "b")
    kept(bench)
    bench.loop.chores = [Busy()]
    monkeypatch.setattr(snapshots, "find", lambda *of: began.wait(0.2) or find(*of))
    sequence, sink = bench.ask(HISTORY + b"and then?", max_tokens=3, is_lasting=True)
    bench.loop.run()
    assert sink.reasons, "it was answered first"
    assert sequence.n_cached >= len(HISTORY), "by what was read"
    assert began.is_set()


def test_one_that_lost_its_slot_while_it_waited_is_read(make):
    bench = make()
    chat(bench, HISTORY)
    _, other = bench.ask(OTHER, max_tokens=3, is_lasting=True)  # it takes the slot first
    sequence, sink = bench.ask(HISTORY + b"and then?", max_tokens=3, is_lasting=True)
    answered(bench, other)
    answered(bench, sink)
    assert sequence.n_cached >= len(HISTORY)


def test_while_the_disk_turns_to_other_settings_nothing_of_the_old_ones_counts(make, snapshots, monkeypatch, tmp_path):
    bench = make()
    ask(bench, HISTORY, "a", is_lasting=True)
    ask(bench, OTHER, "b", is_lasting=True)
    kept(bench)
    may_turn, turn_to = threading.Event(), snapshots.turn_to
    monkeypatch.setattr(snapshots, "turn_to", lambda mark: may_turn.wait(LIMIT) and turn_to(mark))
    bench.loop.forget_all()
    bench.loop.conversations.turn_to("another")
    try:
        sequence, _ = bench.ask(HISTORY, max_tokens=8, conversation="a", is_lasting=True)
        bench.loop.step()
        assert not sequence.recalling, "there is nothing that could be read for it"
        bench.drain()
        ask(bench, OTHER, "b", is_lasting=True)  # "a" loses its slot
    finally:
        may_turn.set()
    kept(bench)
    fresh = make(snapshots=Snapshots(tmp_path / "kv", "m", "another", 1 << 24))
    assert chat(fresh, HISTORY + b"and then?").n_cached >= len(HISTORY), "it was written, although an old file had it"


def test_what_the_disk_thread_stumbles_over_costs_a_computation_only(make, snapshots, monkeypatch):
    bench = make()
    ask(bench, HISTORY, "a")
    ask(bench, OTHER, "b")
    kept(bench)

    def fails(prompt, here):
        raise MemoryError

    monkeypatch.setattr(snapshots, "find", fails)
    assert ask(bench, HISTORY + b"and then?", "a").n_cached == 0


def test_what_it_stumbles_over_when_it_writes_costs_no_answer(make, snapshots, monkeypatch, caplog):
    bench = make()

    def fails(name, snapshot):
        raise MemoryError

    monkeypatch.setattr(snapshots, "save", fails)
    ask(bench, HISTORY, "a", is_lasting=True)
    ask(bench, OTHER, "b", is_lasting=True)
    kept(bench)
    assert bench.loop.conversations.disk_fails
    assert "MemoryError" in caplog.text
    ask(bench, HISTORY, "a", is_lasting=True)


def test_an_answer_that_the_engines_end_cut_is_kept(make):
    first = make()
    first.ask(HISTORY, max_tokens=500, is_lasting=True)
    for _ in range(20):
        first.loop.step()
    first.loop.stop()
    first.loop.run()
    assert chat(make(), HISTORY + b"and then?").n_cached >= len(HISTORY)


def test_a_state_that_llama_refuses_is_computed(make):
    bench = make()
    ask(bench, HISTORY, "a")
    ask(bench, OTHER, "b")
    kept(bench)
    bench.context.refuses_states = True
    sequence = ask(bench, HISTORY + b"and then?", "a")
    assert sequence.n_cached == 0


def test_a_file_that_llama_refuses_is_read_once(make, snapshots, monkeypatch, tmp_path):
    bench = make()
    ask(bench, HISTORY, "a")
    ask(bench, OTHER, "b")
    kept(bench)
    read = reads(snapshots, monkeypatch)
    bench.context.refuses_states = True
    for number in range(4):
        assert ask(bench, HISTORY + b"and then?" * number, None).n_cached < WORTHWHILE * (number + 1)
        ask(bench, bytes(reversed(OTHER)), None)
    assert len(read) == 1
    bench.context.refuses_states = False
    ask(bench, HISTORY, "a")
    ask(bench, OTHER, "c")
    kept(bench)
    assert ask(bench, HISTORY + b"and then?", "a").n_cached >= len(HISTORY), "it was written anew"


def test_what_the_disk_did_not_take_is_tried_again_ever_less_often(make, snapshots, monkeypatch):
    bench = make()
    tries = []

    def full(*_):
        tries.append(now)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshots, "_write", full)
    ask(bench, HISTORY, "a")
    chore = KeepStates(bench.loop.conversations, bench.loop.scheduler.cache)
    for now in range(100):
        if chore.due(float(now)) == 0:
            chore.piece()
            kept(bench)
    assert tries == [3, 6, 12, 24, 48, 96]
    monkeypatch.undo()
    kept(bench)
    for now in range(100, 200):
        if chore.due(float(now)) == 0:
            chore.piece()
            kept(bench)
    assert snapshots.find(bench.loop.scheduler.cache.slots[0].tokens, 0) is not None
    assert chore.due(200.0) is None


@pytest.mark.parametrize(("state_bytes", "written"), [(1 << 20, 4), (2000, 3), (0, 2)])
def test_what_a_slow_disk_has_no_time_for_waits_in_memory(make, snapshots, monkeypatch, state_bytes, written):
    """Two wait for the disk as they are; of those after them as many as there is memory for."""
    go_on = threading.Event()
    save = snapshots.save

    def slow(*given):
        assert go_on.wait(LIMIT)
        return save(*given)

    monkeypatch.setattr(snapshots, "save", slow)
    bench = make(state_bytes=state_bytes)
    texts = [bytes(random.Random(number).choices(range(97, 123), k=400)) for number in range(5)]
    for number, text in enumerate(texts):
        ask(bench, text, str(number))
    go_on.set()
    kept(bench)
    monkeypatch.undo()
    assert sum(ask(make(), text + b"and then?").n_cached > 0 for text in texts) == written


def test_a_cancelled_one_that_waits_for_the_disk_is_gone(make):
    bench = make()
    ask(bench, HISTORY, "a")
    ask(bench, OTHER, "b")
    kept(bench)
    sequence, sink = bench.ask(HISTORY + b"x", max_tokens=3, conversation="a")
    bench.loop.cancel([sequence])
    ask(bench, b"another", None)
    assert not sink.reasons
    assert bench.loop.scheduler.idle


def test_others_pass_while_the_disk_is_read(make, snapshots, monkeypatch):
    bench = make(slots=2)
    ask(bench, HISTORY, "a")
    ask(bench, OTHER, "b")
    ask(bench, OTHER[::-1], "c")
    kept(bench)
    go_on = threading.Event()
    find = snapshots.find

    def slow(prompt, here):
        assert go_on.wait(LIMIT)
        return find(prompt, here)

    monkeypatch.setattr(snapshots, "find", slow)
    _, waiting = bench.ask(HISTORY + b"and then?", max_tokens=4, conversation="a")
    ask(bench, b"somebody else")
    assert not waiting.reasons
    go_on.set()
    assert answered(bench, waiting) == expected_text(HISTORY + b"and then?", 4)


def test_it_is_kept_once_the_engine_has_rested(make, tmp_path, monkeypatch):
    monkeypatch.setattr(keep_states, "REST", 0.01)
    bench = make()
    running = threading.Thread(target=bench.loop.run)
    running.start()
    _, sink = bench.ask(HISTORY, max_tokens=4, conversation="a")
    deadline = time.monotonic() + LIMIT
    while not files(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert len(files(tmp_path)) == 1
    assert sink.texts[0] == expected_text(HISTORY, 4)
    bench.loop.stop()
    running.join(LIMIT)


@pytest.mark.parametrize("named", ["abcd", "ab", ""])
def test_random_conversations_over_few_slots_say_what_each_says_alone(make, named):
    for seed in range(8):
        rng = random.Random(seed)
        bench = make(slots=2, kv_cells=rng.choice([None, 1500]), can_trim=True)
        texts = {name: bytes(rng.choices(range(97, 123), k=300)) for name in "abcd"}
        for _ in range(25):
            name = rng.choice("abcd")
            if rng.random() < 0.2:
                texts[name] = texts[name][: rng.randrange(100, len(texts[name]))]
            texts[name] += bytes(rng.choices(range(97, 123), k=rng.randrange(1, 30)))
            ask(bench, texts[name], name if name in named else None, tokens=rng.randrange(1, 9), is_lasting=True)
            kept(bench)
        assert bench.loop.conversations.restored
