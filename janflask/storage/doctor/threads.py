"""The doctor's look at one thread: ``thread.json``, every line of ``messages.jsonl``, what these refer to."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from janflask.errors import StoreDamagedError
from janflask.files import ids
from janflask.files.disk import open_plain
from janflask.storage import message_log, odd_values
from janflask.storage.doctor.case import NOT_A_FILE, Case, Finding, left_over_files, links_in, told, wrong_types
from janflask.storage.doctor.runs import check_runs
from janflask.storage.file_threads import MAX_THREAD_FILE
from janflask.storage.jan import (
    FILES_FOLDER,
    MESSAGES_FILE,
    THREAD_FILE,
    decode_object,
    encode_thread,
    message_from_json,
    thread_from_json,
)
from janflask.storage.message_lines import Line, is_object, parts
from janflask.storage.records import Message, Thread

TITLE_LENGTH = 80  # characters of a title that is made from the first message
_READ = 1 << 18  # bytes

_THREAD: dict[str, type] = {
    **dict.fromkeys(("title", "summary", "model_id"), str),
    **dict.fromkeys(("metadata", "settings", "parameters", "tool_resources"), dict),
    "assistants": list,
}
_MESSAGE: dict[str, type] = {
    **dict.fromkeys(("id", "role", "status", "assistant_id", "run_id"), str),
    **dict.fromkeys(("metadata", "incomplete_details"), dict),
    **dict.fromkeys(("file_ids", "attachments"), list),
}


@dataclass
class ThreadCheck:
    """The check of the thread in the folder ``fd``, whose lock is held.

    ``held`` are the uploaded files that its messages hold, once ``findings`` has come to its end.
    """

    case: Case
    fd: int
    thread_id: str
    held: dict[str, None] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)
    _first: Message | None = None
    _last_ms: int = 0

    def findings(self) -> Iterator[Finding]:
        """Messages first: they may have to give what ``thread.json`` lacks."""
        yield from self._messages()
        yield from self._thread()
        yield from check_runs(self.case, self.fd, self.thread_id)
        for name in links_in(self.fd, FILES_FOLDER):
            yield Finding(f"{self._path}/{FILES_FOLDER}/{name}".rstrip("/"), NOT_A_FILE)
        yield from left_over_files(self.case, self.fd, self._path)

    @property
    def _path(self) -> str:
        return f"threads/{self.thread_id}"

    # --- thread.json ------------------------------------------------------------------------------------------------

    def _thread(self) -> Iterator[Finding]:
        path = f"{self._path}/{THREAD_FILE}"
        try:
            raw = self.case.read_object(self.fd, THREAD_FILE, MAX_THREAD_FILE)
        except FileNotFoundError:
            if self._first is None:
                yield Finding(self._path, f"it has no {THREAD_FILE} and no messages, so it is no thread: remove it")
            else:
                yield self._mended(path, "it is missing; it can be made from the messages", self._rebuilt())
        except StoreDamagedError as error:
            yield self._mended(path, f"{error.message}; it can be made from the messages", self._rebuilt())
        except OSError:
            yield Finding(path, NOT_A_FILE)
        else:
            yield from self._fields(path, raw)

    def _fields(self, path: str, raw: dict[str, Any]) -> Iterator[Finding]:
        thread = thread_from_json(raw, self.thread_id, self._time())
        wrong = wrong_types(raw, _THREAD)
        if raw.get("id") != self.thread_id and "id" in raw:
            wrong = {"id": f"the folder's name, {self.thread_id}", **wrong}
        if wrong:
            extra = {name: value for name, value in thread.extra.items() if name not in wrong}
            yield self._mended(path, told(wrong), dataclasses.replace(thread, extra=extra))
        for odd in odd_values.of_thread({**raw, **dict.fromkeys(wrong)}):
            yield Finding(path, f"{odd}; {odd_values.UNUSABLE}")

    def _mended(self, path: str, problem: str, thread: Thread) -> Finding:
        data = encode_thread(thread)
        return self.case.mended(Finding(path, problem), lambda: self.case.put(self.fd, THREAD_FILE, data))

    def _rebuilt(self) -> Thread:
        first_ms = self._time()
        title = " ".join(self._first.text.split())[:TITLE_LENGTH] if self._first is not None else ""
        return Thread(id=self.thread_id, created_ms=first_ms, updated_ms=max(first_ms, self._last_ms), title=title)

    def _time(self) -> int:
        told_ms = self._first.created_ms if self._first is not None else 0
        return ids.time_of(self.thread_id) or told_ms or os.fstat(self.fd).st_mtime_ns // 1_000_000

    # --- messages.jsonl ---------------------------------------------------------------------------------------------

    def _messages(self) -> Iterator[Finding]:
        path = f"{self._path}/{MESSAGES_FILE}"
        try:
            file = open_plain(self.fd, MESSAGES_FILE)
        except FileNotFoundError:
            return
        except OSError:
            yield Finding(path, NOT_A_FILE)
            return
        with os.fdopen(file, "rb", _READ) as lines:
            findings = [Finding(path, problem, fixable=True) for problem in self._read(lines)]
        if not findings:
            return
        kept: list[str | None] = []
        for finding in findings:  # the first repair repairs them all
            repair: Callable[[], str | None] = (lambda: kept[0]) if kept else (lambda: self._rewrite(kept))
            yield self.case.mended(finding, repair)

    def _read(self, lines: Any) -> Iterator[str]:
        """What is wrong with the lines, in words."""
        self._seen.clear()
        for number, (start, line) in enumerate(_placed(lines), 1):
            found = _parts(start, line)
            whole = [is_object(part.data) for part in found]
            if found and not line.endswith(b"\n"):
                yield f"line {number}, the last one, " + ("does not end" if whole[-1] else "is torn")
                found = found if whole[-1] else found[:-1]
            if sum(whole) > 1:
                yield f"line {number}: it holds {sum(whole)} messages: line breaks are missing"
            for part in found:
                _, problem = self._line(part)
                if problem:
                    beside = "beside a message there is something else: " if any(whole) and len(found) > 1 else ""
                    yield f"line {number}: {'' if is_object(part.data) else beside}{problem}"

    def _line(self, line: Line) -> tuple[bytes | None, str]:
        """The line as it should be (None: not at all), and what is wrong with it."""
        try:
            raw = decode_object(line.data.strip(), "it")
        except StoreDamagedError as error:
            return None, error.message.split("; `janflask doctor`")[0]
        shown = message_log.line_id(line)
        wrong = wrong_types(raw, _MESSAGE)
        changes: dict[str, Any] = dict.fromkeys(wrong)
        if type(raw.get("id")) is not str or not raw["id"]:
            wrong.setdefault("id", "there")
            changes["id"] = ids.free_name(shown, self._seen)
        elif raw["id"] in self._seen:
            wrong["id"] = f"another than {raw['id'][:100]!r}, which an earlier line has"
            changes["id"] = ids.new_id(ids.MESSAGE)
        if raw.get("thread_id", self.thread_id) != self.thread_id:
            wrong["thread_id"] = self.thread_id
            changes["thread_id"] = self.thread_id
        self._note(message_from_json({**raw, "id": changes.get("id", raw.get("id"))}, self.thread_id))
        if not changes:
            return line.data + b"\n", ""
        return msgspec.json.encode(_with(raw, changes)) + b"\n", told(wrong)

    def _note(self, message: Message) -> None:
        self._seen.add(message.id)
        self.held.update(dict.fromkeys(message.files))
        self._first = self._first or message
        self._last_ms = max(self._last_ms, message.created_ms)

    def _rewrite(self, kept: list[str | None]) -> str | None:
        """Takes out what is no message and puts the others right, each on a line; the whole file as it was is kept."""
        with os.fdopen(open_plain(self.fd, MESSAGES_FILE), "rb", _READ) as lines:
            name = self.case.keep(self.fd, MESSAGES_FILE)
            self._seen.clear()
            found = (part for start, line in _placed(lines) for part in _parts(start, line))
            good = (data for part in found if (data := self._line(part)[0]) is not None)
            message_log.rewrite(self.case.disk, self.fd, good)
        kept.append(name)
        return name


def _parts(start: int, line: bytes) -> list[Line]:
    """What a line holds; nothing if it is blank."""
    return parts(Line(start, line.rstrip(b"\n"))) if line.strip() else []


def _placed(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Each line with where it starts."""
    start = 0
    for line in lines:
        yield start, line
        start += len(line)


def _with(raw: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The line's fields with these changed; a change to None takes a field away."""
    return {name: value for name, value in {**raw, **changes}.items() if name not in changes or value is not None}
