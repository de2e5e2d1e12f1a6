"""The doctor's look at assistants and at uploaded files."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from typing import Any

from janflask.errors import StoreDamagedError
from janflask.files import ids
from janflask.files.disk import open_plain
from janflask.storage import odd_values
from janflask.storage.doctor.case import NOT_A_FILE, Case, Finding, left_over_files, links_in, told, wrong_types
from janflask.storage.file_assistants import MAX_ASSISTANT_FILE
from janflask.storage.file_uploads import (
    CONTENT_FILE,
    DESCRIPTION_FILE,
    HOLDERS_FOLDER,
    MAX_DESCRIPTION,
    encode_file,
    file_from_json,
)
from janflask.storage.jan_assistants import ASSISTANT_FILE, assistant_from_json, encode_assistant
from janflask.storage.records import Assistant, StoredFile

_READ = 1 << 18  # bytes
_ASSISTANT: dict[str, type] = {
    **dict.fromkeys(("name", "description", "avatar", "model", "instructions"), str),
    **dict.fromkeys(("metadata", "events", "tool_resources"), dict),
    **dict.fromkeys(("tools", "file_ids", "models"), list),
}


def check_assistant(case: Case, fd: int, assistant_id: str) -> Iterator[Finding]:
    """The assistant in the folder ``fd``, whose lock is held."""
    path = f"assistants/{assistant_id}/{ASSISTANT_FILE}"

    def mended(problem: str, assistant: Assistant) -> Finding:
        data = encode_assistant(assistant)
        return case.mended(Finding(path, problem), lambda: case.put(fd, ASSISTANT_FILE, data))

    now_ms = os.fstat(fd).st_mtime_ns // 1_000_000
    empty = Assistant(id=assistant_id, created_ms=ids.time_of(assistant_id) or now_ms, name=assistant_id)
    try:
        raw = case.read_object(fd, ASSISTANT_FILE, MAX_ASSISTANT_FILE)
    except FileNotFoundError:
        yield Finding(path, "it is missing, so this is no assistant: remove the folder")
    except StoreDamagedError as error:
        yield mended(f"{error.message}; an empty one can take its place", empty)
    except OSError:
        yield Finding(path, NOT_A_FILE)
    else:
        found = assistant_from_json(raw, assistant_id, empty.created_ms)
        wrong = wrong_types(raw, _ASSISTANT)
        if raw.get("id") != assistant_id and "id" in raw:
            wrong = {"id": f"the folder's name, {assistant_id}", **wrong}
        if wrong:
            extra = {name: value for name, value in found.extra.items() if name not in wrong}
            yield mended(told(wrong), dataclasses.replace(found, extra=extra))
        for odd in odd_values.of_assistant(raw):
            yield Finding(path, f"{odd}; {odd_values.UNUSABLE}")
    yield from left_over_files(case, fd, f"assistants/{assistant_id}")


def check_file(case: Case, fd: int, file_id: str) -> Iterator[Finding]:
    """The uploaded file in the folder ``fd``, whose lock is held: its content is read as a whole."""
    path = f"files/{file_id}"
    try:
        size, digest = _measured(fd)
    except FileNotFoundError:
        yield Finding(f"{path}/{CONTENT_FILE}", "it is missing, and nothing but a backup can bring it back")
        return
    except OSError:
        yield Finding(f"{path}/{CONTENT_FILE}", NOT_A_FILE)
        return
    yield from _check_description(
        case,
        fd,
        path,
        StoredFile(
            id=file_id,
            created_ms=ids.time_of(file_id) or os.fstat(fd).st_mtime_ns // 1_000_000,
            filename=file_id,
            purpose="assistants",
            bytes=size,
            sha256=digest,
        ),
    )
    for name in links_in(fd, HOLDERS_FOLDER):
        yield Finding(f"{path}/{HOLDERS_FOLDER}/{name}".rstrip("/"), NOT_A_FILE)
    yield from left_over_files(case, fd, path)


def _check_description(case: Case, fd: int, folder: str, true: StoredFile) -> Iterator[Finding]:
    path = f"{folder}/{DESCRIPTION_FILE}"

    def mended(problem: str, stored: StoredFile) -> Finding:
        data = encode_file(stored)
        return case.mended(Finding(path, problem), lambda: case.put(fd, DESCRIPTION_FILE, data))

    try:
        raw = case.read_object(fd, DESCRIPTION_FILE, MAX_DESCRIPTION)
    except FileNotFoundError:
        yield mended("it is missing; it can be made from the content, but for the file's name", true)
    except StoreDamagedError as error:
        yield mended(f"{error.message}; it can be made from the content, but for the file's name", true)
    except OSError:
        yield Finding(path, NOT_A_FILE)
    else:
        stored = file_from_json(raw, true.id, true.created_ms)
        different = _difference(raw, true)
        if different:
            yield Finding(f"{folder}/{CONTENT_FILE}", different)
            return
        wrong = wrong_types(raw, dict.fromkeys(("filename", "purpose", "sha256"), str))
        missing = {name: "there" for name in ("bytes", "sha256") if not isinstance(raw.get(name), int | str)}
        if raw.get("id") != true.id and "id" in raw:
            wrong["id"] = f"the folder's name, {true.id}"
        if wrong or missing:
            extra = {name: value for name, value in stored.extra.items() if name not in wrong}
            whole = dataclasses.replace(stored, bytes=true.bytes, sha256=true.sha256, extra=extra)
            yield mended(told({**missing, **wrong}), whole)


def _difference(raw: dict[str, Any], true: StoredFile) -> str:
    """How the content differs from what the description says."""
    if type(raw.get("bytes")) is int and raw["bytes"] != true.bytes:
        return f"it has {true.bytes} bytes, and {DESCRIPTION_FILE} says {raw['bytes']}: only a backup can bring it back"
    if isinstance(raw.get("sha256"), str) and raw["sha256"] not in ("", true.sha256):
        return (
            f"it is not what was uploaded (its SHA-256 is another than in {DESCRIPTION_FILE}): only a backup can help"
        )
    return ""


def _measured(fd: int) -> tuple[int, str]:
    """The content's size and SHA-256."""
    size, digest = 0, hashlib.sha256()
    with os.fdopen(open_plain(fd, CONTENT_FILE), "rb", _READ) as file:
        while piece := file.read(_READ):
            size += len(piece)
            digest.update(piece)
    return size, digest.hexdigest()
