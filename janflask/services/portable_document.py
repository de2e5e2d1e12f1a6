"""One thread as one JSON document, with its messages and files: written in pieces, and checked before it is taken.

::

    {"object": "thread.export", "version": 1, "exported_at": seconds,
     "thread": as in thread.json, "messages": [as in messages.jsonl, ...],
     "thread_files": [{"name", "content": base64}, ...],
     "files": [{"id", "filename", "purpose", "created_at", "bytes", "sha256", "content": base64}, ...]}

A file that a message names but that the store has no more is told as ``{"id", "missing": true}``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec

from janflask.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    RequestTooLargeError,
    StoreDamagedError,
)
from janflask.records import Message, StoredFile, Thread
from janflask.services.portable_checks import check_fields, check_message, check_thread, mapping, refused, texts
from janflask.services.portable_streams import joined, pieces_of
from janflask.storage import ids
from janflask.storage.base import Repository
from janflask.storage.jan import message_from_json, message_to_json, millis, thread_from_json, thread_to_json

OBJECT, VERSION = "thread.export", 1

_BINARY_PIECE = 3 << 14  # bytes; a multiple of three is base64 without padding
_TEXT_PIECE = _BINARY_PIECE // 3 * 4

_encode = msgspec.json.Encoder().encode


# --- writing ----------------------------------------------------------------------------------------------------------


def write(repository: Repository, thread_id: str) -> Iterator[bytes]:
    """The document in pieces. NotFoundError is raised here, not with the first piece, and so is ConflictError."""
    thread = repository.threads.get(thread_id)
    names = [item.name for item in repository.threads.files(thread_id)]
    for name in names:
        repository.threads.open_file(thread_id, name).close()
    return joined(_document(repository, thread, repository.threads.all_messages(thread_id), names))


def _document(
    repository: Repository, thread: Thread, messages: Iterator[Message], names: Sequence[str]
) -> Iterator[bytes]:
    head = {"object": OBJECT, "version": VERSION, "exported_at": int(time.time()), "thread": thread_to_json(thread)}
    yield _encode(head)[:-1]
    file_ids: dict[str, None] = {}
    yield b',"messages":['
    for number, message in enumerate(messages):
        file_ids.update(dict.fromkeys(message.files))
        yield b"," if number else b""
        yield _encode(message_to_json(message))
    yield b'],"thread_files":['
    comma = b""
    for name in names:
        try:
            file = repository.threads.open_file(thread.id, name)
        except NotFoundError:  # it was deleted meanwhile
            continue
        yield comma
        yield from _with_content({"name": name}, file)
        comma = b","
    yield b'],"files":['
    for number, file_id in enumerate(file_ids):
        yield b"," if number else b""
        yield from _stored_file(repository, file_id)
    yield b"]}\n"


def _stored_file(repository: Repository, file_id: str) -> Iterator[bytes]:
    try:
        stored = repository.files.get(file_id)
        content = repository.files.open(file_id)
    except (NotFoundError, ConflictError, StoreDamagedError):
        yield _encode({"id": file_id, "missing": True})
        return
    about: dict[str, Any] = {"id": file_id, "filename": stored.filename, "purpose": stored.purpose}
    about |= {"created_at": stored.created_ms // 1000, "bytes": stored.bytes, "sha256": stored.sha256}
    yield from _with_content(about, content)


def _with_content(about: Mapping[str, Any], file: BinaryIO) -> Iterator[bytes]:
    yield _encode(about)[:-1] + b',"content":"'
    for piece in pieces_of(file, _BINARY_PIECE):
        yield base64.b64encode(piece)
    yield b'"}'


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PortableFile:
    """An uploaded file out of a document; ``content`` is base64 that was checked."""

    stored: StoredFile
    content: str


@dataclass(frozen=True, slots=True)
class PortableThread:
    """A checked document. The ids are those of the store it comes from."""

    thread: Thread
    messages: tuple[Message, ...]
    files: tuple[PortableFile, ...]
    thread_files: tuple[tuple[str, str], ...]  # name, base64


def read(document: Mapping[str, Any], *, max_message: int, max_file: int) -> PortableThread:
    """The document, checked as a whole; the limits are in bytes.

    Raises InvalidRequestError, RequestTooLargeError for what is above a limit; ``param`` is the place.
    """
    if document.get("object") != OBJECT:
        raise refused("object", f"must be {OBJECT!r}: this is no exported thread")
    if type(document.get("version")) is not int or document["version"] != VERSION:
        raise refused("version", f"must be {VERSION}, the only version that this server knows")
    check_fields(document, "", {"messages": list, "files": list, "thread_files": list})
    raw_thread = mapping(document.get("thread"), "thread")
    check_thread(raw_thread, "thread", max_message)
    messages = []
    for number, raw in enumerate(document.get("messages") or ()):
        place = f"messages[{number}]"
        check_message(mapping(raw, place), place, max_message)
        messages.append(message_from_json(raw, raw.get("thread_id") or "", f"line-{number}"))
    files, missing = _files(document.get("files") or (), max_file)
    _check_references(messages, {file.stored.id for file in files} | missing)
    thread = thread_from_json(raw_thread, raw_thread.get("id") or "", ids.now_ms())
    return PortableThread(thread, tuple(messages), files, _thread_files(document.get("thread_files") or (), max_file))


def decoded(content: str) -> Iterator[bytes]:
    """Checked base64 as bytes, in pieces."""
    for start in range(0, len(content), _TEXT_PIECE):
        yield binascii.a2b_base64(content[start : start + _TEXT_PIECE], strict_mode=True)


def _files(listed: Iterable[Any], max_file: int) -> tuple[tuple[PortableFile, ...], set[str]]:
    """The files that are there, and the ids of the missing ones."""
    found: dict[str, PortableFile] = {}
    missing: set[str] = set()
    for number, item in enumerate(listed):
        place = f"files[{number}]"
        raw = mapping(item, place)
        texts(raw, place, "id")
        if not ids.is_id(raw["id"]) or raw["id"] in found or raw["id"] in missing:
            raise refused(f"{place}.id", "must be an id, and no other file's")
        if raw.get("missing") is True:
            missing.add(raw["id"])
        else:
            found[raw["id"]] = _file(raw, place, max_file)
    return tuple(found.values()), missing


def _file(raw: Mapping[str, Any], place: str, max_file: int) -> PortableFile:
    texts(raw, place, "filename", "purpose", "content")
    if len(raw["filename"]) > 1024 or len(raw["purpose"]) > 64:
        raise refused(place, "must have a filename of at most 1024 and a purpose of at most 64 characters")
    size, digest = _measured(raw["content"], f"{place}.content", max_file)
    for name, told, true in (("bytes", raw.get("bytes", size), size), ("sha256", raw.get("sha256", digest), digest)):
        if told != true:
            raise refused(f"{place}.{name}", f"must be {true}, which is the content's: the document is damaged")
    stored = StoredFile(
        id=raw["id"],
        created_ms=millis(raw, "created_at") or ids.now_ms(),
        filename=raw["filename"],
        purpose=raw["purpose"],
        bytes=size,
        sha256=digest,
    )
    return PortableFile(stored, raw["content"])


def _thread_files(listed: Iterable[Any], max_file: int) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for number, item in enumerate(listed):
        place = f"thread_files[{number}]"
        raw = mapping(item, place)
        texts(raw, place, "name", "content")
        if ids.safe_name(raw["name"]) in found:
            raise refused(f"{place}.name", "must be no other file's")
        _measured(raw["content"], f"{place}.content", max_file)
        found[ids.safe_name(raw["name"])] = raw["content"]
    return tuple(found.items())


def _measured(content: str, place: str, limit: int) -> tuple[int, str]:
    """Size and SHA-256 of base64's bytes."""
    if content.find("=", 0, max(0, len(content) - 2)) >= 0:
        raise refused(place, "must be base64")
    size, digest = 0, hashlib.sha256()
    try:
        for piece in decoded(content):
            size += len(piece)
            if size > limit:
                raise RequestTooLargeError(
                    f"{place} is larger than {limit} bytes (JANFLASK_MAX_UPLOAD_MB)", param=place
                )
            digest.update(piece)
    except ValueError as error:
        raise refused(place, f"must be base64: {error}") from None
    return size, digest.hexdigest()


def _check_references(messages: Iterable[Message], known: set[str]) -> None:
    for number, message in enumerate(messages):
        for file_id in message.files:
            if file_id not in known:
                raise InvalidRequestError(
                    f"messages[{number}] holds the file {file_id[:200]!r}, which the document does not have in `files`",
                    param=f"messages[{number}]",
                )
