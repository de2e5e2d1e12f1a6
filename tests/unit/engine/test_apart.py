"""What was computed for one owner is never seen in how others are answered: neither by tokens nor by steps."""

from __future__ import annotations

import random
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from janflask.engine.prefix_cache import Placement, PrefixCache
from janflask.engine.scheduler import SHARE_AT_LEAST
from janflask.engine.slot import Origin
from janflask.engine.snapshots import HEAD, Snapshot, Snapshots
from janflask.engine.state_index import StateIndex
from janflask.files import kv_folder
from tests.fakes.fake_context import FakeContext
from tests.unit.engine.conftest import Bench, Collector

LIMIT = 20.0  # seconds
TALK = bytes(random.Random(1).choices(range(97, 123), k=400))
KEPT = 1 << 20  # bytes

Make = Callable[..., Bench]


def tokens(text: bytes) -> array[int]:
    return array("i", list(text))


def finished(bench: Bench, sink: Collector) -> None:
    """Steps until the answer is whole, and what is written is on the disk."""
    deadline = time.monotonic() + LIMIT
    while not sink.reasons:
        assert not sink.errors
        assert time.monotonic() < deadline
        if not bench.loop.step():
            time.sleep(0.0005)
    if bench.loop.conversations is not None:
        bench.loop.conversations.finish([], LIMIT)


def cached(bench: Bench, prompt: bytes, owner: str | None, **options: Any) -> int:
    """How many of the prompt's tokens were not computed."""
    sequence, sink = bench.ask(prompt, max_tokens=2, owner=owner, is_lasting=True, **options)
    finished(bench, sink)
    return sequence.n_cached


# --- where it lies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", ["two", None])
def test_in_a_slot(make_bench: Make, others: str | None) -> None:
    bench = make_bench(slots=4, ctx_len=1024)
    assert cached(bench, TALK, "one") == 0
    assert cached(bench, TALK, others) == 0
    assert cached(bench, TALK, "one") == len(TALK) - 1
    assert cached(bench, TALK, others) == len(TALK) - 1


def test_the_same_prompt_at_the_same_time(make_bench: Make) -> None:
    bench = make_bench(slots=4, ctx_len=1024)
    asked = [bench.ask(TALK, max_tokens=2, owner=owner) for owner in ("one", "two", "two")]
    for _, sink in asked:
        finished(bench, sink)
    first, second, third = (sequence.n_cached for sequence, _ in asked)
    assert (first, second) == (0, 0)
    assert third > len(TALK) - SHARE_AT_LEAST - bench.loop.limits.slice_size
    assert len(bench.context.steps[0]) == 2, "two compute, and the third waits for its owner's"


def test_in_memory(make_bench: Make) -> None:
    bench = make_bench(slots=1, ctx_len=1024, state_bytes=KEPT)
    for owner in ("one", "two"):
        assert cached(bench, TALK, owner) == 0
    for owner in ("one", "two"):
        assert cached(bench, TALK, owner) == len(TALK) - 1, "neither has taken the other's place"


@pytest.mark.parametrize("conversation", [None, "thread_1"])
def test_on_the_disk(make_bench: Make, tmp_path: Path, conversation: str | None) -> None:
    def engine() -> Bench:
        return make_bench(slots=1, ctx_len=1024, snapshots=Snapshots(tmp_path, "m", "f", KEPT))

    bench = engine()
    cached(bench, TALK, "one", conversation=conversation)
    assert cached(bench, TALK, "two", conversation=None) == 0
    cached(bench, b"something else" * 20, None)
    bench.loop.stop()
    bench.loop.run()
    bench = engine()
    assert cached(bench, TALK, None) == 0, "what is no key's is not found among keys', nor the other way round"
    assert cached(bench, TALK, "three") == 0
    assert cached(bench, TALK, "two") == len(TALK) - 1
    assert cached(bench, TALK, "one") == len(TALK) - 1


def test_a_conversation_that_is_given_to_another(make_bench: Make, tmp_path: Path) -> None:
    bench = make_bench(slots=1, ctx_len=1024, snapshots=Snapshots(tmp_path, "m", "f", KEPT))
    cached(bench, TALK, "one", conversation="thread_1")
    assert cached(bench, TALK + b"go on", "two", conversation="thread_1") == 0
    cached(bench, b"something else" * 20, "three")
    assert cached(bench, TALK + b"go on", "two") >= len(TALK), "its file is the new owner's"
    assert len([path for path in tmp_path.rglob("*.kv") if not kv_folder.is_nameless(path.name)]) == 1


def test_a_file_says_whose_it_is_under_its_signature(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path, "m", "f", KEPT)
    name = snapshots.announce(Snapshot(tokens(TALK), b"state", 10, owner="one"), Origin(10, "thread_1"))
    snapshots.save(name, Snapshot(tokens(TALK), b"state", 10, owner="one"))
    (path,) = tmp_path.rglob("*.kv")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"owner": "one"', b'"owner": "two"'))
    assert Snapshots(tmp_path, "m", "f", KEPT).find(tokens(TALK), 0, "two") is None
    for owner in (b"12345", b'["x"]'):
        assert len(b'"one"') == len(owner)
        path.write_bytes(whole.replace(b'"one"', owner))
        assert Snapshots(tmp_path, "m", "f", KEPT).index.n_tokens == 0, "no such owner can be"


def test_one_whose_owner_has_changed_behind_the_index_is_not_taken(tmp_path: Path) -> None:
    mine, another = Snapshots(tmp_path, "m", "f", KEPT), Snapshots(tmp_path, "m", "f", KEPT)
    state = Snapshot(tokens(TALK), b"state", 10, owner="one")
    name = mine.announce(state, Origin(10, "thread_1"))
    mine.save(name, state)
    another.save(name, Snapshot(tokens(TALK), b"other", 10, owner="two"))
    assert mine.find(tokens(TALK), 0, "one") is None
    found = mine.find(tokens(TALK), 0, "two")
    assert found is not None, "it is not lost"
    assert found.state == b"other"


def test_a_state_of_before_there_were_keys_is_nobodys(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path, "m", "f", KEPT)
    state = Snapshot(tokens(TALK), b"state", 10)
    snapshots.save(snapshots.announce(state, Origin(10, "thread_1")), state)
    (path,) = tmp_path.rglob("*.kv")
    with path.open("rb") as file:
        header = snapshots._head(file).header
    older = header.replace(b'"owner": null, ', b"")
    assert older != header
    proof = snapshots._proof(path.name, older, memoryview(tokens(TALK)).cast("B"), b"state")
    rest = path.read_bytes()[HEAD.size + len(header) :]
    path.write_bytes(HEAD.pack(b"JFK4", len(older), proof) + older + rest)
    fresh = Snapshots(tmp_path, "m", "f", KEPT)
    assert fresh.find(tokens(TALK), 0, "one") is None
    assert fresh.find(tokens(TALK), 0) is not None


def test_a_slot_that_is_anothers_is_refused() -> None:
    cache = PrefixCache(2)
    cache.take(Placement(0, 0), "one")
    cache.append(0, tokens(TALK))
    with pytest.raises(RuntimeError):
        cache.take(Placement(1, 10, copy_from=0), "two")
    cache.release(0)
    with pytest.raises(RuntimeError):
        cache.take(Placement(0, 10), None)


def test_what_one_owner_leaves_makes_no_others_useless() -> None:
    index = StateIndex()
    index.put("short", tokens(TALK[:200]), owner="one")
    index.put("long", tokens(TALK), owner="two")
    assert index.surpassed(tokens(TALK), "two") == ["long"]
    assert index.held(tokens(TALK), "one") == 200
    assert index.best(tokens(TALK), 0, "three") is None
    index.drop("short")
    index.drop("long")
    assert not index._orders, "nothing is left of an owner"


# --- two worlds -------------------------------------------------------------------------------------------------------

SMALL = 13  # letters
A, B = range(97, 97 + SMALL), range(97 + SMALL, 97 + 2 * SMALL)


def told(make_bench: Make, folder: Path, seed: int, letters: range, **options: Any) -> list[tuple[int, int]]:
    """What one owner can see while another asks: of each prompt the tokens that were there, and the steps it took.

    The other's prompts are made of ``letters``; where these are the first one's own, they are mostly the same prompts.
    """
    rng = random.Random(seed)
    bench = make_bench(model=lambda *_: ord("0"), ctx_len=1024, **options)
    words = bytes(rng.choices(range(SMALL), k=300))
    own: list[bytes] = [words]
    seen = []
    for _ in range(30):
        one = rng.choice(own)[: rng.randrange(100, 300)] + bytes(rng.choices(range(SMALL), k=rng.randrange(60)))
        other = one if rng.random() < 0.7 else rng.choice(own)
        own.append(one)
        order = rng.random() < 0.5
        count = rng.randrange(1, 9)
        asked = []
        for is_other in (order, not order):
            text, alphabet = (other, letters) if is_other else (one, A)
            prompt = bytes(alphabet[letter] for letter in text)
            owner = "other" if is_other else "one"
            began = len(bench.context.steps)
            asked.append((is_other, began, *bench.ask(prompt, max_tokens=count, owner=owner, is_lasting=True)))
            if folder.exists() or rng.random() < 0.3:
                finished(bench, asked[-1][3])
        for is_other, began, sequence, sink in asked:
            finished(bench, sink)
            if not is_other:
                seen.append((sequence.n_cached, len(bench.context.steps) - began))
    return seen


@pytest.mark.parametrize("can_trim", [True, False], ids=["plain", "uncut"])
@pytest.mark.parametrize("seed", range(8))
def test_it_makes_no_difference_what_another_asks(
    make_bench: Make, tmp_path: Path, seed: int, can_trim: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeContext, "eog", {98, 98 + SMALL})
    rng = random.Random(seed)
    options: dict[str, Any] = {
        "slots": rng.choice([1, 2, 4]),
        "state_bytes": rng.choice([0, 3000, KEPT]),
        "kv_cells": rng.choice([None, 1200]),
        "can_trim": can_trim,
    }
    on_disk = rng.random() < 0.6
    seen = []
    for name, letters in (("same", A), ("different", B)):
        folder = tmp_path / name
        if on_disk:
            options["snapshots"] = Snapshots(folder, "m", "f", KEPT if seed % 2 else 5000, can_trim=can_trim)
        seen.append(told(make_bench, folder, seed, letters, **options))
    assert seen[0] == seen[1]
    assert not can_trim or any(count for count, _ in seen[0])
