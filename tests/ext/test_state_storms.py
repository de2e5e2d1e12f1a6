"""Conversations over real llama.cpp contexts with too little of everything, and engines that come and go."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from janflask.engine.model import Model
from janflask.engine.snapshots import Snapshots
from tests.ext.chats import CELLS, LIMIT, WRITERS, Chat
from tests.ext.conftest import Load
from tests.ext.real_loop import Engine, options

ANSWER = 8  # tokens


class Storm:
    """Five conversations, on slots that share their cells or have their own."""

    def __init__(self, model: Model, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.model = model
        self.folder = folder
        self.unified = seed % 2 == 1
        self.state_bytes = self.rng.choice([0, 30_000, 300_000])
        self.disk_bytes = self.rng.choice([60_000, 1 << 24])
        self.alone = Engine(model, options(n_seq=1, ctx_len=CELLS, kv_cells=CELLS))
        self.chats = [Chat(model, random.Random(number % 2), system=40) for number in range(5)]
        self.went_on = self.gave_way = 0
        self.start()

    def start(self) -> None:
        """Another engine. Where the cells are shared, two long conversations hardly fit."""
        snapshots = Snapshots(self.folder, "m", "f", self.disk_bytes, can_trim=self.model.can_trim)
        cells = 640 if self.unified else 3 * 640
        sizes = options(n_seq=3, ctx_len=640, kv_cells=cells, kv_unified=self.unified)
        self.engine = Engine(self.model, sizes, snapshots, state_bytes=self.state_bytes)

    def end(self, *, killed: bool) -> None:
        """What is in its slots outlives it, or does not."""
        if not killed:
            self.engine.keep_states(LIMIT)
        stats = self.engine.loop.stats()
        assert stats.states_refused == 0
        self.went_on += stats.states_restored
        self.gave_way += stats.preempted
        self.engine.context.close()

    def round(self) -> None:
        """A few ask at once, some go away before their answer."""
        loop = self.engine.loop
        asked = {}
        for number in self.rng.sample(range(5), self.rng.randrange(1, 5)):
            self._change(self.chats[number])
            asked[number] = self.engine.ask(self.chats[number].tokens(), ANSWER, conversation=f"c{number}")
        for number in list(asked):
            if self.rng.random() < 0.2:
                for _ in range(self.rng.randrange(6)):
                    loop.step()
                loop.cancel([asked.pop(number)[0]])
        deadline = time.monotonic() + LIMIT
        while not all(sink.reason or sink.errors for _, sink in asked.values()) or not loop.scheduler.idle:
            assert time.monotonic() < deadline
            if not loop.step():
                time.sleep(0.0005)
        for number, (_, sink) in asked.items():
            assert not sink.errors
            prompt = self.chats[number].tokens()
            assert (sink.text, sink.reason) == self.alone.answer(prompt, ANSWER, cache=False)
            self.chats[number].messages.append(sink.text)
        self._check()

    def _change(self, chat: Chat) -> None:
        n_turns = (len(chat.messages) - 1) // 2
        how = self.rng.random()
        if len(chat.tokens()) > 300:
            del chat.messages[1:]
        elif n_turns and how < 0.4:
            del chat.messages[2 * self.rng.randrange(n_turns) + 1 :]
        if len(chat.messages) % 2 == 0:  # its last answer never came
            chat.messages.pop()
        chat.say(self.rng.randrange(3, 25))

    def _check(self) -> None:
        """What is booked is what is held, and within its bounds."""
        cache, conversations = self.engine.loop.scheduler.cache, self.engine.loop.conversations
        assert conversations is not None
        assert cache.free == 3
        for slot in cache.slots:
            first, last = self.engine.context.positions(slot.id)
            assert last == len(slot.tokens) - 1
            assert first <= self.model.first_needed(len(slot.tokens))
        assert conversations.ram._taken() <= self.state_bytes
        assert sum(file.stat().st_size for file in self.folder.glob("*/*.kv")) <= self.disk_bytes


@pytest.mark.parametrize("seed", [0, 2, 5, 7])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_storm_of_conversations_and_engines(load: Load, tmp_path: Path, kind: str, seed: int) -> None:
    storm = Storm(load(WRITERS[kind](tmp_path / "m.gguf")), tmp_path / "kv", seed)
    for number in range(3):
        for _ in range(5):
            storm.round()
        storm.end(killed=number == 1)
        storm.start()
    storm.end(killed=True)
    storm.alone.context.close()
    # With one state on the disk and none in memory, whether anybody comes back to it in time is the disk's to say.
    assert storm.went_on > 0 or (storm.state_bytes == 0 and storm.disk_bytes == 60_000)
