"""Conversations outlive their slots: put away before they are lost, brought back instead of computed, never wrong."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from janflask.engine import loop as loops
from janflask.engine.conversations import WORTHWHILE
from janflask.engine.snapshots import Snapshots
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


def ask(bench, prompt: bytes, conversation: str | None = None, tokens: int = 8):
    sequence, sink = bench.ask(prompt, max_tokens=tokens, conversation=conversation)
    assert answered(bench, sink) == expected_text(prompt, tokens)
    return sequence


def kept(bench) -> None:
    """Waits until what is being written is on the disk."""
    bench.loop.conversations.finish([], LIMIT)


def files(tmp_path: Path) -> list[Path]:
    return list(tmp_path.rglob("*.kv"))


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


def test_a_request_without_a_conversation_leaves_nothing(make, tmp_path):
    bench = make()
    ask(bench, HISTORY)
    ask(bench, OTHER)
    bench.loop.stop()
    bench.loop.run()
    assert files(tmp_path) == []


def test_a_state_that_llama_refuses_is_computed(make):
    bench = make()
    ask(bench, HISTORY, "a")
    ask(bench, OTHER, "b")
    kept(bench)
    bench.context.refuses_states = True
    sequence = ask(bench, HISTORY + b"and then?", "a")
    assert sequence.n_cached == 0


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

    def slow(key, prompt, at_least):
        assert go_on.wait(LIMIT)
        return find(key, prompt, at_least)

    monkeypatch.setattr(snapshots, "find", slow)
    _, waiting = bench.ask(HISTORY + b"and then?", max_tokens=4, conversation="a")
    ask(bench, b"somebody else")
    assert not waiting.reasons
    go_on.set()
    assert answered(bench, waiting) == expected_text(HISTORY + b"and then?", 4)


def test_it_is_kept_once_the_engine_has_rested(make, tmp_path, monkeypatch):
    monkeypatch.setattr(loops, "REST_BEFORE_KEEPING", 0.01)
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


def test_random_conversations_over_few_slots_say_what_each_says_alone(make):
    for seed in range(8):
        rng = random.Random(seed)
        bench = make(slots=2, kv_cells=rng.choice([None, 1500]), can_trim=True)
        texts = {name: bytes(rng.choices(range(97, 123), k=200)) for name in "abcd"}
        for _ in range(25):
            name = rng.choice("abcd")
            if rng.random() < 0.2:
                texts[name] = texts[name][: rng.randrange(100, len(texts[name]))]
            texts[name] += bytes(rng.choices(range(97, 123), k=rng.randrange(1, 30)))
            ask(bench, texts[name], name, tokens=rng.randrange(1, 9))
            kept(bench)
        assert bench.loop.conversations.restored
