"""Records for the store's tests: every message tells its own id and length, so that half of one is seen at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from janflask.files import ids
from janflask.settings import Settings
from janflask.storage.records import Message, Thread


def settings(data_dir: Path, **given: Any) -> Settings:
    return Settings(data_dir=data_dir, **given)


def content(label: str, size: int, version: int = 0) -> str:
    """``size`` characters that say where they belong."""
    head = f"{label}:{version}:{size}:"
    return head + "x" * (size - len(head) - 1) + "."


def is_whole(text: str) -> bool:
    """Whether ``text`` is one of ``content``'s, from its beginning to its end."""
    label, version, size, _ = text.split(":", 3)
    return text == content(label, int(size), int(version))


def text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": {"value": text, "annotations": []}}


def new_message(thread_id: str, text: str, message_id: str | None = None, **given: Any) -> Message:
    message_id = ids.new_id(ids.MESSAGE) if message_id is None else message_id
    return Message(id=message_id, thread_id=thread_id, created_ms=ids.now_ms(), content=(text_part(text),), **given)


def new_thread(title: str = "", thread_id: str | None = None, **given: Any) -> Thread:
    now = ids.now_ms()
    thread_id = ids.new_id(ids.THREAD) if thread_id is None else thread_id
    return Thread(id=thread_id, created_ms=now, updated_ms=now, title=title, **given)
