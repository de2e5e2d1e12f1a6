"""Models that cannot be cut go on from checkpoints, and all models from states in memory and on the disk, exactly.

Each answer, however the engine came to the tokens before it, is that of an engine that has computed them all.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from janflask.engine.context import LlamaContext
from janflask.engine.model import Model
from janflask.engine.snapshots import Snapshots
from tests.ext.chats import (
    CANNOT_TRIM,
    CELLS,
    LIMIT,
    WORDS,
    WRITERS,
    Chat,
    alone,
    answer,
    first_turns,
    talk,
)
from tests.ext.conftest import Load
from tests.ext.real_loop import Engine, options

STATE_BYTES = 1 << 24

Make = Callable[..., Engine]
Kept = Callable[..., Snapshots]


@pytest.fixture(params=WRITERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(load: Load, tmp_path: Path, kind: str) -> Model:
    return load(WRITERS[kind](tmp_path / f"{kind}.gguf"))


@pytest.fixture(params=[False, True], ids=["streams", "unified"])
def make(model: Model, request: pytest.FixtureRequest):
    """Engines of the model, on one of the two layouts; closed at the end."""
    made: list[Engine] = []

    def make(
        slots: int = 2, *, state_bytes: int = STATE_BYTES, snapshots: Snapshots | None = None, cells: int = CELLS
    ) -> Engine:
        sizes = options(n_seq=slots, ctx_len=cells, kv_cells=cells * slots, kv_unified=request.param)
        made.append(Engine(model, sizes, snapshots, state_bytes=state_bytes))
        return made[-1]

    yield make
    for engine in made:
        engine.context.close()


@pytest.fixture
def kept(tmp_path: Path, model: Model) -> Kept:
    """What is on the disk, as an engine of these settings finds it."""
    return lambda settings="f": Snapshots(tmp_path / "kv", "m", settings, 1 << 28, can_trim=model.can_trim)


# --- in its slot ------------------------------------------------------------------------------------------------------


def test_the_next_turn_computes_what_is_new(make: Make) -> None:
    engine = make()
    chat = first_turns(engine)
    chat.say()
    assert answer(engine, chat.tokens())[1] < 80


def test_an_edited_last_message_goes_on_where_the_one_before_ends(make: Make) -> None:
    engine = make()
    chat = first_turns(engine)
    chat.say()
    answer(engine, chat.tokens())
    chat.messages[-1] = "something else " * 3
    assert answer(engine, chat.tokens())[1] < 80


def test_the_same_prompt_again_computes_its_last_message_at_most(make: Make) -> None:
    engine = make()
    chat = first_turns(engine)
    chat.say()
    prompt = chat.tokens()
    first = answer(engine, prompt)
    again = answer(engine, prompt)
    assert again[0] == first[0]
    assert again[1] < 40


def test_an_answer_that_comes_back_shorter_goes_on_behind_its_question(make: Make) -> None:
    """As one whose thoughts the layout leaves out."""
    engine = make()
    chat = first_turns(engine)
    chat.say()
    chat.messages.append(answer(engine, chat.tokens(), 30)[0][-6:])
    chat.say()
    assert answer(engine, chat.tokens())[1] < 100


def test_another_branch_goes_on_from_further_back(make: Make) -> None:
    engine = make()
    chat = first_turns(engine)
    chat.messages[5] = "quite another question here"
    del chat.messages[6:]
    assert answer(engine, chat.tokens())[1] < len(chat.tokens()) / 2


def test_whoever_begins_alike_finds_where_they_part(make: Make) -> None:
    """Three at once: the others wait for the first to come to that place."""
    engine = make(3)
    chats = [Chat(engine.model, random.Random(5), system=100) for _ in range(3)]
    for number, chat in enumerate(chats):
        chat.messages.append("now " + WORDS[number] * 6)
    asked = [engine.ask(chat.tokens(), 8) for chat in chats]
    engine.drain()
    for chat, (_, sink) in zip(chats, asked, strict=True):
        assert (sink.text, sink.reason) == alone(engine.model, chat.tokens())
    computed = sorted(len(chat.tokens()) - sequence.n_cached for chat, (sequence, _) in zip(chats, asked, strict=True))
    assert computed[1] < 60 < computed[2]


def test_the_choices_of_one_prompt_compute_it_once(make: Make) -> None:
    engine = make(3)
    prompt = Chat(engine.model, random.Random(6), system=100).tokens()
    asked = [engine.ask(prompt, 8) for _ in range(3)]
    engine.drain()
    expected = alone(engine.model, prompt)
    assert all((sink.text, sink.reason) == expected for _, sink in asked)
    assert sum(len(prompt) - sequence.n_cached for sequence, _ in asked) < len(prompt) + 2 * 16


@pytest.mark.parametrize("kind", CANNOT_TRIM, indirect=True)
def test_a_checkpoint_that_is_refused_costs_a_computation_only(make: Make) -> None:
    engine = make(1)
    chat = first_turns(engine)
    chat.messages[-2] = "something else"
    del chat.messages[-1]
    slot = engine.loop.scheduler.cache.slots[0]
    for point in slot.checkpoints:
        broken = bytearray(point.state)
        broken[:4] = b"none"
        object.__setattr__(point, "state", bytes(broken))
    assert answer(engine, chat.tokens())[1] == len(chat.tokens())
    stats = engine.loop.stats()
    assert stats.states_refused == 1


def test_without_memory_for_checkpoints_it_is_computed(make: Make, kind: str) -> None:
    engine = make(1, state_bytes=0)
    chat = first_turns(engine)
    chat.say()
    assert answer(engine, chat.tokens())[1] < 80
    chat.messages[-1] = "something else"
    computed = answer(engine, chat.tokens())[1]
    assert (computed == len(chat.tokens())) == (kind in CANNOT_TRIM)


# --- beyond its slot --------------------------------------------------------------------------------------------------


def test_another_conversation_in_between_costs_nothing(make: Make) -> None:
    engine = make(1)
    chat = first_turns(engine)
    other = Chat(engine.model, random.Random(9))
    talk(engine, other, 2)
    chat.say()
    assert answer(engine, chat.tokens())[1] < 80
    other.messages[-2] = "what else"
    del other.messages[-1]
    assert answer(engine, other.tokens())[1] < 80
    assert engine.loop.stats().states_restored >= 2


@pytest.mark.parametrize("edited", [False, True], ids=["next turn", "last message edited"])
def test_a_restart_computes_what_is_new(make: Make, kept: Kept, model: Model, edited: bool) -> None:
    first = make(snapshots=kept())
    chat = first_turns(first, conversation="a")
    first.keep_states(LIMIT)
    if edited:
        chat.messages[-2] = "something else"
        del chat.messages[-1]
    else:
        chat.say()
    second = make(snapshots=kept(), state_bytes=0)
    assert answer(second, chat.tokens(), conversation="a")[1] < 80
    assert second.loop.stats().states_restored == 1 + (edited and not model.can_trim)


def test_a_restart_that_was_granted_another_length_goes_on(make: Make, kept: Kept, model: Model) -> None:
    """Which no number of these models depends on: their fingerprint leaves it out (``Model.follows_room``)."""
    assert not model.follows_room
    first = make(snapshots=kept())
    chat = first_turns(first, conversation="a")
    first.keep_states(LIMIT)
    chat.say()
    second = make(snapshots=kept(), state_bytes=0, cells=2 * CELLS)
    assert answer(second, chat.tokens(), conversation="a")[1] < 80


@pytest.mark.parametrize("harm", ["lost", "damaged", "cut short"])
def test_a_file_that_is_lost_or_damaged_costs_time_only(make: Make, kept: Kept, tmp_path: Path, harm: str) -> None:
    snapshots = kept()
    first = make(snapshots=snapshots)
    chat = first_turns(first, conversation="a")
    first.keep_states(LIMIT)
    (path,) = (tmp_path / "kv" / "m").glob("*.kv")
    content = path.read_bytes()
    if harm == "lost":
        path.unlink()
    else:
        path.write_bytes(content[:-9] if harm == "cut short" else content[:-1] + bytes([content[-1] ^ 1]))
    second = make(snapshots=snapshots)
    chat.say()
    assert answer(second, chat.tokens(), conversation="a")[1] == len(chat.tokens())


def test_a_full_disk_costs_time_only(make: Make, kept: Kept, model: Model, monkeypatch) -> None:
    snapshots = kept()
    engine = make(1, snapshots=snapshots, state_bytes=0)

    def full(*_: object) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshots, "_write", full)
    chat = first_turns(engine, conversation="a")
    talk(engine, Chat(model, random.Random(9)), 1, conversation="b")
    engine.keep_states(LIMIT)
    chat.say()
    assert answer(engine, chat.tokens(), conversation="a")[1] > len(chat.tokens()) - 20


def test_a_state_of_other_settings_is_never_used(make: Make, kept: Kept) -> None:
    first = make(snapshots=kept())
    chat = first_turns(first, conversation="a")
    first.keep_states(LIMIT)
    second = make(snapshots=kept("other"))
    chat.say()
    assert answer(second, chat.tokens(), conversation="a")[1] == len(chat.tokens())


# --- storms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_turns_edits_branches_and_cancellations(make: Make, kept: Kept, model: Model, seed: int) -> None:
    """Six conversations over three slots, with little memory beside them: what each says is what it says alone."""
    rng = random.Random(seed)
    snapshots = kept() if seed else None
    engine = make(3, snapshots=snapshots, state_bytes=200_000)
    reference = Engine(model, options(n_seq=1, ctx_len=CELLS, kv_cells=CELLS))
    chats = [Chat(model, random.Random(number % 2), system=40) for number in range(6)]
    for _ in range(8):
        asked = {}
        for number in rng.sample(range(6), rng.randrange(1, 5)):
            change(chats[number], rng)
            asked[number] = engine.ask(chats[number].tokens(), 8, conversation=f"c{number}")
        for number in list(asked):
            if rng.random() < 0.2:
                for _ in range(rng.randrange(4)):
                    engine.loop.step()
                engine.loop.cancel([asked.pop(number)[0]])
        deadline = time.monotonic() + LIMIT
        while not all(sink.reason or sink.errors for _, sink in asked.values()):
            assert time.monotonic() < deadline
            engine.loop.step()
        for number, (_, sink) in asked.items():
            assert not sink.errors
            assert (sink.text, sink.reason) == reference.answer(chats[number].tokens(), 8, cache=False)
            chats[number].messages.append(sink.text)
    stats = engine.loop.stats()
    assert stats.cached_tokens > 1000
    assert stats.states_refused == 0
    reference.context.close()


def change(chat: Chat, rng: random.Random) -> None:
    """Another message of the user's: the next one, the last one anew, or an earlier one."""
    n_turns = (len(chat.messages) - 1) // 2
    how = rng.random()
    if len(chat.tokens()) > 300:
        del chat.messages[1:]
    elif n_turns and how < 0.3:
        del chat.messages[2 * n_turns - 1 :]
    elif n_turns and how < 0.5:
        del chat.messages[2 * rng.randrange(n_turns) + 1 :]
    if len(chat.messages) % 2 == 0:  # its last answer was cancelled
        chat.messages.pop()
    chat.say(rng.randrange(3, 20))


def test_sixteen_at_once_say_what_each_says_alone(make: Make, model: Model) -> None:
    engine = make(8)
    rng = random.Random(4)
    chats = [Chat(model, random.Random(number % 3), system=50) for number in range(16)]
    for _ in range(3):
        for chat in chats:
            chat.say(rng.randrange(3, 15))
        asked = [engine.ask(chat.tokens(), 8) for chat in chats]
        engine.drain()
        for chat, (_, sink) in zip(chats, asked, strict=True):
            assert (sink.text, sink.reason) == alone(model, chat.tokens())
            chat.messages.append(sink.text)
    assert engine.loop.scheduler.cached_tokens > 2000


def test_what_is_told_is_what_is_held(make: Make, model: Model) -> None:
    """After anything, llama.cpp's positions of a slot are those of the tokens booked for it."""
    engine = make(2)
    first_turns(engine)
    context = engine.context
    assert isinstance(context, LlamaContext)
    for slot in engine.loop.scheduler.cache.slots:
        first, last = context.positions(slot.id)
        assert last == len(slot.tokens) - 1
        assert first <= model.first_needed(len(slot.tokens))
