"""``messages.jsonl``: whole lines only, whatever was left behind at whichever byte."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from janflask.files.disk import Disk, opened_folder
from janflask.settings import Settings
from janflask.storage import message_log, open_repository
from janflask.storage.base import Page
from janflask.storage.message_index import MessageIndex
from janflask.storage.message_log import BLOCK, Log
from janflask.storage.records import Message, Thread

LINES = [
    b'{"id":"a","content":"one"}',
    '{"id":"b","content":"zwölf {}"}'.encode(),
    b'{"id":"c","content":"\\n\\u007d"}',
]
WHOLE = b"".join(line + b"\n" for line in LINES)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    with opened_folder(tmp_path) as fd:
        yield fd


def write(fd: int, data: bytes) -> None:
    file = os.open("messages.jsonl", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=fd)
    os.write(file, data)
    os.close(file)


def forward(fd: int) -> list[bytes]:
    with message_log.opened(fd, "t") as log:
        return [] if log is None else [line.data for line in log.forward()]


def backward(fd: int) -> list[bytes]:
    with message_log.opened(fd, "t") as log:
        return [] if log is None else [line.data for line in log.backward()]


def starts(fd: int) -> list[int]:
    with message_log.opened(fd, "t") as log:
        return [] if log is None else [line.start for line in log.forward()]


@pytest.mark.parametrize("length", range(len(WHOLE) + 1))
def test_a_file_cut_anywhere_has_its_whole_lines(folder: int, length: int) -> None:
    """A line counts once its last brace is there, with or without the line's end."""
    write(folder, WHOLE[:length])
    ends = [len(WHOLE[: WHOLE.index(line)]) + len(line) for line in LINES]
    expected = [line for line, end in zip(LINES, ends, strict=True) if end <= length]
    assert forward(folder) == expected
    assert backward(folder) == expected[::-1]


@pytest.mark.parametrize("length", range(len(WHOLE) + 1))
def test_an_append_to_a_file_cut_anywhere_is_a_line_of_its_own(folder: int, tmp_path: Path, length: int) -> None:
    write(folder, WHOLE[:length])
    before = forward(folder)
    message_log.append(Disk(), folder, b'{"id":"new"}\n', "t")
    assert forward(folder) == [*before, b'{"id":"new"}']
    kept = b"".join(line + b"\n" for line in before)
    assert (tmp_path / "messages.jsonl").read_bytes() == kept + b'{"id":"new"}\n'
    torn = WHOLE[len(kept) : length]
    aside = [path.read_bytes() for path in tmp_path.glob("messages.jsonl.torn-*")]
    assert aside == ([torn] if torn else [])


def test_what_is_set_aside_is_told(folder: int, caplog: pytest.LogCaptureFixture) -> None:
    write(folder, WHOLE + b'{"id":"tor')
    with caplog.at_level(logging.WARNING):
        message_log.append(Disk(), folder, b"{}\n", "thread_1")
    assert "thread_1" in caplog.text
    assert "messages.jsonl.torn-" in caplog.text


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 5 * BLOCK + 7])
def test_lines_longer_than_a_block(folder: int, size: int) -> None:
    lines = [b'{"id":"%d","x":"%s"}' % (number, b"y" * (size + number)) for number in range(5)]
    write(folder, b"".join(line + b"\n" for line in lines))
    assert forward(folder) == lines
    assert backward(folder) == lines[::-1]
    positions = [sum(len(line) + 1 for line in lines[:row]) for row in range(len(lines))]
    assert starts(folder) == positions


def test_blank_lines_are_none(folder: int) -> None:
    write(folder, b"\n\n" + LINES[0] + b"\n\n\n" + LINES[1] + b"\n\n")
    assert forward(folder) == LINES[:2]
    assert backward(folder) == LINES[1::-1]


def test_no_file_is_no_messages(folder: int) -> None:
    assert forward(folder) == []


def test_a_reader_keeps_to_the_file_as_it_was(folder: int) -> None:
    write(folder, WHOLE)
    with message_log.opened(folder, "t") as log:
        assert log is not None
        message_log.append(Disk(), folder, b'{"id":"later"}\n', "t")
        assert [line.data for line in log.forward()] == LINES
        message_log.rewrite(Disk(), folder, [b'{"id":"other"}'])
        assert [line.data for line in log.backward()] == LINES[::-1]
    assert forward(folder) == [b'{"id":"other"}']


def test_a_failed_append_leaves_the_file_as_it_was(folder: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, WHOLE)
    write_some = os.write

    def short_then_full(file: int, data: bytes) -> int:
        if len(data) < 5:
            raise OSError(28, "no space left on device")
        return write_some(file, data[:-4])

    monkeypatch.setattr("janflask.files.disk.os.write", short_then_full)
    with pytest.raises(OSError, match="no space"):
        message_log.append(Disk(), folder, b'{"id":"new"}\n', "t")
    assert forward(folder) == LINES
    monkeypatch.undo()
    message_log.append(Disk(), folder, b'{"id":"new"}\n', "t")
    assert forward(folder) == [*LINES, b'{"id":"new"}']


def test_a_failed_rewrite_leaves_the_file_as_it_was(folder: int, tmp_path: Path) -> None:
    write(folder, WHOLE)

    def failing() -> Iterator[bytes]:
        yield LINES[0]
        raise OSError(28, "no space left on device")

    with pytest.raises(OSError, match="no space"):
        message_log.rewrite(Disk(), folder, failing())
    assert [path.name for path in tmp_path.iterdir()] == ["messages.jsonl"]
    assert forward(folder) == LINES


def test_a_broken_line_is_left_out_and_told(folder: int, caplog: pytest.LogCaptureFixture) -> None:
    write(folder, LINES[0] + b"\n{broken}\n[1]\n\xff\xfe\n" + LINES[1] + b"\n")
    with message_log.opened(folder, "thread_1") as log, caplog.at_level(logging.WARNING):
        assert log is not None
        found = [log.message(line) for line in log.forward()]
    assert [message.id for message in found if message is not None] == ["a", "b"]
    assert [record.getMessage().split(" of ")[0] for record in caplog.records] == [
        "thread thread_1: line at byte 27",
        "thread thread_1: line at byte 36",
        "thread thread_1: line at byte 40",
    ]


# --- the index of lines -------------------------------------------------------------------------------------------


def index_of(fd: int, known: MessageIndex | None = None) -> tuple[MessageIndex | None, list[bytes]]:
    """The known index grown (or a new one), and every line that it points at."""
    with message_log.opened(fd, "t") as log:
        assert isinstance(log, Log)
        index = MessageIndex(log) if known is None else known.grown(log)
        return index, [] if index is None else [index.line(log, row).data for row in range(len(index))]


def test_an_index_grows_with_its_file(folder: int) -> None:
    write(folder, b"\n" + WHOLE)
    index, lines = index_of(folder)
    assert index is not None
    assert (index.ids, lines) == (["a", "b", "c"], LINES)
    message_log.append(Disk(), folder, b'{"id":"d"}\n', "t")
    again, lines = index_of(folder, index)
    assert again is index
    assert (index.ids, lines) == (["a", "b", "c", "d"], [*LINES, b'{"id":"d"}'])


def test_a_walk_over_ids_that_come_again_ends(folder: int) -> None:
    write(folder, b"".join(b'{"id":"%c","content":""}\n' % name for name in b"xyabcad"))
    with message_log.opened(folder, "t") as log:
        assert log is not None
        index = MessageIndex(log)
        assert list(index.rows(log, Page(order="asc", after="a"))) == [6]
        assert list(index.rows(log, Page(order="desc", after="a"))) == [0, 1]


def test_an_index_is_not_for_another_file(folder: int) -> None:
    write(folder, WHOLE)
    index, _ = index_of(folder)
    message_log.rewrite(Disk(), folder, [*LINES, b'{"id":"d"}'])
    assert index_of(folder, index)[0] is None


def test_an_index_is_not_for_a_file_that_an_editor_wrote_to(folder: int) -> None:
    """The same file, longer, but not by an append."""
    write(folder, WHOLE)
    index, _ = index_of(folder)
    write(folder, LINES[1] + b"\n" + WHOLE)
    assert index_of(folder, index)[0] is None


def test_a_last_line_without_an_end_is_read_again_once_it_has_grown(folder: int) -> None:
    write(folder, WHOLE.rstrip(b"\n"))
    index, lines = index_of(folder)
    assert lines == LINES
    message_log.append(Disk(), folder, b'{"id":"d"}\n', "t")
    assert index_of(folder, index)[0] is None
    assert index_of(folder)[1] == [*LINES, b'{"id":"d"}']


def test_an_index_that_has_grown_still_serves_an_older_view(folder: int) -> None:
    """Another thread read on while this one still works with the file as it was."""
    write(folder, WHOLE)
    with message_log.opened(folder, "t") as before:
        assert before is not None
        index = MessageIndex(before)
        message_log.append(Disk(), folder, b'{"id":"d"}\n', "t")
        assert index_of(folder, index)[0] is index
        assert index.row(before, "d") is None
        assert list(index.rows(before, Page(order="asc", after="a"))) == [1, 2]
        assert list(index.rows(before, Page(order="desc", after="b"))) == [0]
    with message_log.opened(folder, "t") as after:
        assert after is not None
        assert index.row(after, "d") == 3


def test_messages_that_nobody_asks_for_close_their_file(tmp_path: Path) -> None:
    store = open_repository(Settings(data_dir=tmp_path)).threads
    store.create(Thread(id="t", created_ms=1, updated_ms=1), [Message(id="m", thread_id="t", created_ms=1)])
    before = psutil.Process().num_fds()
    messages = store.all_messages("t")
    assert psutil.Process().num_fds() == before + 1
    del messages
    assert psutil.Process().num_fds() == before
    assert [message.id for message in store.all_messages("t")] == ["m"]
    assert psutil.Process().num_fds() == before


# --- lines that hold more or less than a message ------------------------------------------------------------------

A, B, C = (f'{{"id":"{name}","role":"user","content":"}}{{ {name}"}}'.encode() for name in "abc")
TORN = b'{"id":"x","role":"user","attachments":[{"id":"inner"}],"content":[{"type":"text","text":{"val'
NAUGHT = bytes(8)  # what a power cut may leave

# What stands in the file; which messages are in it; what is set aside by the next write.
MIXED = [
    (A + B + b"\n" + C + b"\n", "abc", b""),
    (A + b" \r" + B + b"\t" + C + b"\n", "abc", b""),
    (A + B + C, "abc", b""),
    (A + b"\n" + B + C, "abc", b""),
    (A + TORN, "a", TORN),
    (A + B + TORN, "ab", TORN),
    (A + TORN + b"\n" + B + b"\n", "ab", b""),
    (TORN + A + b"\n" + B + b"\n", "ab", b""),
    (TORN + A, "a", b""),
    (A + TORN + B + TORN + C + b"\n", "abc", b""),
    (A + NAUGHT + b"\n" + NAUGHT + B + NAUGHT + b"\n" + C, "abc", b""),
    (A + b"}]\n" + B + b"}\n", "ab", b""),
    (b"\xff" + A + b"\xff\n", "a", b""),
    (b"\xef\xbb\xbf" + A + B + b"\n", "ab", b""),
    (b"[" + A + b"," + B + b"]\n", "ab", b""),
    (TORN + TORN, "", TORN + TORN),
]


def ids_of(lines: list[bytes]) -> str:
    found = (message_log.stored_id(message_log.Line(0, data.removeprefix(b"\xef\xbb\xbf"))) for data in lines)
    return "".join(found)


@pytest.mark.parametrize(("data", "names", "torn"), MIXED)
def test_every_message_is_read_whatever_stands_beside_it(folder: int, data: bytes, names: str, torn: bytes) -> None:
    write(folder, data)
    assert ids_of(forward(folder)) == names
    assert backward(folder) == forward(folder)[::-1]
    for start, line in zip(starts(folder), forward(folder), strict=True):
        assert data[start : start + len(line)] == line
    index, lines = index_of(folder)
    assert index is not None
    assert "".join(index.ids) == names
    assert ids_of(lines) == names
    assert set(lines) <= set(forward(folder))


@pytest.mark.parametrize(("data", "names", "torn"), MIXED)
def test_the_next_write_keeps_them_all(folder: int, tmp_path: Path, data: bytes, names: str, torn: bytes) -> None:
    write(folder, data)
    message_log.append(Disk(), folder, b'{"id":"d"}\n', "t")
    assert ids_of(forward(folder)) == names + "d"
    aside = [path.read_bytes() for path in tmp_path.glob("messages.jsonl.torn-*")]
    assert aside == ([torn] if torn else [])


@pytest.mark.parametrize(("data", "names", "torn"), MIXED)
def test_a_rewrite_puts_each_on_a_line_and_loses_nothing(folder: int, data: bytes, names: str, torn: bytes) -> None:
    write(folder, data)
    with message_log.opened(folder, "t") as log:
        assert log is not None
        message_log.rewrite(Disk(), folder, [line for _, line in message_log.lasting(log)])
    assert ids_of(forward(folder)) == names
    with message_log.opened(folder, "t") as log:
        assert log is not None
        lines = [line.data for line in log.lines_backward()][::-1]
    assert lines == forward(folder)  # one on each line
    assert b"".join(lines) + torn == data.replace(b"\n", b"")


def test_a_file_without_any_line_break_is_read_in_time(folder: int) -> None:
    """The whole of it is one line: what costs the square of its length would not come to an end."""
    names = [f"{number:05d}" for number in range(20_000)]
    write(folder, b"".join(b'{"id":"%s","role":"user","content":"}{"}' % name.encode() for name in names))
    index, _ = index_of(folder)
    assert index is not None
    assert index.ids == names


def test_a_damaged_line_is_given_up_in_time(folder: int) -> None:
    write(folder, b'{"id":' * 200_000 + b"\n" + A + b"\n")
    assert ids_of(forward(folder)) == "a"


def test_messages_without_ids_on_one_line_have_the_same_ones_everywhere(folder: int) -> None:
    write(folder, b'{"role":"user","content":"1"} {"role":"user","content":"2"}\n{"role":"user","content":"3"}\n')
    with message_log.opened(folder, "t") as log:
        assert log is not None
        names = [log.id(line) for line in log.forward()]
    index, _ = index_of(folder)
    assert index is not None
    assert index.ids == names
    assert len(set(names)) == 3
