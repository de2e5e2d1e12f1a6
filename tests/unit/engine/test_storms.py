"""Everything at once, by chance: edits, branches, cancellations, preemptions, restarts, full disks, rests, little room.

Whatever happens, each answer is what its prompt alone brings; budgets are kept, no slot is lost, and nobody goes on
from what only another owner has asked.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from janflask.engine.giving_back import GiveBack
from janflask.engine.keep_states import KeepStates
from janflask.engine.prefix_cache import common_prefix
from janflask.engine.sequence import Sequence
from janflask.engine.snapshots import Snapshots
from janflask.files import kv_folder
from tests.fakes.fake_context import EOG, FakeContext, expected_text
from tests.unit.engine.conftest import Bench, Collector
from tests.unit.engine.test_giving_back import FakePages, Memory

LIMIT = 30.0  # seconds that a round may take
MOST = 400  # tokens of a conversation
SLOTS = 3
END = ord(" ")  # ends a message here
OWNERS = dict(zip("abcdef", ("one", "one", "two", "two", None, None), strict=True))  # of the conversations


class FlakyDisk(Snapshots):
    """It is full now and then."""

    is_full = False

    def _write(self, *given: Any) -> bool:
        if self.is_full:
            raise OSError(28, "No space left on device")
        return super()._write(*given)


class Storm:
    """Conversations, and the engine of the moment."""

    def __init__(self, make_bench: Any, folder: Path, seed: int, *, can_trim: bool) -> None:
        self.rng = random.Random(seed)
        self.make_bench = make_bench
        self.folder = folder
        self.can_trim = can_trim
        self.disk_bytes = self.rng.choice([0, 6000, 1 << 20])
        self.state_bytes = self.rng.choice([0, 900, 8000, 1 << 20])
        self.kv_cells = self.rng.choice([None, 900, 640])
        self.texts = {name: self._words(150) for name in "abcdef"}
        self.tag = 0
        self.restored = 0
        self.asked: list[Sequence] = []
        self.start()

    def _words(self, count: int) -> bytes:
        letters = self.rng.choices(range(97, 123), k=count)
        return bytes(END if number % 23 == 22 else letter for number, letter in enumerate(letters)) + b" "

    def start(self) -> None:
        """Another engine on what the one before left."""
        self.snapshots = (
            FlakyDisk(self.folder / "kv", "m", "f", self.disk_bytes, can_trim=self.can_trim)
            if self.disk_bytes
            else None
        )
        self.bench: Bench = self.make_bench(
            slots=SLOTS,
            ctx_len=1024,
            kv_cells=self.kv_cells,
            can_trim=self.can_trim,
            snapshots=self.snapshots,
            state_bytes=self.state_bytes,
        )
        loop = self.bench.loop
        self.pages = FakePages(self.bench, is_by_slot=self.kv_cells is None)
        memory = Memory(self.bench, self.pages)
        loop.chores.append(GiveBack(memory, loop.scheduler.cache, loop.conversations, least_bytes=0))

    # --- what happens -------------------------------------------------------------------------------------------

    def round(self) -> None:
        """A few ask at once, some of whom go away; then something else happens."""
        asked = []
        for name in self.rng.sample(sorted(self.texts), self.rng.randrange(1, 6)):
            self._change(name)
            asked.append((name, self.texts[name], *self._ask(name)))
        for entry in list(asked):
            if self.rng.random() < 0.25:
                for _ in range(self.rng.randrange(5)):
                    self.bench.loop.step()
                self.bench.loop.cancel([entry[2]])
                asked.remove(entry)
        self._until(lambda: all(sink.reasons or sink.errors for *_, sink in asked))
        for name, prompt, sequence, sink in asked:
            assert not sink.errors
            said = sink.texts.get(0, "")
            assert said == expected_text(prompt, sequence.max_tokens)
            self.texts[name] = prompt + said.encode() + b" "
        self._until(lambda: self.bench.loop.scheduler.idle)
        self.check()
        self.check_owners()
        self.rng.choice([self.rest, self.restart, self.be_killed, self.fail, self.forget, *[lambda: None] * 5])()

    def _change(self, name: str) -> None:
        text = self.texts[name]
        how = self.rng.random()
        if len(text) > MOST:
            text = text[: self.rng.randrange(100, 200)]
        elif how < 0.3:
            text = text[: self.rng.randrange(80, len(text))]
        elif how < 0.4:
            text = self.texts[self.rng.choice(sorted(self.texts))][: self.rng.randrange(80, MOST)]
        self.texts[name] = text + self._words(self.rng.randrange(1, 60))

    def _ask(self, name: str) -> tuple[Any, Collector]:
        how = self.rng.random()
        asked = self.bench.ask(
            self.texts[name],
            owner=OWNERS[name],
            max_tokens=self.rng.choice([1, 5, 12, 100]),
            conversation=f"{name}{self.tag}" if how < 0.5 else None,
            is_lasting=how < 0.8,
            cache_prompt=self.rng.random() < 0.9,
        )
        self.asked.append(asked[0])
        return asked

    def _until(self, is_so: Any) -> None:
        """Steps; the disk has a thread of its own, so there may be nothing to do yet."""
        deadline = time.monotonic() + LIMIT
        while not is_so():
            assert time.monotonic() < deadline
            if not self.bench.loop.step():
                time.sleep(0.0005)

    def rest(self) -> None:
        """Long enough for every chore."""
        conversations = self.bench.loop.conversations
        self.pages.used()
        for chore in self.bench.loop.chores:
            chore.due(0.0)
            for rested in (3.0, 60.0, *range(600, 640)):
                if chore.due(rested) == 0:
                    chore.piece()
                    if conversations is not None:
                        conversations.finish([], LIMIT)
            if isinstance(chore, GiveBack) and not self._disk_is_full:
                assert not any(self.bench.context.memory)
            assert isinstance(chore, GiveBack | KeepStates)
        self.check()

    @property
    def _disk_is_full(self) -> bool:
        return self.snapshots is not None and self.snapshots.is_full

    def restart(self) -> None:
        """As a service manager does it."""
        self.bench.loop.stop()
        self.bench.loop.run()
        self.be_killed()

    def be_killed(self) -> None:
        """What it held is gone."""
        self.restored += self.bench.loop.stats().states_restored
        self.start()

    def fail(self) -> None:
        """The disk is full, or has room again; llama.cpp refuses what it is given, or takes it again."""
        if self.snapshots is not None and self.rng.random() < 0.7:
            self.snapshots.is_full = not self.snapshots.is_full
        else:
            self.bench.context.refuses_states = not self.bench.context.refuses_states

    def forget(self) -> None:
        """Some conversations are deleted; whoever goes on has another name."""
        for name in self.texts:
            kv_folder.forget(self.folder, f"{name}{self.tag}")
        self.tag += 1

    # --- what holds ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Nothing is under way."""
        loop, context = self.bench.loop, self.bench.context
        cache, conversations = loop.scheduler.cache, loop.conversations
        assert cache.free == SLOTS
        for slot in cache.slots:
            assert context.memory[slot.id] == slot.tokens.tolist()
            assert all(0 < point.length <= len(slot.tokens) for point in slot.checkpoints)
        if self.kv_cells is not None:
            assert cache.tokens_held <= self.kv_cells
        if conversations is not None:
            assert conversations.ram._taken() <= self.state_bytes
            conversations.finish([], LIMIT)
        files = list(self.folder.glob("kv/*/*"))
        assert sum(file.stat().st_size for file in files) <= self.disk_bytes
        assert all(file.suffix == ".kv" for file in files), "nothing is left unfinished"

    def check_owners(self) -> None:
        """Nobody had more of a prompt than was asked, or said, for its own owner."""
        for one in self.asked:
            own = (other for other in self.asked if other is not one and other.owner == one.owner)
            assert one.n_cached <= max((common_prefix(other.tokens, one.tokens) for other in own), default=0)


@pytest.mark.parametrize("can_trim", [True, False], ids=["plain", "uncut"])
@pytest.mark.parametrize("seed", range(10))
def test_a_storm(make_bench: Any, tmp_path: Path, seed: int, can_trim: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeContext, "eog", {EOG, END})
    storm = Storm(make_bench, tmp_path, seed, can_trim=can_trim)
    for _ in range(25):
        storm.round()
