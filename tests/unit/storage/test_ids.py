"""Ids: what may be one, their order and time, and names made safe."""

from __future__ import annotations

import threading
import time

import pytest

from janflask.files import ids

HOSTILE = [
    *("", ".", "..", "../x", "a/b", "a\\b", "/etc/passwd", "%2e%2e", "a\0", "\0", ".hidden", "-x", "_x", "a b", " a"),
    *("a\n", "a\r\n", "é", "\uff41", "a:b", "a*", "~", "a" * 129, "x" * 300, "\u202ea", "a\ud800"),
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_no_id(text: str) -> None:
    assert not ids.is_id(text)


@pytest.mark.parametrize("text", ["a", "7", "jan", "jan_1717666232", "01HZPKMAT2GANGVWPM4W78SW41", "a..b", "a" * 128])
def test_what_is_an_id(text: str) -> None:
    assert ids.is_id(text)


@pytest.mark.parametrize("text", ["import", "EXPORT", "Con", "con.json", "lpt9", "COM1.x.y", "nul", "name.", "import."])
def test_reserved_names(text: str) -> None:
    assert ids.is_id(text)
    assert ids.is_reserved(text)


@pytest.mark.parametrize("text", ["jan", "imports", "console", "com", "com10", "exported.x", "xcon"])
def test_names_that_are_free(text: str) -> None:
    assert not ids.is_reserved(text)


@pytest.mark.parametrize("prefix", [ids.THREAD, ids.MESSAGE, ids.ASSISTANT, ids.FILE, ids.RUN])
def test_a_new_id_is_an_id_and_tells_its_time(prefix: str) -> None:
    before = ids.now_ms()
    made = ids.new_id(prefix)
    made_ms = ids.time_of(made)
    assert ids.is_id(made)
    assert not ids.is_reserved(made)
    assert made.startswith(prefix)
    assert made_ms is not None
    assert before <= made_ms <= ids.now_ms() + 1


@pytest.mark.parametrize("at_ms", [0, 1, 1_700_000_000_000, (1 << 48) - 1])
def test_the_time_of_an_id_comes_back(at_ms: int) -> None:
    assert ids.time_of(ids.new_id(ids.FILE, at_ms)) == at_ms


@pytest.mark.parametrize(
    "text",
    [
        *("jan", "01HZPKMAT2GANGVWPM4W78SW41", "thread_", "thread_abc123", "file-", "thread_8" + "0" * 25),
        *(
            "thread_" + "0" * 25,
            "thread_" + "0" * 27,
            "thread_" + "u" * 26,
            "THREAD_" + "0" * 26,
            "thread_" + "0" * 26 + "\n",
        ),
    ],
)
def test_an_id_from_elsewhere_tells_no_time(text: str) -> None:
    assert ids.time_of(text) is None


@pytest.mark.parametrize(
    "thread",
    [ids.new_id(ids.THREAD), "jan_1717666232", "a..b", "a" * ids.MAX_ANSWERED],
    ids=["ours", "Jan's", "dots", "long"],
)
def test_an_answers_id_tells_its_thread_and_its_time(thread: str) -> None:
    made = ids.new_answer_id(ids.CHAT, thread)
    assert ids.is_id(made)
    assert ids.thread_of(made) == thread
    assert ids.time_of(made) is not None
    assert made.removeprefix(ids.CHAT).startswith(ids.tail_of(made))


@pytest.mark.parametrize("behind", [".", "..", "...", ".../x", "..hidden", ".-x", "x", ".a/b", "." + "a" * 128])
def test_an_answers_id_names_nothing_that_is_no_id(behind: str) -> None:
    assert ids.thread_of(ids.new_id(ids.RESPONSE) + behind) is None


def test_ids_sort_by_their_time() -> None:
    times = [0, 5, 999, 1_000, 1_700_000_000_000, 1_700_000_000_001, 1 << 47]
    made = [ids.new_id(ids.THREAD, at_ms) for at_ms in times]
    assert sorted(made) == made


def test_new_ids_ascend_within_a_thread_and_are_unique_among_threads() -> None:
    made: list[list[str]] = [[] for _ in range(8)]
    start = threading.Barrier(len(made))

    def make(own: list[str]) -> None:
        start.wait()
        own.extend(ids.new_id(ids.MESSAGE) for _ in range(500))

    threads = [threading.Thread(target=make, args=(own,)) for own in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(own == sorted(own) for own in made)
    assert len({text for own in made for text in own}) == 8 * 500


def test_an_id_made_later_sorts_later_whichever_thread_makes_it() -> None:
    made = [ids.new_id(ids.THREAD)]
    for _ in range(20):
        maker = threading.Thread(target=lambda: made.append(ids.new_id(ids.THREAD)))
        maker.start()
        maker.join()
    assert made == sorted(made)


def test_a_clock_that_goes_back_does_not_break_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns()
    first = ids.new_id(ids.THREAD)
    monkeypatch.setattr(time, "time_ns", lambda: now - 3_600_000_000_000)
    second, third = ids.new_id(ids.THREAD), ids.new_id(ids.THREAD)
    assert first < second < third


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("notes.txt", "notes.txt"),
        ("my notes (1).txt", "my_notes_1_.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\win.ini", "win.ini"),
        ("..", "file"),
        ("", "file"),
        ("...", "file"),
        ("-rf", "rf"),
        (".bashrc", "bashrc"),
        ("a\0b.txt", "a_b.txt"),
        ("x.", "x"),
        ("folder/", "file"),
    ],
)
def test_a_name_made_safe(name: str, safe: str) -> None:
    assert ids.safe_name(name) == safe


@pytest.mark.parametrize("name", [*HOSTILE, "x" * 1000 + ".png", "日本語.txt", "." * 500, "a." + "b" * 300, "é" * 300])
def test_a_safe_name_stays_in_its_folder(name: str) -> None:
    safe = ids.safe_name(name)
    assert ids.is_id(safe)
    assert len(safe) <= 100
    assert not safe.endswith(".")
    assert ids.safe_name(safe) == safe


def test_a_long_name_keeps_its_suffix() -> None:
    assert ids.safe_name("x" * 1000 + ".png") == "x" * 96 + ".png"


def test_a_free_name() -> None:
    assert ids.free_name("a.txt", {"b.txt"}) == "a.txt"
    assert ids.free_name("a.txt", {"a.txt", "a-2.txt"}) == "a-3.txt"
    assert ids.free_name("a", {"a"}) == "a-2"
