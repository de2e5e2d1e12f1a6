"""KV snapshots: what was saved comes back, and nothing else does."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import struct
import time
from array import array
from pathlib import Path
from typing import Any

import pytest

from janflask.engine import state_key
from janflask.engine.slot import Checkpoint, Origin
from janflask.engine.snapshots import HEAD, MAGIC, Snapshot, Snapshots
from janflask.engine.state_index import WORTHWHILE
from janflask.files import kv_folder

TOKENS = array("i", range(100, 300))
STATE = bytes(range(256)) * 40
BUDGET = 1 << 20


def snapshots(root: Path, model_id: str = "m", fingerprint: str = "f", budget: int = BUDGET) -> Snapshots:
    return Snapshots(root, model_id, fingerprint, budget)


def files(root: Path) -> list[Path]:
    """All but the key."""
    return sorted(path for path in root.rglob("*") if path.is_file() and path.name != state_key.NAME)


def save(
    engine: Snapshots, conversation: str | None = "thread_1", tokens: array[int] = TOKENS, state: bytes = STATE
) -> bool:
    """Like the loop and its disk thread."""
    return save_as(engine, Origin(60, conversation), Snapshot(tokens, state, 60))


def save_as(engine: Snapshots, origin: Origin, snapshot: Snapshot) -> bool:
    return engine.save(engine.announce(snapshot, origin), snapshot)


def tokens_of(number: int) -> array[int]:
    """Other ones for each number."""
    return array("i", range(1000 * number, 1000 * number + len(TOKENS)))


def saved(root: Path) -> Path:
    assert save(snapshots(root))
    (path,) = files(root)
    return path


def test_a_state_comes_back_for_a_prompt_that_begins_like_it(tmp_path: Path) -> None:
    saved(tmp_path)
    found = snapshots(tmp_path).find(TOKENS + array("i", [1, 2]), 0)
    assert found is not None
    assert (found.tokens, found.state, found.n_prompt) == (TOKENS, STATE, 60)


def test_it_is_not_read_for_too_short_a_common_beginning(tmp_path: Path) -> None:
    saved(tmp_path)
    other = TOKENS[: WORTHWHILE - 1] + array("i", [7]) + TOKENS[WORTHWHILE:]
    assert snapshots(tmp_path).find(other, 0) is None
    assert len(files(tmp_path)) == 1  # it may serve another time
    other = TOKENS[:WORTHWHILE] + array("i", [7]) + TOKENS[WORTHWHILE:]
    assert snapshots(tmp_path).find(other, 1) is None
    assert snapshots(tmp_path).find(other, 0) is not None


def test_whoever_asks_finds_it(tmp_path: Path) -> None:
    engine = snapshots(tmp_path)
    save(engine, "thread_1", tokens_of(1))
    save(engine, None, tokens_of(2), b"two")
    for reader in (engine, snapshots(tmp_path)):
        for number, state in ((1, STATE), (2, b"two")):
            found = reader.find(tokens_of(number) + array("i", [7]), 0)
            assert found is not None
            assert found.state == state
        assert reader.find(tokens_of(3), 0) is None


def test_one_that_went_on_takes_the_place_of_a_nameless_one(tmp_path: Path) -> None:
    engine = snapshots(tmp_path)
    save(engine, "thread_1", TOKENS[:190])
    save(engine, None, TOKENS + array("i", [1] * 100))
    save(engine, None, TOKENS + array("i", [1] * 50 + [2] * 100))  # what was generated is cut in other tokens now
    save(engine, None, TOKENS + array("i", [3] * WORTHWHILE))
    save(engine, None, TOKENS + array("i", [1] * 50 + [2] * 200))
    assert len(kept(tmp_path)) == 3
    assert sorted(len(tokens) // 4 for tokens in engine.index._tokens.values()) == [190, 200 + WORTHWHILE, 450]


def test_of_a_conversation_what_is_said_no_longer_is_told(tmp_path: Path) -> None:
    engine = snapshots(tmp_path)
    save(engine)
    assert not engine.is_outdated(TOKENS + array("i", [1]), Origin(60, "thread_1"))
    assert engine.is_outdated(TOKENS[:-1], Origin(60, "thread_1"))
    assert not engine.is_outdated(TOKENS[:-1], Origin(60, "thread_2"))
    assert not engine.is_outdated(TOKENS[:-1], Origin(60))


def test_a_later_state_replaces_the_earlier(tmp_path: Path) -> None:
    saved(tmp_path)
    longer = TOKENS + array("i", [5])
    save(snapshots(tmp_path), tokens=longer, state=b"new")
    found = snapshots(tmp_path).find(longer + array("i", [6]), 0)
    assert found is not None
    assert (found.tokens, found.state) == (longer, b"new")
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("fingerprint", ["another build", ""])
def test_one_of_another_fingerprint_is_not_used(tmp_path: Path, fingerprint: str) -> None:
    path = saved(tmp_path)
    assert snapshots(tmp_path, "m", fingerprint).find(TOKENS, 0) is None
    assert files(tmp_path) == [path]  # the next engine may be as the one before
    assert snapshots(tmp_path).find(TOKENS, 0) is not None


def kept(root: Path) -> list[Path]:
    return [path for path in files(root) if path.suffix == ".kv"]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / kv_folder.FOLDER).mkdir()
    return tmp_path


def test_a_deleted_conversation_is_not_kept_by_an_engine_that_still_has_it(cache: Path) -> None:
    root = cache / kv_folder.FOLDER
    engine = snapshots(root)
    assert save(engine)
    assert save(engine, "thread_2", tokens_of(2))
    kv_folder.forget(cache, "thread_1")
    assert len(kept(root)) == 1
    assert not save(engine)
    assert not save(snapshots(root, "other"))
    assert len(kept(root)) == 1
    assert engine.find(TOKENS, 0) is None
    assert engine.find(tokens_of(2), 0) is not None


def test_a_deleted_conversations_state_that_was_put_back_is_not_found(cache: Path) -> None:
    root = cache / kv_folder.FOLDER
    path = saved(root)
    content = path.read_bytes()
    engine = snapshots(root)
    kv_folder.forget(cache, "thread_1")
    path.write_bytes(content)
    assert engine.find(TOKENS, 0) is None
    assert not path.exists()


def test_one_deleted_while_it_is_written_is_removed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = cache / kv_folder.FOLDER
    engine = snapshots(root)
    rename = os.rename

    def slow(*names: Any, **folders: Any) -> None:
        kv_folder.forget(cache, "thread_1")
        rename(*names, **folders)

    monkeypatch.setattr(os, "rename", slow)
    assert not save(engine)
    assert kept(root) == []
    assert engine.index.held(TOKENS) == 0


def test_where_no_engine_keeps_states_nothing_is_written(tmp_path: Path) -> None:
    kv_folder.forget(tmp_path, "thread_1")
    assert files(tmp_path) == []


def test_marks_go_when_no_engine_can_need_them(cache: Path) -> None:
    root, marks = cache / kv_folder.FOLDER, cache / kv_folder.MARKS
    for name in ("thread_1", "thread_2"):
        kv_folder.forget(cache, name)
    assert list(root.iterdir()) == [], "whoever looks through the models' folders need not pass them"
    old, fresh = files(marks)
    os.utime(old, (0, 0))
    snapshots(root)
    assert files(marks) == [fresh]


def test_what_belongs_to_no_conversation_goes_when_nobody_has_used_it_for_long(tmp_path: Path) -> None:
    engine = snapshots(tmp_path)
    for number, conversation in enumerate(["thread_1", None, None, "thread_2"]):
        save(engine, conversation, tokens_of(number))
    old, recent = (path for path in kept(tmp_path) if kv_folder.is_nameless(path.name))
    named, _ = (path for path in kept(tmp_path) if not kv_folder.is_nameless(path.name))
    long_ago = time.time() - kv_folder.NAMELESS_AGE
    for path, used in ((old, long_ago - 60), (recent, long_ago + 60), (named, 0)):
        os.utime(path, (used, used))
    snapshots(tmp_path, "another model")
    assert old not in kept(tmp_path)
    assert len(kept(tmp_path)) == 3
    assert sum(engine.find(tokens_of(number), 0) is not None for number in range(4)) == 3


def test_not_each_state_that_is_written_has_all_marks_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Path] = []
    monkeypatch.setattr("janflask.engine.snapshots.remove_old", looks.append)
    engine = snapshots(tmp_path)
    for number in range(5):
        save(engine, f"thread_{number}", tokens_of(number))
    assert len(looks) == 1
    monkeypatch.setattr("janflask.engine.snapshots.TIDYING_PAUSE", 0.0)
    engine._next_tidying = 0.0
    save(engine, "thread_6", tokens_of(6))
    save(engine, "thread_7", tokens_of(7))
    assert len(looks) == 3


def test_another_model_does_not_see_it(tmp_path: Path) -> None:
    saved(tmp_path)
    assert snapshots(tmp_path, "n").find(TOKENS, 0) is None
    assert len(files(tmp_path)) == 1


def test_every_changed_byte_is_found(tmp_path: Path) -> None:
    path = saved(tmp_path)
    whole = path.read_bytes()
    prompt = TOKENS + array("i", [1])
    for place in [*range(HEAD.size + 140), *range(HEAD.size + 140, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x20]) + whole[place + 1 :])
        assert snapshots(tmp_path).find(prompt, 0) is None, place


def test_every_cut_is_found(tmp_path: Path) -> None:
    path = saved(tmp_path)
    whole = path.read_bytes()
    for length in [0, 3, HEAD.size - 1, HEAD.size, HEAD.size + 10, len(whole) - len(STATE), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert snapshots(tmp_path).find(TOKENS, 0) is None, length
        assert files(tmp_path) == []


def test_the_one_used_the_longest_ago_makes_room(tmp_path: Path) -> None:
    one = len(saved(tmp_path).read_bytes())
    few = snapshots(tmp_path, budget=3 * one)
    for number in (2, 3):
        save(few, f"thread_{number}", tokens_of(number))
    for number, path in enumerate(sorted(files(tmp_path), key=lambda path: path.stat().st_mtime_ns)):
        os.utime(path, (number, number))
    assert few.find(TOKENS, 0) is not None  # now it is the one used last
    assert save(snapshots(tmp_path, "another model", budget=3 * one), "thread_4")
    assert few.find(tokens_of(2), 0) is None
    assert few.find(TOKENS, 0) is not None
    assert few.find(tokens_of(3), 0) is not None
    assert save(few, "thread_5", tokens_of(5))
    assert few.index.held(tokens_of(2)) == 0


def test_those_that_nobody_came_back_to_go_before_those_used_on_the_same_day(tmp_path: Path) -> None:
    engine = snapshots(tmp_path)
    for number, origin in enumerate([Origin(60, "thread_1"), Origin(60, went_on=True), Origin(60)]):
        save_as(engine, origin, Snapshot(tokens_of(number), STATE, 60))
    size = max(path.stat().st_size for path in kept(tmp_path))
    few = snapshots(tmp_path, budget=3 * size + 10)
    for number in range(3, 6):
        assert save_as(few, Origin(60), Snapshot(tokens_of(number), STATE, 60))
    assert [few.find(tokens_of(number), 0) is not None for number in range(6)] == [True, True, *[False] * 3, True]


def test_one_over_the_budget_is_not_kept_and_costs_no_other(tmp_path: Path) -> None:
    path = saved(tmp_path)
    assert not save(snapshots(tmp_path, budget=path.stat().st_size), "thread_2", tokens_of(2), STATE + STATE)
    assert snapshots(tmp_path).find(TOKENS, 0) is not None


def test_its_own_place_is_not_counted_twice(tmp_path: Path) -> None:
    one = len(saved(tmp_path).read_bytes())
    tight = snapshots(tmp_path, budget=2 * one)
    save(tight, "thread_2", tokens_of(2))
    assert save(tight, "thread_2", tokens_of(2))
    assert tight.find(TOKENS, 0) is not None


def test_a_disk_that_does_not_take_it_keeps_the_earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path)
    engine = snapshots(tmp_path)

    def full(*names: Any, **folders: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="No space"):
        save(engine, tokens=TOKENS + TOKENS, state=b"new")
    assert engine.index.held(TOKENS + TOKENS) == len(TOKENS)
    found = engine.find(TOKENS, 0)
    assert found is not None
    assert found.state == STATE
    assert len(files(tmp_path)) == 1


def test_a_key_is_never_a_path(tmp_path: Path) -> None:
    assert save(snapshots(tmp_path / "kv"), "../../outside")
    assert [path.parent for path in files(tmp_path)] == [tmp_path / "kv" / "m"]


# --- whose it is ------------------------------------------------------------------------------------------------------


def forged(header: bytes, proof: bytes, tokens: array[int] = TOKENS, state: bytes = STATE) -> bytes:
    return HEAD.pack(MAGIC, len(header), proof) + header + tokens.tobytes() + state


def header_of(path: Path) -> bytes:
    content = path.read_bytes()
    _, length, _ = HEAD.unpack(content[: HEAD.size])
    return content[HEAD.size : HEAD.size + length]


def test_a_state_with_a_sum_that_anybody_can_make_is_not_trusted(tmp_path: Path, caplog) -> None:
    path = saved(tmp_path)
    header = header_of(path)
    named = b"".join(struct.pack("<Q", len(part)) + part for part in (MAGIC, path.name.encode(), header))
    content = named + TOKENS.tobytes() + STATE
    for proof in (hashlib.sha256(content).digest(), hmac.digest(b"", content, "sha256"), bytes(32)):
        path.write_bytes(forged(header, proof))
        assert snapshots(tmp_path).find(TOKENS, 0) is None
        assert files(tmp_path) == []
    assert "nothing that an engine of this data folder wrote" in caplog.text
    key = (tmp_path / state_key.NAME).read_bytes()
    path.write_bytes(forged(header, hmac.digest(key, content, "sha256")))  # the layout above is the right one
    assert snapshots(tmp_path).find(TOKENS, 0) is not None


def test_a_state_of_another_data_folder_is_not_trusted(tmp_path: Path) -> None:
    (one, other) = (tmp_path / name for name in ("one", "other"))
    path = saved(one)
    copy = saved(other)
    copy.write_bytes(path.read_bytes())
    assert snapshots(other).find(TOKENS, 0) is None


def test_a_folder_that_was_copied_with_its_key_keeps_its_states_and_without_it_loses_them(tmp_path: Path) -> None:
    (one, other) = (tmp_path / name for name in ("one", "other"))
    path = saved(one)
    copy = other / path.relative_to(one)
    copy.parent.mkdir(parents=True)
    copy.write_bytes(path.read_bytes())
    (one / state_key.NAME).rename(other / state_key.NAME)
    assert snapshots(other).find(TOKENS, 0) is not None
    assert snapshots(one).find(TOKENS, 0) is None


def test_a_state_under_another_name_is_not_trusted(tmp_path: Path) -> None:
    """Else one of a deleted conversation could be put back under the name of another."""
    path = saved(tmp_path)
    path.rename(path.with_name(kv_folder.file_name("thread_2")))
    assert snapshots(tmp_path).find(TOKENS, 0) is None
    assert files(tmp_path) == []


def test_the_next_best_is_taken_where_one_is_spoilt(tmp_path: Path) -> None:
    engine = snapshots(tmp_path)
    save(engine, "thread_1", TOKENS[:180])
    save(engine, "thread_2", TOKENS, b"spoilt")
    spoilt = engine._folder / kv_folder.file_name("thread_2")
    spoilt.write_bytes(spoilt.read_bytes()[:-1] + b"?")
    found = engine.find(TOKENS, 0)
    assert found is not None
    assert (found.tokens, found.state) == (TOKENS[:180], STATE)
    assert len(kept(tmp_path)) == 1


@pytest.mark.parametrize(
    "lengths", [("tokens", -1), ("state", "x"), ("state", None), ("tokens", 1 << 70), ("prompt", "x")]
)
def test_a_header_that_lies_is_not_followed(tmp_path: Path, lengths: tuple[str, object]) -> None:
    path = saved(tmp_path)
    told = json.loads(header_of(path)) | {lengths[0]: lengths[1]}
    path.write_bytes(forged(json.dumps(told).encode(), bytes(32)))
    assert snapshots(tmp_path).find(TOKENS, 0) is None


@pytest.mark.parametrize("header", [b"", b"[" * 4000, b"7", b'{"fingerprint": "f"}', b"\xff"])
def test_a_header_that_is_none_is_told_from_one(tmp_path: Path, header: bytes) -> None:
    path = saved(tmp_path)
    path.write_bytes(forged(header, bytes(32)))
    assert snapshots(tmp_path).find(TOKENS, 0) is None
    assert files(tmp_path) == []


def test_more_than_all_states_may_take_is_not_read(tmp_path: Path) -> None:
    path = saved(tmp_path)
    assert snapshots(tmp_path, budget=path.stat().st_size - 1).find(TOKENS, 0) is None


def test_links_and_pipes_are_not_read(tmp_path: Path) -> None:
    path = saved(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert snapshots(tmp_path).find(TOKENS, 0) is None
    assert not path.is_symlink()
    assert elsewhere.exists()
    os.mkfifo(path)
    engine = snapshots(tmp_path)
    assert not path.exists()
    os.mkfifo(path)
    assert engine.find(TOKENS, 0) is None


def test_what_an_older_version_kept_is_removed_without_a_word(tmp_path: Path, caplog) -> None:
    path = saved(tmp_path)
    with_plain_sum = HEAD.pack(b"JFKV", 2, bytes(32)) + b"{}"
    old = path.with_name("0" * 32 + ".kv")
    old.write_bytes(with_plain_sum)
    with caplog.at_level(logging.INFO):
        assert snapshots(tmp_path).find(TOKENS, 0) is not None
    assert files(tmp_path) == [path]
    assert caplog.records == []


# --- with checkpoints -------------------------------------------------------------------------------------------------


def with_checkpoints(count: int, size: int = 10) -> Snapshot:
    points = tuple(Checkpoint(20 * number, bytes([number]) * size) for number in range(1, count + 1))
    return Snapshot(TOKENS, STATE, 60, points, can_trim=False)


def uncut(root: Path) -> Snapshots:
    return Snapshots(root, "m", "f", BUDGET, can_trim=False)


def test_checkpoints_come_back_with_their_state(tmp_path: Path) -> None:
    given = with_checkpoints(7)
    assert save_as(uncut(tmp_path), Origin(60), given)
    found = uncut(tmp_path).find(TOKENS[:150] + array("i", [1, 2]), 140 - WORTHWHILE)
    assert found is not None
    assert [(point.length, point.state) for point in found.checkpoints] == [
        (point.length, point.state) for point in given.checkpoints
    ]
    assert found.usable(TOKENS[:150] + array("i", [1, 2])) == 140


def test_what_no_checkpoint_reaches_is_not_read(tmp_path: Path) -> None:
    assert save_as(uncut(tmp_path), Origin(60), with_checkpoints(3))
    assert uncut(tmp_path).find(TOKENS[:150] + array("i", [1, 2]), 0) is None
    assert uncut(tmp_path).find(TOKENS + array("i", [1, 2]), 0) is not None


def test_of_large_checkpoints_the_newest_two_are_written() -> None:
    assert with_checkpoints(7, len(STATE)).as_file().lengths == (120, 140)
    assert with_checkpoints(7, len(STATE) // 4).as_file().lengths == (80, 100, 120, 140)
    assert with_checkpoints(1, len(STATE)).as_file().lengths == (20,)


def test_a_damaged_checkpoint_makes_the_file_useless(tmp_path: Path) -> None:
    assert save_as(uncut(tmp_path), Origin(60), with_checkpoints(7))
    (path,) = kept(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert uncut(tmp_path).find(TOKENS + array("i", [1, 2]), 0) is None
    assert kept(tmp_path) == []
