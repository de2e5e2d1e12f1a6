"""A thread on the memory repository, and short words for what stands in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from janflask.inference.backends import Backends
from janflask.services.assistants import AssistantService
from janflask.services.compaction import Compactions
from janflask.services.items import ItemService
from janflask.services.messages import MessageService
from janflask.services.seals import Seals
from janflask.services.threads import ThreadService
from janflask.settings import Settings
from janflask.storage.base import Page
from janflask.storage.items import (
    CallDraft,
    Item,
    ItemDraft,
    ItemKind,
    OutputDraft,
    ReasoningDraft,
)
from janflask.storage.memory import memory_repository
from janflask.storage.records import Message, MessageDraft, Thread, text_part

THREAD = "thread_1"
RUN_ROUNDS = [
    {
        "message_id": None,
        "calls": [
            {"id": "call_1", "name": "look", "arguments": "{}", "output": "a cat"},
            {"id": "call_2", "name": "go", "arguments": '{"to": "it"}', "output": "done"},
        ],
    }
]
CALL, OUTPUT = CallDraft("call_1", "look", '{"at": "sea"}'), OutputDraft("call_1", "blue")
THOUGHT = ReasoningDraft("Hm")


def said(text: str, role: str = "user") -> MessageDraft:
    return MessageDraft(role=role, content=(text_part(text),))


def line(number: int, text: str = "", role: str = "assistant", **extra: Any) -> Message:
    content = (text_part(text),) if text else ()
    return Message(id=f"msg_{number}", thread_id=THREAD, created_ms=number, role=role, content=content, extra=extra)


def brief(items: Sequence[Item]) -> list[str]:
    """Each in a word or two."""
    marks = {
        ItemKind.MESSAGE: "",
        ItemKind.REASONING: "(",
        ItemKind.CALL: "?",
        ItemKind.OUTPUT: "=",
        ItemKind.COMPACTION: "#",
    }
    return [marks[item.kind] + (item.text or (item.call.id if item.call else "")) for item in items]


class ItemWorld:
    """A thread, and its items."""

    def __init__(self, *messages: Message, folder: Path = Path("/nonexistent"), **settings: Any) -> None:
        self.repository = memory_repository()
        made = Settings(**settings)
        self.messages = MessageService(made, self.repository)
        self.seals = Seals(folder)
        threads = ThreadService(made, self.repository, AssistantService(self.repository), self.messages)
        compactions = Compactions(cast(Backends, None), self.seals)
        self.items = ItemService(
            made, self.repository, threads=threads, messages=self.messages, seals=self.seals, compactions=compactions
        )
        self.repository.threads.create(Thread(id=THREAD, created_ms=1, updated_ms=1), messages)

    def create(self, *drafts: ItemDraft) -> Sequence[Item]:
        return self.items.create(THREAD, drafts, [f"items.{number}" for number in range(len(drafts))])

    def all(self, **page: Any) -> Sequence[Item]:
        return self.items.list(THREAD, Page(**{"limit": None, "order": "asc", **page})).items

    def lines(self) -> list[Message]:
        return list(self.repository.threads.all_messages(THREAD))
