"""The index of threads: always what the folders say, whoever changed them, and never in the way."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from janflask.errors import InvalidRequestError, StoreBusyError
from janflask.files import ids
from janflask.storage.base import Page
from janflask.storage.thread_index import Facts, ThreadIndex

LONG_AGO, LATER = 1_600_000_000, 4_000_000_000


class Folders:
    """A threads folder, and an index over it that tells which folders it had to open."""

    def __init__(self, path: Path) -> None:
        self.root = path / "threads"
        self.root.mkdir()
        self.file = path / "cache" / "threads.sqlite"
        self.opened: list[str] = []
        self.asked: list[str] = []
        self.owners: dict[str, str | None] = {}
        self.roots: dict[str, str] = {}
        self.scans = 0
        self.index = self.another()

    def another(self) -> ThreadIndex:
        """The index as another process has it."""
        index = ThreadIndex(self.root, self.file, self._time_of, self._facts_of, timeout=0.05)
        scan = index._scan

        def counted() -> object:
            self.scans += 1
            return scan()

        index._scan = counted  # type: ignore[method-assign,assignment]
        return index

    def _time_of(self, name: str) -> int:
        self.opened.append(name)
        return int(name.split("_")[-1])

    def _facts_of(self, name: str) -> Facts | None:
        self.asked.append(name)
        owner = self.owners.get(name, "")
        return None if owner is None else Facts(owner or None, self.roots.get(name))

    def add(self, name: str) -> None:
        """As another program does, long enough ago."""
        (self.root / name).mkdir()
        self.settle()

    def settle(self, seconds: int = LONG_AGO) -> None:
        os.utime(self.root, (seconds, seconds))

    def names(self, **page: object) -> list[str]:
        return list(self.index.names(Page(limit=None, **page)))  # type: ignore[arg-type]


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


def test_no_folder_is_no_threads(folders: Folders) -> None:
    folders.root.rmdir()
    assert folders.names() == []
    assert folders.index.count() == 0


def test_threads_are_in_the_order_of_their_making(folders: Folders) -> None:
    own = [ids.new_id(ids.THREAD, at_ms) for at_ms in (3_000, 1_000)]
    for name in (*own, "jan_2000", "jan_500"):
        (folders.root / name).mkdir()
    folders.settle()
    assert folders.names() == [own[0], "jan_2000", own[1], "jan_500"]
    assert folders.names(order="asc") == ["jan_500", own[1], "jan_2000", own[0]]
    assert folders.index.count() == 4
    assert sorted(folders.opened) == ["jan_2000", "jan_500"], "our own ids tell their time"


def test_names_are_read_once(folders: Folders) -> None:
    folders.add("jan_1")
    for _ in range(3):
        assert folders.names() == ["jan_1"]
    folders.index = folders.another()
    assert folders.names() == ["jan_1"]
    assert folders.scans == 1
    assert folders.opened == ["jan_1"]


def test_what_others_add_and_remove_is_noticed(folders: Folders) -> None:
    folders.add("jan_1")
    assert folders.names() == ["jan_1"]
    (folders.root / "jan_2").mkdir()
    folders.settle(LONG_AGO + 1)
    assert folders.names() == ["jan_2", "jan_1"]
    (folders.root / "jan_1").rmdir()
    folders.settle(LONG_AGO + 2)
    assert folders.names() == ["jan_2"]
    assert folders.opened == ["jan_1", "jan_2"], "what is known is not opened again"


def test_a_folder_changed_just_now_is_read_again(folders: Folders) -> None:
    """A second change in the same tick of the file system's clock does not show in the folder's time."""
    (folders.root / "jan_1").mkdir()
    assert folders.names() == ["jan_1"]
    changed = folders.root.stat().st_mtime_ns
    (folders.root / "jan_2").mkdir()
    os.utime(folders.root, ns=(changed, changed))
    assert folders.names() == ["jan_2", "jan_1"]


def test_our_own_changes_need_no_reading(folders: Folders) -> None:
    folders.add("jan_1")
    assert folders.names() == ["jan_1"]
    with folders.index.adding("jan_2", 2):
        (folders.root / "jan_2").mkdir()
    assert folders.names() == ["jan_2", "jan_1"]
    with folders.index.removing("jan_1"):
        (folders.root / "jan_1").rmdir()
    assert folders.names() == ["jan_2"]
    folders.index = folders.another()
    assert folders.names() == ["jan_2"]
    assert folders.scans == 1


def test_a_change_of_ours_does_not_hide_one_of_others(folders: Folders) -> None:
    folders.add("jan_1")
    assert folders.names() == ["jan_1"]
    (folders.root / "jan_3").mkdir()
    folders.settle(LONG_AGO + 1)
    with folders.index.adding("jan_2", 2):
        (folders.root / "jan_2").mkdir()
    assert folders.names() == ["jan_3", "jan_2", "jan_1"]


def test_a_change_of_others_in_the_same_tick_as_ours_is_noticed(folders: Folders) -> None:
    """Its time is the same; where folders are counted as links, they tell."""
    folders.add("jan_1")
    assert folders.names() == ["jan_1"]
    with folders.index.adding("jan_2", 2):
        (folders.root / "jan_2").mkdir()
    changed = folders.root.stat().st_mtime_ns
    (folders.root / "jan_3").mkdir()
    os.utime(folders.root, ns=(changed, changed))
    assert folders.names() == ["jan_3", "jan_2", "jan_1"]


def test_a_change_of_others_between_the_look_and_our_step_is_noticed(folders: Folders) -> None:
    folders.add("jan_1")
    assert folders.names() == ["jan_1"]
    with folders.index.adding("jan_2", 2):
        (folders.root / "jan_3").mkdir()
        (folders.root / "jan_2").mkdir()
    assert folders.names() == ["jan_3", "jan_2", "jan_1"]


def test_where_links_tell_nothing_a_folder_changed_just_now_is_not_trusted(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = folders.index._folder
    monkeypatch.setattr(folders.index, "_folder", lambda: (*plain()[:2], 1))
    folders.add("jan_1")
    assert folders.names() == ["jan_1"]
    with folders.index.adding("jan_2", 2):
        (folders.root / "jan_2").mkdir()
        folders.settle(LATER)
    (folders.root / "jan_3").mkdir()
    folders.settle(LATER)
    with folders.index.adding("jan_4", 4):
        (folders.root / "jan_4").mkdir()
    assert folders.names() == ["jan_4", "jan_3", "jan_2", "jan_1"]


def test_a_change_that_failed_is_none(folders: Folders) -> None:
    folders.add("jan_1")
    assert folders.names() == ["jan_1"]
    with pytest.raises(OSError, match="full"), folders.index.adding("jan_2", 2):
        raise OSError(28, "full")
    assert folders.names() == ["jan_1"]
    with folders.index.adding("jan_3", 3):
        (folders.root / "jan_3").mkdir()
    assert folders.names() == ["jan_3", "jan_1"]


def test_what_is_no_thread_is_not_listed(folders: Folders) -> None:
    (folders.root / "jan_1").mkdir()
    (folders.root / ".janflask").mkdir()
    (folders.root / "jan_2").write_text("a file")
    (folders.root / "jan_3").symlink_to(folders.root / "jan_1")
    (folders.root / "no id").mkdir()
    folders.settle()
    assert folders.names() == ["jan_1"]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("after", [None, 0, 3, 6])
@pytest.mark.parametrize("before", [None, 0, 3, 6])
def test_the_names_between_cursors(folders: Folders, order: str, after: int | None, before: int | None) -> None:
    for name in (f"jan_{number}" for number in range(7)):
        (folders.root / name).mkdir()
    folders.settle()
    listed = [f"jan_{number}" for number in (range(7) if order == "asc" else range(6, -1, -1))]
    start = 0 if after is None else listed.index(f"jan_{after}") + 1
    stop = len(listed) if before is None else listed.index(f"jan_{before}")
    expected = listed[start:stop]
    if before is not None and after is None:
        expected.reverse()  # a page before a cursor is cut from that cursor on
    page = {"after": after, "before": before}
    cursors = {name: f"jan_{number}" for name, number in page.items() if number is not None}
    assert folders.names(order=order, **cursors) == expected


def test_more_names_than_are_fetched_at_once(folders: Folders) -> None:
    numbers = range(1000, 1650)
    for number in numbers:
        (folders.root / f"jan_{number}").mkdir()
    folders.settle()
    assert folders.names(order="asc") == [f"jan_{number}" for number in numbers]
    assert folders.names() == [f"jan_{number}" for number in reversed(numbers)]


def test_cursors_of_threads_that_are_gone(folders: Folders) -> None:
    folders.add("jan_2000")
    gone = ids.new_id(ids.THREAD, 3000)
    assert folders.names(after=gone) == ["jan_2000"]
    assert folders.names(before=gone) == []
    with pytest.raises(InvalidRequestError) as caught:
        folders.names(before="jan_9")
    assert caught.value.param == "before"


@pytest.mark.parametrize("content", [b"", b"not a database at all, but long enough to be looked at" * 40])
def test_a_broken_file_is_made_anew(folders: Folders, content: bytes) -> None:
    folders.file.parent.mkdir()
    folders.file.write_bytes(content)
    folders.add("jan_1")
    assert folders.names() == ["jan_1"]
    folders.index = folders.another()
    assert folders.names() == ["jan_1"]
    assert folders.scans == 1


@pytest.mark.parametrize("open_before", [False, True])
def test_a_file_that_is_broken_in_its_middle_is_made_anew(folders: Folders, open_before: bool) -> None:
    for number in range(400):
        (folders.root / f"jan_{number}").mkdir()
    folders.settle()
    assert len(folders.names()) == 400
    folders.index._file.connect().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = folders.file.stat().st_size
    if not open_before:
        folders.index._file.connect().close()
        folders.index = folders.another()
    with folders.file.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    folders.add("jan_1000")
    assert len(folders.names()) == 401
    assert folders.index.count() == 401
    assert folders.names(order="asc", after="jan_399") == ["jan_1000"]


def test_the_file_of_another_version_is_made_anew(folders: Folders) -> None:
    folders.file.parent.mkdir()
    db = sqlite3.connect(folders.file)
    db.executescript("CREATE TABLE threads (other); PRAGMA user_version = 99;")
    db.close()
    folders.add("jan_1")
    assert folders.names() == ["jan_1"]


def test_where_no_file_can_be_written_the_index_is_in_memory(folders: Folders) -> None:
    folders.file.parent.write_text("a file where the folder should be")
    folders.add("jan_1")
    assert folders.names() == ["jan_1"]
    with folders.index.adding("jan_2", 2):
        (folders.root / "jan_2").mkdir()
    assert folders.names() == ["jan_2", "jan_1"]


def test_a_lock_that_is_held_too_long(folders: Folders) -> None:
    folders.add("jan_1")
    assert folders.names() == ["jan_1"]
    other = sqlite3.connect(folders.file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusyError), folders.index.adding("jan_2", 2):
        pytest.fail("the folder must not be changed")
    assert folders.names() == ["jan_1"], "readers do not wait"
    other.execute("ROLLBACK")
    other.close()
    with folders.index.adding("jan_2", 2):
        (folders.root / "jan_2").mkdir()
    assert folders.names() == ["jan_2", "jan_1"]


# --- whose they are ---------------------------------------------------------------------------------------------------


def test_whose_threads_are_is_asked_once_and_by_nobody_who_wants_all(folders: Folders) -> None:
    own = ids.new_id(ids.THREAD, 5_000)
    for name in (own, "jan_1", "jan_2"):
        (folders.root / name).mkdir()
    folders.settle()
    folders.owners = {own: "a", "jan_1": "b"}
    assert folders.names() == [own, "jan_2", "jan_1"]
    assert folders.asked == []
    for index in (folders.index, folders.another()):
        assert list(index.names(Page(limit=None, owner="a"))) == [own]
        assert list(index.names(Page(limit=None, owner="b"))) == ["jan_1"]
        assert [index.count(Page(owner=owner)) for owner in ("a", "c", None)] == [1, 0, 3]
    assert sorted(folders.asked) == sorted([own, "jan_1", "jan_2"])


def test_what_is_added_and_given_needs_no_asking(folders: Folders) -> None:
    folders.add("jan_1")
    assert folders.names(owner="a") == []
    folders.asked.clear()
    with folders.index.adding("jan_2", 2, Facts("a")):
        (folders.root / "jan_2").mkdir()
    with folders.index.noting("jan_1", Facts("a")):
        pass
    assert folders.names(owner="a") == ["jan_2", "jan_1"]
    with folders.index.noting("jan_1", Facts()):
        pass
    assert (folders.names(owner="a"), folders.asked) == (["jan_2"], [])


def test_a_gift_that_was_cut_off_is_looked_at_again(folders: Folders) -> None:
    folders.add("jan_1")
    folders.owners = {"jan_1": "a"}
    assert folders.names(owner="a") == ["jan_1"]
    giving = folders.index.noting("jan_1", Facts("b"))
    giving.__enter__()
    folders.owners = {"jan_1": "b"}
    giving.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert (folders.names(owner="b"), folders.names(owner="a")) == (["jan_1"], [])


def test_what_cannot_be_read_is_asked_for_each_time(folders: Folders) -> None:
    folders.add("jan_1")
    folders.owners = {"jan_1": None}
    assert folders.names(owner="a") == folders.names(owner="a") == []
    assert folders.asked == ["jan_1", "jan_1"]
    folders.owners = {"jan_1": "a"}
    assert folders.names(owner="a") == ["jan_1"]


def test_many_are_asked_for_in_steps(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is passed over, and what cannot be read holds up nothing."""
    monkeypatch.setattr("janflask.storage.thread_index._READ_AT_ONCE", 2)
    names = [f"jan_{number}" for number in range(7, 0, -1)]
    for name in names:
        (folders.root / name).mkdir()
    folders.settle()
    folders.owners = {**dict.fromkeys(names, "a"), "jan_2": None, "jan_3": None, "jan_5": "b"}
    assert folders.names(owner="a") == ["jan_7", "jan_6", "jan_4", "jan_1"]
    assert (sorted(folders.asked), folders.names(owner="b")) == (sorted(names), ["jan_5"])


def test_a_gift_while_it_is_asked_for_counts(folders: Folders) -> None:
    folders.add("jan_1")
    other = folders.another()

    def gives(name: str) -> Facts:
        with other.noting(name, Facts("b")):
            return Facts("a")  # as it was read before

    folders.index._facts_of = gives
    assert folders.names(owner="a") == []
    assert folders.names(owner="b") == ["jan_1"]


def test_an_index_that_is_locked_refuses_no_gift(folders: Folders, caplog: pytest.LogCaptureFixture) -> None:
    folders.add("jan_1")
    assert folders.names(owner="a") == []
    with sqlite3.connect(folders.file) as other:
        other.execute("BEGIN IMMEDIATE")
        with folders.index.noting("jan_1", Facts("a")):
            folders.owners = {"jan_1": "a"}
    assert "cannot be written" in caplog.text


def test_a_page_of_few_among_many_reads_no_more_than_it_shows(folders: Folders) -> None:
    """By the index on owners: no step goes over the threads of others."""
    folders.add("jan_1")
    assert folders.names(owner="a") == []
    asked: list[str] = []
    db = folders.index._file.connect()
    db.set_trace_callback(asked.append)
    assert folders.names(owner="a") == []
    db.set_trace_callback(None)
    (query,) = (
        statement for statement in asked if statement.startswith("SELECT created, id FROM threads WHERE owner =")
    )
    plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}")]
    (step,) = plan
    assert step.startswith("SEARCH threads USING COVERING INDEX by_owner (owner=? AND (created,id)"), step


def test_a_file_that_another_process_has_made_anew_is_used(folders: Folders) -> None:
    """What that says of owners would not be heard else."""
    folders.add("jan_1")
    other = folders.another()
    assert folders.names(owner="a") == []
    assert list(other.names(Page(owner="a"))) == []
    other._file.start_over(sqlite3.Error("it is broken"))
    with other.noting("jan_1", Facts("a")):
        folders.owners = {"jan_1": "a"}
    assert folders.names(owner="a") == ["jan_1"]
    for path in folders.file.parent.iterdir():
        path.unlink()
    folders.owners = {"jan_1": "b"}
    assert (folders.names(owner="a"), folders.names(owner="b")) == ([], ["jan_1"])
    assert folders.file.exists()


# --- families ---------------------------------------------------------------------------------------------------------


def test_a_first_thread_stands_for_its_branches(folders: Folders) -> None:
    for name in ("jan_1", "jan_2", "jan_3", "jan_4"):
        (folders.root / name).mkdir()
    folders.settle()
    folders.roots = {"jan_2": "jan_1", "jan_4": "jan_1", "jan_3": "gone_9"}
    assert folders.names(branches=False) == ["jan_3", "jan_1"], "one whose first thread is gone stands for itself"
    assert folders.names(family="jan_1") == ["jan_4", "jan_2", "jan_1"]
    assert folders.names(family="gone_9") == ["jan_3"]
    assert folders.names(family="jan_1", branches=False) == ["jan_1"]
    assert folders.names(branches=False, after="jan_3", order="desc") == ["jan_1"]
    counted = [folders.index.count(Page(**page)) for page in ({}, {"branches": False}, {"family": "jan_1"})]
    assert counted == [4, 2, 3]
    assert folders.index.branches() == {"jan_1": ["jan_2", "jan_4"], "gone_9": ["jan_3"]}
    assert len(folders.asked) == 4, "each file is read once"


def test_a_branch_that_is_added_or_changed_needs_no_reading(folders: Folders) -> None:
    folders.add("jan_1")
    assert folders.names(branches=False) == ["jan_1"]
    folders.asked.clear()
    with folders.index.adding("jan_2", 2, Facts(root="jan_1")):
        (folders.root / "jan_2").mkdir()
    assert folders.names(branches=False) == ["jan_1"]
    with folders.index.noting("jan_2", Facts()):
        pass
    assert (folders.names(branches=False), folders.asked) == (["jan_2", "jan_1"], [])


def test_with_its_first_thread_a_family_comes_into_sight(folders: Folders) -> None:
    for name in ("jan_1", "jan_2", "jan_3"):
        (folders.root / name).mkdir()
    folders.settle()
    folders.roots = {"jan_2": "jan_1", "jan_3": "jan_1"}
    assert folders.names(branches=False) == ["jan_1"]
    with folders.index.removing("jan_1"):
        (folders.root / "jan_1").rmdir()
    assert folders.names(branches=False) == ["jan_3", "jan_2"]


def test_nothing_hides_behind_what_is_not_listed_itself(folders: Folders) -> None:
    """A branch as a first thread, one that cannot be read, another's: whatever stands in the files."""
    for name in ("jan_1", "jan_2", "jan_3", "jan_4"):
        (folders.root / name).mkdir()
    folders.settle()
    folders.roots = {"jan_1": "jan_2", "jan_2": "jan_1", "jan_3": "jan_4"}
    folders.owners = {"jan_4": None}
    assert folders.names(branches=False) == ["jan_4", "jan_3", "jan_2", "jan_1"]
    folders.owners = {"jan_4": "b", "jan_3": "a"}
    for name in ("jan_3", "jan_4"):
        folders.index.doubt(name)
    assert folders.names(branches=False) == ["jan_4", "jan_2", "jan_1"], "who sees all sees it through the first"
    assert folders.names(branches=False, owner="a") == ["jan_3"]
    assert (folders.index.stands_for("jan_4"), folders.index.stands_for("jan_4", "a")) == (True, False)


@pytest.mark.parametrize(("page", "index"), [({"family": "jan_1"}, "PRIMARY KEY"), ({"branches": False}, "by_time")])
def test_a_page_of_a_family_or_without_branches_goes_over_no_list(
    folders: Folders, page: dict[str, object], index: str
) -> None:
    folders.add("jan_1")
    asked: list[str] = []
    assert folders.names(**page) == ["jan_1"]
    db = folders.index._file.connect()
    db.set_trace_callback(asked.append)
    assert folders.names(**page) == ["jan_1"]
    db.set_trace_callback(None)
    query = next(asking for asking in asked if asking.startswith("SELECT created, id FROM threads WHERE TRUE"))
    first, *rest = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}")]
    assert first.startswith("SEARCH threads"), first
    assert index in first, first
    assert not [step for step in rest if step.startswith("SCAN threads")], rest
