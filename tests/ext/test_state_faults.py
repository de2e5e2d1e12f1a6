"""What goes wrong with KV states, on real files and a real llama.cpp: it costs time, and never an answer."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from llama_cpp import llama_cpp as lib

from janflask.engine import fingerprint as marks
from janflask.engine.context import LlamaContext
from janflask.engine.fingerprint import fingerprint
from janflask.engine.model import Model
from janflask.engine.snapshots import Snapshots
from janflask.errors import EngineError
from janflask.models.engine_settings import EngineSettings
from tests.ext.chats import CANNOT_TRIM, CELLS, LIMIT, WRITERS, Chat, alone, answer, first_turns, talk
from tests.ext.conftest import Load
from tests.ext.real_loop import Engine, options

ROOT = Path(__file__).resolve().parents[2]
STATE_BYTES = 1 << 24

Make = Callable[..., Engine]


@pytest.fixture(params=["plain", *CANNOT_TRIM])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def path(tmp_path: Path, kind: str) -> Path:
    return WRITERS[kind](tmp_path / f"{kind}.gguf")


@pytest.fixture
def model(load: Load, path: Path) -> Model:
    return load(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the model's states are."""
    return tmp_path / "kv" / "m"


@pytest.fixture
def make(model: Model, folder: Path) -> Iterator[Make]:
    """Engines of one slot that keep states on the disk, under a name of the settings."""
    made: list[Engine] = []

    def make(settings: str = "f", *, state_bytes: int = 0, **sizes: object) -> Engine:
        snapshots = Snapshots(folder.parent, "m", settings, 1 << 28, can_trim=model.can_trim)
        chosen = options(**{"n_seq": 1, "ctx_len": CELLS, "kv_cells": CELLS, **sizes})
        made.append(Engine(model, chosen, snapshots, state_bytes=state_bytes))
        return made[-1]

    yield make
    for engine in made:
        engine.context.close()


def told(engine: Engine) -> Chat:
    """A conversation that has been written to the disk."""
    chat = first_turns(engine, conversation="a")
    engine.keep_states(LIMIT)
    chat.say()
    return chat


def again(engine: Engine, chat: Chat) -> float:
    """The next turn, whose answer is right; the part of its prompt that was computed."""
    length = len(chat.tokens())
    text, computed = answer(engine, chat.tokens(), conversation="a")
    chat.messages.append(text)
    chat.say()
    return computed / length


# --- the disk ---------------------------------------------------------------------------------------------------------


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk: the kernel takes so many bytes of a file, then it refuses."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_disk_that_is_full_in_the_middle_of_a_state(make: Make, folder: Path, size: int) -> None:
    engine = make()
    with files_of_at_most(size):
        chat = first_turns(engine, conversation="a")
        talk(engine, Chat(engine.model, random.Random(9)), 2, conversation="b")
        engine.keep_states(LIMIT)
        chat.say()
        assert again(engine, chat) > 0.9
        engine.keep_states(LIMIT)
    assert list(folder.glob("*")) == [], "nor is half a file left"
    second = make()
    assert again(second, chat) > 0.9
    second.keep_states(LIMIT)
    assert again(make(), chat) < 0.5, "there is room again"


def test_a_full_disk_keeps_the_state_that_there_was(make: Make, folder: Path) -> None:
    engine = make()
    chat = told(engine)
    (path,) = folder.glob("*")
    before = path.read_bytes()
    with files_of_at_most(5000):
        talk(engine, chat, 2, conversation="a")
        engine.keep_states(LIMIT)
    assert path.read_bytes() == before
    chat.say()
    assert again(make(), chat) < 0.6


@pytest.mark.parametrize("part", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_a_state_that_is_cut_short(make: Make, folder: Path, part: float) -> None:
    engine = make()
    chat = told(engine)
    (path,) = folder.glob("*")
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    assert again(make(), chat) > 0.9
    path.write_bytes(content)
    later = make()
    path.write_bytes(content[: int(part * len(content))])  # behind the engine's back
    assert again(later, chat) > 0.9


def test_states_that_were_exchanged(make: Make, folder: Path) -> None:
    """Each is whole and signed, and the other's."""
    engine = make()
    chat, other = told(engine), Chat(engine.model, random.Random(9))
    talk(engine, other, 4, conversation="b")
    engine.keep_states(LIMIT)
    one, two = folder.glob("*")
    contents = one.read_bytes(), two.read_bytes()
    one.write_bytes(contents[1])
    two.write_bytes(contents[0])
    other.say()
    later = make()
    assert again(later, chat) > 0.9
    assert answer(later, other.tokens(), conversation="b")[1] > 0.9 * len(other.tokens())


def test_a_folder_that_is_gone_or_no_folder(make: Make, folder: Path) -> None:
    engine = make()
    chat = told(engine)
    for path in folder.glob("*"):
        path.unlink()
    folder.rmdir()
    folder.write_bytes(b"")
    talk(engine, Chat(engine.model, random.Random(9)), 2, conversation="b")
    assert again(engine, chat) > 0.9
    engine.keep_states(LIMIT)
    folder.unlink()
    assert again(engine, chat) < 0.5, "its slot has it"
    engine.keep_states(LIMIT)
    assert len(list(folder.glob("*"))) == 1


READ_ONLY = """
import ctypes, random, sys
from pathlib import Path
# Rights hold for whoever may not pass over them (CAP_DAC_OVERRIDE and two more); root may.
header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
libc = ctypes.CDLL(None)
assert libc.capget(header, sets) == 0
sets[0] &= ~0b1110
assert libc.capset(header, sets) == 0
from janflask.engine.library_log import LibraryLog
from janflask.engine.model import Model
from janflask.engine.snapshots import Snapshots
from janflask.models.engine_settings import EngineSettings
from tests.ext.chats import CELLS, LIMIT, Chat, alone, answer, first_turns, talk
from tests.ext.real_loop import Engine, options
path, root = map(Path, sys.argv[1:])
log = LibraryLog()
model = Model(path, EngineSettings(), log, lambda fraction: None)
snapshots = Snapshots(root, "m", "f", 1 << 28, can_trim=model.can_trim)
engine = Engine(model, options(n_seq=1, ctx_len=CELLS, kv_cells=CELLS), snapshots)
chat = first_turns(engine, conversation="a")
restored = engine.loop.stats().states_restored
talk(engine, Chat(model, random.Random(9)), 2, conversation="b")
engine.keep_states(LIMIT)
chat.say()
answer(engine, chat.tokens(), conversation="a")
print(engine.loop.stats().states_restored - restored)
engine.keep_states(LIMIT)
print(sorted(file.name for file in (root / "m").glob("*")))
"""


def test_a_folder_in_which_nothing_can_be_written(make: Make, folder: Path, path: Path) -> None:
    told(make())
    before = sorted(file.name for file in folder.glob("*"))
    contents = [file.read_bytes() for file in folder.glob("*")]
    folder.chmod(0o500)
    folder.parent.chmod(0o500)
    command = [sys.executable, "-c", READ_ONLY, str(path), str(folder.parent)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=LIMIT, check=False)
    finally:
        folder.parent.chmod(0o700)
        folder.chmod(0o700)
    assert done.returncode == 0, done.stderr
    restored, names = done.stdout.splitlines()
    assert int(restored) >= 1, "what is there is read all the same"
    assert names == str(before)
    assert [file.read_bytes() for file in folder.glob("*")] == contents


# --- other settings ---------------------------------------------------------------------------------------------------


def test_whatever_numbers_depend_on_is_in_the_mark(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Context length and slots are not for these models, whose numbers do not depend on it."""
    settings, made_with = EngineSettings(), options(n_seq=1, ctx_len=CELLS, kv_cells=CELLS)

    def mark(**changes: object) -> str:
        return fingerprint(path, settings, replace(made_with, **changes), by_room=False)

    usual = mark()
    assert mark(ctx_len=2 * CELLS, kv_cells=2 * CELLS) == usual
    changed = [
        mark(flash_attn=True),
        mark(cache_type_k="q8_0"),
        mark(cache_type_v="f32"),
        mark(kv_unified=True),
        mark(rope_freq_base=500.0),
    ]
    assert usual not in changed
    monkeypatch.setattr(marks, "LLAMA_VERSION", "llama-cpp-python 99")
    assert mark() != usual, "another build"


@pytest.mark.parametrize(
    "changes",
    [
        {"flash_attn": True},
        {"cache_type_k": "f32"},
        {"cache_type_k": "q8_0", "cache_type_v": "q8_0", "flash_attn": True},
        {"kv_unified": True},
        {"n_seq": 2, "kv_cells": 2 * CELLS},
    ],
    ids=str,
)
def test_if_the_mark_lied_llama_cpp_refuses_or_the_state_is_right(make: Make, changes: dict[str, object]) -> None:
    """A state of other settings under the same mark. What is refused is read once, and its slot is of use.

    ``n_seq`` and a recurrent state alone: llama.cpp takes it, and it is the same.
    """
    strange = make(**changes)
    chat = Chat(strange.model, random.Random(5))
    for _ in range(4):
        chat.say()
        prompt = chat.tokens()
        chat.messages.append(strange.answer(prompt, 8, conversation="a")[0])
    strange.keep_states(LIMIT)
    chat.say()
    engine = make()
    part = again(engine, chat)
    stats = engine.loop.stats()
    assert (part > 0.9) == (stats.states_refused == 1)
    assert stats.states_refused + stats.states_restored >= 1
    talk(engine, Chat(engine.model, random.Random(9)), 1, conversation="b")
    again(engine, chat)
    assert engine.loop.stats().states_refused == stats.states_refused


# --- memory -----------------------------------------------------------------------------------------------------------


def test_no_memory_for_a_state(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make(state_bytes=STATE_BYTES)

    def none(self: LlamaContext, slot: int, kind: int) -> memoryview:
        raise EngineError("there is no memory for a sequence's state of 5 bytes")

    monkeypatch.setattr(LlamaContext, "_state", none)
    chat = first_turns(engine, conversation="a")
    talk(engine, Chat(engine.model, random.Random(9)), 2, conversation="b")
    engine.keep_states(LIMIT)
    assert again(engine, chat) > 0.9


def test_an_allocation_that_fails_is_told_as_what_it_is(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make()
    first_turns(engine)
    monkeypatch.setattr(lib, "llama_state_seq_get_size_ext", lambda *_: 1 << 60)  # nobody has that much
    with pytest.raises(EngineError, match="no memory for a sequence's state"):
        engine.context.state(0)


def test_copies_that_llama_cpp_refuses(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(model, options(n_seq=2, ctx_len=CELLS, kv_cells=2 * CELLS), state_bytes=STATE_BYTES)
    chats = [Chat(model, random.Random(5), system=100) for _ in range(2)]
    for number, chat in enumerate(chats):
        chat.messages.append(f"now {number}")

    def refuses(self: LlamaContext, slot: int, state: memoryview) -> None:
        raise EngineError("llama.cpp did not take a sequence's state")

    monkeypatch.setattr(LlamaContext, "put", refuses)
    asked = [engine.ask(chat.tokens(), 8)[1] for chat in chats]
    engine.drain()
    assert [(sink.text, sink.reason) for sink in asked] == [alone(model, chat.tokens()) for chat in chats]
    assert engine.loop.stats().states_refused == 1
    engine.context.close()
