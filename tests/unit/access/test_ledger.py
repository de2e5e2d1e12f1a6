"""What keys use: buckets, days, and many processes at once of which some are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from janflask.access import slots
from janflask.access.caller import working_for
from janflask.access.keys import Key, Limits, new_key
from janflask.access.ledger import DAY, HOLD, MAX_OPEN, SUFFIX, Day, Ledger
from janflask.access.meter import Meter
from janflask.access.scopes import USUAL

NOON = 20_000 * DAY + DAY / 2


def key_with(**limits: int) -> Key:
    return new_key("a", USUAL, Limits(**limits), 1)[0]


def admitted(ledger: Ledger, key: Key, now: float, *, generates: bool = False) -> bool:
    return ledger.admit(key, generates=generates, now=now)[1] is None


def test_a_minutes_worth_at_once_and_then_evenly(tmp_path: Path) -> None:
    ledger, key = Ledger(tmp_path), key_with(requests_per_minute=6)
    assert [admitted(ledger, key, NOON) for _ in range(8)] == [True] * 6 + [False] * 2
    assert [admitted(ledger, key, NOON + 9.9), admitted(ledger, key, NOON + 10.1)] == [False, True]
    assert not admitted(ledger, key, NOON + 11)
    assert [admitted(ledger, key, NOON + 1000) for _ in range(7)] == [True] * 6 + [False]
    (day,) = ledger.days(key.id)
    assert day.requests == 13, "what is refused is not counted"


def test_what_is_left_and_when_it_is_full_again(tmp_path: Path) -> None:
    ledger, key = Ledger(tmp_path), key_with(requests_per_minute=60, tokens_per_minute=600)
    room, _ = ledger.admit(key, generates=True, now=NOON)
    assert room.requests is not None
    assert room.tokens is not None
    assert (room.requests.left, room.requests.full_in, room.tokens.left, room.tokens.full_in) == (59, 1.0, 600, 0.0)
    ledger.spend(key.id, 100, 0, 200, NOON)
    room, _ = ledger.admit(key, generates=True, now=NOON)
    assert room.tokens is not None
    assert (room.tokens.left, room.tokens.full_in) == (300, 30.0)


def test_tokens_are_owed_and_waited_for_by_those_who_take_some(tmp_path: Path) -> None:
    ledger, key = Ledger(tmp_path), key_with(tokens_per_minute=600)
    assert admitted(ledger, key, NOON, generates=True)
    ledger.spend(key.id, 1000, 900, 200, NOON)
    room, problem = ledger.admit(key, generates=True, now=NOON)
    assert problem is not None
    assert (problem.status, problem.code, problem.type, problem.retry_after) == (
        429,
        "rate_limit_exceeded",
        "tokens",
        61,
    )
    assert room.tokens is not None
    assert room.tokens.left == -600
    assert admitted(ledger, key, NOON), "a thread can be read meanwhile"
    assert not admitted(ledger, key, NOON + 60, generates=True)
    assert admitted(ledger, key, NOON + 61, generates=True)


def test_a_clock_that_is_set_back_gives_and_takes_nothing(tmp_path: Path) -> None:
    ledger, key = Ledger(tmp_path), key_with(requests_per_minute=2)
    assert [admitted(ledger, key, NOON) for _ in range(3)] == [True, True, False]
    assert not admitted(ledger, key, NOON - 5000)
    assert admitted(ledger, key, NOON - 5000 + 31)


def test_days_are_kept_apart_and_over_restarts(tmp_path: Path) -> None:
    key = key_with()
    for number in range(3):
        for _ in range(number + 1):
            Ledger(tmp_path).admit(key, generates=True, now=NOON + number * DAY)
        Ledger(tmp_path).spend(key.id, 10, 4, number, NOON + number * DAY)
    Ledger(tmp_path).spend(key.id, 1, 0, 0, NOON + 10 * DAY)
    expected = [Day(20_000 + number, number + 1, 10, 4, number) for number in range(3)]
    assert Ledger(tmp_path).days(key.id) == [*expected, Day(20_010, 0, 1, 0, 0)]
    assert Ledger(tmp_path).keys() == [key.id]
    assert (tmp_path / f"{key.id}.usage").stat().st_mode & 0o777 == 0o600


def test_limits_hold_over_a_restart(tmp_path: Path) -> None:
    key = key_with(requests_per_minute=1)
    assert [admitted(Ledger(tmp_path), key, NOON) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("damage", [b"", b"x", b"x" * 500])
def test_a_file_that_is_damaged_begins_anew(tmp_path: Path, damage: bytes) -> None:
    key = key_with(requests_per_minute=2)
    Ledger(tmp_path).admit(key, generates=True, now=NOON)
    (tmp_path / f"{key.id}.usage").write_bytes(damage)
    assert admitted(Ledger(tmp_path), key, NOON)
    assert Ledger(tmp_path).days(key.id)[-1].requests == 1


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    key, other = key_with(), tmp_path / "other"
    other.write_bytes(b"precious")
    (tmp_path / f"{key.id}.usage").symlink_to(other)
    with pytest.raises(OSError):
        Ledger(tmp_path).admit(key, generates=False, now=NOON)
    assert other.read_bytes() == b"precious"


def test_keys_do_not_share(tmp_path: Path) -> None:
    ledger, first = Ledger(tmp_path), key_with(requests_per_minute=1)
    second = replace(first, id="b" * 12)
    assert [admitted(ledger, key, NOON) for key in (first, second, first, second)] == [True, True, False, False]


def test_many_keys_hold_few_files_and_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("janflask.access.ledger.time.time", lambda: NOON + HOLD)
    ledger, keys = Ledger(tmp_path), [key_with(requests_per_minute=1200) for _ in range(MAX_OPEN + 20)]
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(2):
        for key in keys:
            assert admitted(ledger, key, NOON)
    assert len(list(Path("/proc/self/fd").iterdir())) - before == MAX_OPEN
    ledger.flush()
    assert not ledger._advances
    days = [ledger.days(key.id) for key in keys]
    assert {day.requests for (day,) in days} == {2}
    room, _ = Ledger(tmp_path).admit(keys[0], generates=True, now=NOON)
    assert room.requests is not None
    assert room.requests.left == 1197, "what was taken in advance is given back"


COUNT = """
import sys
from pathlib import Path
from janflask.access.keys import Limits, Key
from janflask.access.ledger import Ledger
from janflask.access.scopes import USUAL
ledger = Ledger(Path(sys.argv[1]))
key = Key("a" * 12, "a", bytes(32), USUAL, 1, Limits(requests_per_minute=int(sys.argv[3])))
print("go", flush=True)
admitted = 0
for _ in range(int(sys.argv[2])):
    if ledger.admit(key, generates=sys.argv[4] == "spend", now=1e9)[1] is None:
        admitted += 1
        if sys.argv[4] == "spend":
            ledger.spend(key.id, 3, 2, 1, 1e9)
print(admitted)
"""


def counting(folder: Path, times: int, limit: int, kind: str = "spend") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", COUNT, str(folder), str(times), str(limit), kind]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_count_together(tmp_path: Path) -> None:
    workers = [counting(tmp_path, 300, 1000) for _ in range(4)]
    for worker in workers:
        worker.communicate()
        assert worker.returncode == 0
    assert Ledger(tmp_path).days("a" * 12) == [Day(int(1e9 // DAY), 1000, 3000, 2000, 1000)]


@pytest.mark.parametrize("limit", [200, 6_000, 60_000])
def test_what_is_taken_in_advance_is_within_the_limit_and_told(tmp_path: Path, limit: int) -> None:
    workers = [counting(tmp_path, 3000, limit, "look") for _ in range(4)]
    admitted = sum(int(worker.communicate()[0].split()[-1]) for worker in workers)
    held_back = 3 * limit // 600  # others may have taken it, and no time passes here
    assert min(12_000, limit - held_back) <= admitted <= limit
    assert sum(each.requests for each in Ledger(tmp_path).days("a" * 12)) == admitted


def test_what_was_taken_in_advance_goes_back(tmp_path: Path) -> None:
    key = key_with(requests_per_minute=6000)
    ledger, other = Ledger(tmp_path), Ledger(tmp_path)
    assert admitted(ledger, key, NOON)
    room, _ = other.admit(key, generates=True, now=NOON)
    assert room.requests is not None
    assert room.requests.left == 6000 - 10 - 1
    assert [admitted(ledger, key, NOON + 0.001) for _ in range(4)] == [True] * 4
    assert ledger.days(key.id)[-1].requests == 2, "not told yet"
    assert admitted(ledger, key, NOON + 1.1)
    room, _ = other.admit(key, generates=True, now=NOON + 1.1)
    assert room.requests is not None
    assert ledger.days(key.id)[-1].requests == 1 + 1 + 4 + 1 + 1
    assert room.requests.left == 6000 - 2, "the bucket has filled up, and what was taken in advance is in it again"


def test_what_nobody_asked_about_is_told_all_the_same(tmp_path: Path) -> None:
    ledger, key = Ledger(tmp_path), key_with()
    for _ in range(5):
        ledger.admit(key, generates=False)
    ledger.flush()
    assert sum(day.requests for day in ledger.days(key.id)) == 5
    ledger.flush()
    assert sum(day.requests for day in ledger.days(key.id)) == 5


def test_a_file_that_cannot_be_written_keeps_no_other_from_being_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ledger, first = Ledger(tmp_path), key_with()
    second = replace(first, id="b" * 12)
    for key in (first, second, first, second):
        ledger.admit(key, generates=False)
    with (tmp_path / f"{first.id}{SUFFIX}").open("rb") as readable, monkeypatch.context() as broken:
        broken.setitem(ledger._files, first.id, readable.fileno())
        ledger.flush()
    assert f"the usage of key {first.id} could not be written" in caplog.text
    assert [ledger.days(key.id)[-1].requests for key in (first, second)] == [1, 2]
    ledger.flush()
    assert ledger.days(first.id)[-1].requests == 2


def test_one_that_is_killed_leaves_nothing_locked(tmp_path: Path) -> None:
    with counting(tmp_path, 10**9, 10**9) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        key = replace(key_with(), id="a" * 12)
        ledger = Ledger(tmp_path)
        while not ledger.days(key.id):
            pass
        worker.kill()
    assert admitted(ledger, key, 1e9)


# --- answers at once --------------------------------------------------------------------------------------------------


@pytest.fixture
def taken(tmp_path: Path) -> Iterator[list[slots.Slot]]:
    found: list[slots.Slot] = []
    yield found
    for slot in found:
        slot.release()


def test_as_many_places_as_the_limit(tmp_path: Path, taken: list[slots.Slot]) -> None:
    for _ in range(3):
        slot = slots.take(tmp_path, "a", 3)
        assert slot is not None
        taken.append(slot)
    assert slots.take(tmp_path, "a", 3) is None
    other = slots.take(tmp_path, "b", 3)
    assert other is not None
    taken.append(other)
    taken[1].release()
    taken[1].release()
    again = slots.take(tmp_path, "a", 3)
    assert again is not None
    taken.append(again)
    assert slots.take(tmp_path, "a", 3) is None


def test_a_place_ends_with_its_process(tmp_path: Path) -> None:
    code = "import sys, time\nfrom pathlib import Path\nfrom janflask.access import slots\n"
    code += "slot = slots.take(Path(sys.argv[1]), 'a', 1)\nprint(slot is not None, flush=True)\ntime.sleep(600)\n"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "True\n"
        assert slots.take(tmp_path, "a", 1) is None
        os.kill(worker.pid, signal.SIGKILL)
    slot = slots.take(tmp_path, "a", 1)
    assert slot is not None
    slot.release()


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        slot = slots.take(tmp_path, "a", 1)
        assert slot is not None
        assert slots.take(tmp_path, "a", 1) is None
        slot.release()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# --- whose tokens -----------------------------------------------------------------------------------------------------


def test_tokens_are_of_whoever_the_work_is_for(tmp_path: Path) -> None:
    meter = Meter(tmp_path)
    working_for.set(None)
    assert meter.spend() is None
    token = working_for.set("a" * 12)
    try:
        spend = meter.spend()
    finally:
        working_for.reset(token)
    assert spend is not None
    spend(7, 2, 5)
    (day,) = Ledger(tmp_path).days("a" * 12)
    assert (day.prompt_tokens, day.cached_tokens, day.completion_tokens) == (7, 2, 5)


def test_an_answer_is_not_lost_for_what_cannot_be_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "usage").write_text("a file")
    token = working_for.set("a" * 12)
    spend = Meter(tmp_path / "usage").spend()
    working_for.reset(token)
    assert spend is not None
    spend(7, 2, 5)
    assert "12 tokens" in caplog.text
