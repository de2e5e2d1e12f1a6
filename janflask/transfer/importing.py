"""Takes what a tree of files holds into the store, object by object.

Ids are kept where they are free. What is here already just the same is left out; what is here otherwise comes under a
new id, with the references to it. Each object is stored in one step, so that an import that was cut off can be
repeated. What cannot be read is left out, with its reason. Whose something was elsewhere does not count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from janflask.errors import (
    ConflictError,
    InvalidRequestError,
    MissingScopeError,
    NotFoundError,
    RequestTooLargeError,
    StoreDamagedError,
)
from janflask.files import ids
from janflask.models.json_bodies import is_deeper
from janflask.storage import branches, odd_values
from janflask.storage.base import FileStore, Repository
from janflask.storage.file_uploads import CONTENT_FILE, DESCRIPTION_FILE, file_from_json
from janflask.storage.jan import (
    FILES_FOLDER,
    MESSAGES_FILE,
    THREAD_FILE,
    decode_object,
    message_from_json,
    thread_from_json,
)
from janflask.storage.jan_assistants import ASSISTANT_FILE, BUILT_IN, assistant_from_json
from janflask.storage.message_lines import Line, parts
from janflask.storage.records import DEFAULT_ASSISTANT, Assistant, Message, StoredFile, Thread
from janflask.transfer.checks import MAX_DEPTH
from janflask.transfer.layout import Progress, no_progress
from janflask.transfer.streams import as_file, with_file_ids
from janflask.transfer.tree import Layout, Tree, is_noise, join, lines, read_whole, understand

MAX_OBJECT = 4 << 20  # bytes of a thread.json, assistant.json or file.json
TITLE_LENGTH = 80  # characters of a title that is made from the first message
HERE = "it is here already"
_PROBLEMS = (InvalidRequestError, StoreDamagedError)  # of one object; anything else ends the import


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that was not imported: its path in the source, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The ids here of what was imported; ``renamed`` tells the new id for each that could not be kept."""

    threads: tuple[str, ...] = ()
    assistants: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()


def store_file(
    files: FileStore, pieces: Iterable[bytes], wanted: StoredFile, limit: int, *, file_id: str | None = None
) -> StoredFile:
    """Stores an uploaded file called and dated like ``wanted``, under ``file_id`` if that is free, else a new id.

    ``limit`` is in bytes. Raises RequestTooLargeError, and InvalidRequestError where the content is not what ``sha256``
    says.
    """
    upload = files.begin()
    size, digest = 0, hashlib.sha256()
    try:
        for piece in pieces:
            size += len(piece)
            if size > limit:
                raise RequestTooLargeError(f"file {wanted.id} is larger than {limit} bytes (JANFLASK_MAX_UPLOAD_MB)")
            digest.update(piece)
            upload.write(piece)
        if wanted.sha256 not in ("", digest.hexdigest()):
            raise InvalidRequestError(f"the content of file {wanted.id} is not what its description says")
        try:
            return upload.commit(wanted.filename, wanted.purpose, file_id=file_id, created_ms=wanted.created_ms)
        except ConflictError:  # somebody else's has it
            if file_id is None:
                raise
            return upload.commit(wanted.filename, wanted.purpose, created_ms=wanted.created_ms)
    finally:
        upload.discard()


class Importer:
    """One import. The limits are in bytes."""

    def __init__(
        self, repository: Repository, tree: Tree, *, max_message: int, max_file: int, progress: Progress = no_progress
    ) -> None:
        self._repository = repository
        self._tree = tree
        self._max_message = max_message
        self._max_file = max_file
        self._progress = progress
        self._files: dict[str, str] = {}  # ids there and here
        self._assistants: dict[str, str] = {}
        self._renamed: dict[str, str] = {}
        self._skipped: list[Skipped] = []

    def run(self) -> ImportReport:
        """Raises InvalidRequestError where the tree holds no conversations, and the store's errors."""
        layout = understand(self._tree)
        self._skipped += [Skipped(path, "it is a symbolic link, which is not followed") for path in layout.links]
        steps = list(self._steps(layout))
        done: dict[str, list[str]] = {"files": [], "assistants": [], "threads": []}
        for number, (kind, name, path) in enumerate(steps):
            self._progress(number, len(steps))
            try:
                stored = getattr(self, f"_take_{kind}")(name, path)
            except _PROBLEMS as error:
                self._skip(path, error.message)
            else:
                done[kind] += [stored] if stored is not None else []
        self._progress(len(steps), len(steps))
        threads, assistants, files = (tuple(done[kind]) for kind in ("threads", "assistants", "files"))
        return ImportReport(threads, assistants, files, dict(self._renamed), tuple(self._skipped))

    def _steps(self, layout: Layout) -> Iterator[tuple[str, str, str]]:
        for kind, path in (("files", layout.files), ("assistants", layout.assistants)):
            for name in self._tree.folders(path) if path is not None else ():
                if not name.startswith("."):
                    yield kind, name, f"{path}/{name}"
        for name, path in layout.threads:
            yield "threads", name, path

    # --- uploaded files ---------------------------------------------------------------------------------------------

    def _take_files(self, name: str, path: str) -> str | None:
        described = file_from_json(self._object(f"{path}/{DESCRIPTION_FILE}"), name, ids.time_of(name) or ids.now_ms())
        here = self._find(self._repository.files, name)
        if here is not None and here.sha256 == described.sha256 != "":
            self._files[name] = name
            self._skip(path, HERE)
            return None
        keep = name if here is None and _usable(name) else None
        pieces = self._tree.pieces(f"{path}/{CONTENT_FILE}")
        stored = store_file(self._repository.files, pieces, described, self._max_file, file_id=keep)
        self._map(self._files, name, stored.id)
        return stored.id

    # --- assistants -------------------------------------------------------------------------------------------------

    def _take_assistants(self, name: str, path: str) -> str | None:
        raw = self._object(f"{path}/{ASSISTANT_FILE}")
        found = _assistant_with_files(replace(assistant_from_json(raw, name), owner=None), self._files)
        self._note(join(path, ASSISTANT_FILE), odd_values.of_assistant(raw))
        here = self._find(self._repository.assistants, name)
        if here is not None and replace(here, owner=None) == found:
            if found != BUILT_IN:
                self._skip(path, HERE)
            return None
        if name == DEFAULT_ASSISTANT and here == BUILT_IN:  # nobody has changed ours, so theirs takes its place
            with suppress(MissingScopeError):  # else it is one of the importer's own
                self._repository.assistants.update(name, lambda _: found)
                return name
        other_id = ids.new_id(ids.ASSISTANT, found.created_ms)
        new_id = self._stored(
            name if here is None and _usable(name) else other_id,
            other_id,
            lambda new_id: self._repository.assistants.create(replace(found, id=new_id)),
        )
        self._map(self._assistants, name, new_id)
        return new_id

    # --- threads ----------------------------------------------------------------------------------------------------

    def _take_threads(self, name: str, path: str) -> str | None:
        messages = self._messages(name, path)
        thread = self._thread(name, path, messages)
        files = list(self._own_files(join(path, FILES_FOLDER)))
        for link in (join(path, FILES_FOLDER, link) for link in self._tree.links(join(path, FILES_FOLDER))):
            self._skip(link, "it is a symbolic link, which is not followed")
        if self._is_here(thread, messages, files):
            self._skip(path, HERE)
            return None
        # A name like a conversation's would be another name of some other thread.
        is_free = _usable(name) and ids.thread_id(name) == name and self._find(self._repository.threads, name) is None
        held = {file_id for message in messages for file_id in message.files}
        held = {file_id for file_id in held if self._find(self._repository.files, file_id) is not None}

        def store(new_id: str) -> None:
            with self._repository.files.holding(sorted(held), new_id):
                contents = [(file, self._file(place)) for file, place in files]
                renamed = thread if new_id == name else branches.alone(thread)
                self._repository.threads.create(replace(renamed, id=new_id), messages, contents)

        other_id = ids.new_id(ids.THREAD, thread.created_ms)
        new_id = self._stored(name if is_free else other_id, other_id, store)
        if new_id != name:
            self._renamed[name] = new_id
        return new_id

    def _own_files(self, path: str) -> Iterator[tuple[str, str]]:
        """The name and path of each. What a system put there is left out; if a user might have, too, it is told."""
        for name in self._tree.files(path):
            if not is_noise(name):
                yield name, join(path, name)
            elif not name.startswith("."):
                self._skip(join(path, name), "it is a file of Windows' own")

    def _thread(self, name: str, path: str, messages: Sequence[Message]) -> Thread:
        times = [message.created_ms for message in messages if message.created_ms]
        first_ms = min(times, default=ids.now_ms())
        try:
            raw = self._object(join(path, THREAD_FILE))
            thread = thread_from_json(raw, name, first_ms)
            self._note(join(path, THREAD_FILE), odd_values.of_thread(raw))
        except (NotFoundError, *_PROBLEMS) as error:
            if not messages:
                raise InvalidRequestError(f"there is neither a readable {THREAD_FILE} nor a message") from None
            self._skip(join(path, THREAD_FILE), f"{error.message}; the thread was made from its messages")
            title = next((message.text for message in messages if message.text.strip()), "")
            thread = Thread(id=name, created_ms=first_ms, updated_ms=max(times, default=first_ms), title=short(title))
        new = self._assistants
        assistants = [
            replace(item, assistant_id=new.get(item.assistant_id, item.assistant_id)) for item in thread.assistants
        ]
        resources = with_file_ids(thread.tool_resources, self._files)
        return replace(thread, owner=None, assistants=tuple(assistants), tool_resources=resources)

    def _messages(self, name: str, path: str) -> list[Message]:
        found: dict[str, Message] = {}
        path = join(path, MESSAGES_FILE)
        try:
            self._tree.size(path)
        except NotFoundError:
            return []
        for number, line in enumerate(lines(self._tree.pieces(path), self._max_message), 1):
            if line is not None and not line.strip():
                continue
            for data in (None,) if line is None else (part.data for part in parts(Line(0, line))):
                message = self._message(name, data, number, path)
                if message is not None:
                    if message.id in found:
                        message = replace(message, id=ids.new_id(ids.MESSAGE))
                    found[message.id] = message
        return list(found.values())

    def _message(self, name: str, line: bytes | None, number: int, path: str) -> Message | None:
        if line is None:
            self._skip(path, f"line {number} is longer than {self._max_message} bytes (JANFLASK_MAX_MESSAGE_MB)")
            return None
        try:
            raw = decode_object(line, f"line {number}")
            if is_deeper(raw, MAX_DEPTH):
                raise StoreDamagedError(f"line {number} is nested deeper than {MAX_DEPTH} levels")
        except StoreDamagedError as error:
            self._skip(path, _plain(error.message))
            return None
        message = with_files(message_from_json(raw, name, f"line-{number}"), self._files)
        assistant_id = message.assistant_id and self._assistants.get(message.assistant_id, message.assistant_id)
        return replace(
            message,
            id=message.id if ids.is_id(message.id) else ids.new_id(ids.MESSAGE),
            assistant_id=assistant_id,
        )

    def _is_here(self, thread: Thread, messages: Sequence[Message], files: Sequence[tuple[str, str]]) -> bool:
        here = self._find(self._repository.threads, thread.id)
        if here is None or replace(here, owner=None, updated_ms=0) != replace(thread, updated_ms=0):
            return False
        if list(self._repository.threads.all_messages(thread.id)) != list(messages):
            return False
        there = sorted((ids.safe_name(name), self._tree.size(place)) for name, place in files)
        return there == sorted((file.name, file.bytes) for file in self._repository.threads.files(thread.id))

    def _stored(self, wanted: str, other: str, store: Callable[[str], object]) -> str:
        """The id that something was stored under: the one that is wanted, unless it is somebody else's."""
        try:
            store(wanted)
        except ConflictError:
            if wanted == other:
                raise
            store(other)
            return other
        return wanted

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _object(self, path: str) -> dict[str, Any]:
        try:
            raw = decode_object(read_whole(self._tree, path, MAX_OBJECT), path)
        except StoreDamagedError as error:
            raise InvalidRequestError(_plain(error.message)) from None
        if is_deeper(raw, MAX_DEPTH):
            raise InvalidRequestError(f"{path} is nested deeper than {MAX_DEPTH} levels")
        return raw

    def _file(self, path: str) -> BinaryIO:
        return as_file(lambda: self._tree.pieces(path))

    def _find(self, store: Any, name: str) -> Any:
        try:
            return store.get(name)
        except NotFoundError:
            return None
        except (StoreDamagedError, ConflictError):  # something is there: the id is not free
            return _UNREADABLE

    def _map(self, known: dict[str, str], old: str, new: str) -> None:
        known[old] = new
        if old != new:
            self._renamed[old] = new

    def _note(self, path: str, odd: Iterable[str]) -> None:
        """Names what was taken as it is, though nothing can be answered with it."""
        for told in odd:
            self._skip(path, f"{told}; it was taken as it is, and {odd_values.UNUSABLE}")

    def _skip(self, path: str, reason: str) -> None:
        self._skipped.append(Skipped(path, reason))


@dataclass(frozen=True, slots=True)
class _Unreadable:
    updated_ms: int = 0
    sha256: str = "-"
    owner: str | None = None


_UNREADABLE = _Unreadable()


def with_files(message: Message, new: Mapping[str, str]) -> Message:
    """The message with the ids of its files replaced."""
    return replace(
        message,
        content=with_file_ids(message.content, new),
        file_ids=tuple(new.get(file_id, file_id) for file_id in message.file_ids),
        attachments=with_file_ids(message.attachments, new),
    )


def short(title: str) -> str:
    """One line, not too long."""
    line = " ".join(title.split())
    return line if len(line) <= TITLE_LENGTH else f"{line[: TITLE_LENGTH - 1]}…"


def _assistant_with_files(assistant: Assistant, new: Mapping[str, str]) -> Assistant:
    return replace(
        assistant,
        file_ids=tuple(new.get(file_id, file_id) for file_id in assistant.file_ids),
        tool_resources=with_file_ids(assistant.tool_resources, new),
    )


def _usable(name: str) -> bool:
    return ids.is_id(name) and not ids.is_reserved(name)


def _plain(message: str) -> str:
    """The doctor can do nothing about a file that is somebody else's."""
    return message.split("; `janflask doctor`")[0]
