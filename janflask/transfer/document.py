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
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import msgspec

from janflask.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    RequestTooLargeError,
    StoreDamagedError,
)
from janflask.files import ids
from janflask.storage import branches
from janflask.storage.base import Repository
from janflask.storage.jan import message_from_json, message_to_json, millis, thread_from_json, thread_to_json
from janflask.storage.records import Message, StoredFile, Thread
from janflask.transfer.checks import check_fields, check_message, check_texts, check_thread, mapping, refused
from janflask.transfer.long_texts import LONG, LongText, LongTexts
from janflask.transfer.streams import joined, pieces_of

OBJECT, VERSION = "thread.export", 1

_BINARY_PIECE = 3 << 14  # bytes; a multiple of three is base64 without padding
Content = str | LongText  # of a file, in base64

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
    told = thread_to_json(replace(thread, owner=None))  # whose it is here says nothing elsewhere
    head = {"object": OBJECT, "version": VERSION, "exported_at": int(time.time()), "thread": told}
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
    content: Content


@dataclass(frozen=True, slots=True)
class PortableThread:
    """A checked document. The ids are those of the store it comes from."""

    thread: Thread
    messages: tuple[Message, ...]
    files: tuple[PortableFile, ...]
    thread_files: tuple[tuple[str, Content], ...]  # name, base64


def read(document: Mapping[str, Any], texts: LongTexts, *, max_message: int, max_file: int) -> PortableThread:
    """The document with its long texts, checked as a whole; the limits are in bytes.

    Raises InvalidRequestError, RequestTooLargeError for what is above a limit; ``param`` is the place.
    """
    if document.get("object") != OBJECT:
        raise refused("object", f"must be {OBJECT!r}: this is no exported thread")
    if type(document.get("version")) is not int or document["version"] != VERSION:
        raise refused("version", f"must be {VERSION}, the only version that this server knows")
    check_fields(document, "", {"messages": list, "files": list, "thread_files": list})
    raw_thread = mapping(texts.put_back(document.get("thread"), "thread", max_message), "thread")
    check_thread(raw_thread, "thread", max_message)
    messages = []
    for number, raw in enumerate(document.get("messages") or ()):
        place = f"messages[{number}]"
        raw = mapping(texts.put_back(raw, place, max_message), place)
        check_message(raw, place, max_message)
        messages.append(message_from_json(raw, raw.get("thread_id") or "", f"line-{number}"))
    files, missing = _files(document.get("files") or (), texts, max_file)
    _check_references(messages, {file.stored.id for file in files} | missing)
    thread = thread_from_json(raw_thread, raw_thread.get("id") or "", ids.now_ms())
    thread_files = _thread_files(document.get("thread_files") or (), texts, max_file)
    # It comes under a new id: as a branch it would be hidden behind a thread that does not know of it.
    thread = replace(branches.alone(thread), owner=None)
    return PortableThread(thread, tuple(messages), files, thread_files)


def decoded(content: Content) -> Iterator[bytes]:
    """Base64 as bytes, in pieces. Raises ValueError for what is none."""
    at_end = False
    for piece in filter(None, _in_fours(content)):
        if at_end:
            raise ValueError("its padding is not at its end")
        yield binascii.a2b_base64(piece, strict_mode=True)
        at_end = b"=" in piece


def _in_fours(content: Content) -> Iterator[bytes]:
    """Its characters in pieces that can be decoded one by one."""
    rest = b""
    for piece in [content.encode()] if isinstance(content, str) else content.ascii():
        piece = rest + piece
        whole = len(piece) // 4 * 4
        yield piece[:whole]
        rest = piece[whole:]
    yield rest


def _file_item(item: Any, place: str, texts: LongTexts) -> dict[str, Any]:
    """One of the document's files, whose content stays where it is."""
    raw = dict(mapping(item, place))
    content = raw.pop("content", None)
    raw = texts.put_back(raw, place, LONG)
    return raw if content is None else {**raw, "content": content}


def _files(listed: Iterable[Any], texts: LongTexts, max_file: int) -> tuple[tuple[PortableFile, ...], set[str]]:
    """The files that are there, and the ids of the missing ones."""
    found: dict[str, PortableFile] = {}
    missing: set[str] = set()
    for number, item in enumerate(listed):
        place = f"files[{number}]"
        raw = _file_item(item, place, texts)
        check_texts(raw, place, "id")
        if not ids.is_id(raw["id"]) or raw["id"] in found or raw["id"] in missing:
            raise refused(f"{place}.id", "must be an id, and no other file's")
        if raw.get("missing") is True:
            missing.add(raw["id"])
        else:
            check_texts(raw, place, "filename", "purpose", "content")
            found[raw["id"]] = _file(raw, texts.find(raw["content"]), place, max_file)
    return tuple(found.values()), missing


def _file(raw: Mapping[str, Any], content: Content, place: str, max_file: int) -> PortableFile:
    if len(raw["filename"]) > 1024 or len(raw["purpose"]) > 64:
        raise refused(place, "must have a filename of at most 1024 and a purpose of at most 64 characters")
    size, digest = _measured(content, f"{place}.content", max_file)
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
    return PortableFile(stored, content)


def _thread_files(listed: Iterable[Any], texts: LongTexts, max_file: int) -> tuple[tuple[str, Content], ...]:
    found: dict[str, Content] = {}
    for number, item in enumerate(listed):
        place = f"thread_files[{number}]"
        raw = _file_item(item, place, texts)
        check_texts(raw, place, "name", "content")
        if ids.safe_name(raw["name"]) in found:
            raise refused(f"{place}.name", "must be no other file's")
        content = texts.find(raw["content"])
        _measured(content, f"{place}.content", max_file)
        found[ids.safe_name(raw["name"])] = content
    return tuple(found.items())


def _measured(content: Content, place: str, limit: int) -> tuple[int, str]:
    """Size and SHA-256 of base64's bytes."""
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
