"""Answers over a repository and a runner in this process, whose model says what a test wants it to."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

from janflask.inference.backends import Backends
from janflask.inference.waiting import Waiter
from janflask.ipc.clients.runner import RunnerClient
from janflask.ipc.messages.runner import RunChanged, RunSaid
from janflask.runner.live import Change
from janflask.services.answers import AnswerService
from janflask.services.assistants import AssistantService
from janflask.services.compaction import Compactions
from janflask.services.items import ItemService
from janflask.services.messages import MessageService
from janflask.services.models import ModelService
from janflask.services.seals import Seals
from janflask.services.threads import ThreadService
from janflask.settings import Settings
from janflask.storage.answers import AnswerDraft
from janflask.storage.base import Repository
from janflask.storage.items import ItemDraft, items_of
from janflask.storage.records import Message, MessageDraft, Run, RunKind, text_part
from tests.unit.runner.run_world import LIMIT, FakeModel, RunWorld, Script


def said(text: str, role: str = "user") -> MessageDraft:
    return MessageDraft(role=role, content=(text_part(text),))


class Watching:
    """What a runner says of one run, as it comes over its socket."""

    def __init__(self, heard: SimpleQueue[Change | None], line: socket.socket) -> None:
        self._heard = heard
        self._line = line

    def fileno(self) -> int:
        return self._line.fileno()

    def receive(self) -> list[RunChanged | RunSaid] | None:
        change = self._heard.get(timeout=LIMIT)
        if change is None:
            return None
        return [RunChanged(change) if isinstance(change, Run) else RunSaid(*change)]


class NearRunner:
    """The runner's process, without one."""

    def __init__(self, world: RunWorld) -> None:
        self._world = world

    def begin(self, thread_id: str, run_id: str, timeout: float) -> Run:
        return self._world.runner.begin(thread_id, run_id)

    def cancel(self, thread_id: str, run_id: str, timeout: float) -> Run:
        return self._world.runner.cancel(thread_id, run_id)

    @contextmanager
    def watch(self, thread_id: str, run_id: str) -> Iterator[Watching]:
        ours, theirs = socket.socketpair()
        heard: SimpleQueue[Change | None] = SimpleQueue()
        with ours, theirs, self._world.runner.watched(thread_id, run_id, heard.put):
            theirs.send(b"!")  # there is always something to receive, or to wait for
            yield Watching(heard, ours)


class Models(FakeModel):
    """Those that there are."""

    def usable(self) -> list[str]:
        return ["m"]


class AnswerWorld(RunWorld):
    """Threads, and what answers them."""

    def __init__(self, *scripts: Script, repository: Repository | None = None, **settings: Any) -> None:
        super().__init__(*scripts)
        self.runner.close()
        self.settings = Settings(run_timeout=60.0, **settings)
        self.repository = self.repository if repository is None else repository
        self.new_runner()
        self.assistants = AssistantService(self.repository)
        self.messages_ = MessageService(self.settings, self.repository)
        self.threads = ThreadService(self.settings, self.repository, self.assistants, self.messages_)
        seals = Seals(Path("/nonexistent"))
        self.items = ItemService(
            self.settings,
            self.repository,
            threads=self.threads,
            messages=self.messages_,
            seals=seals,
            compactions=Compactions(cast(Backends, None), seals),
        )
        models = Models(self.model.scripts)
        self.answers = AnswerService(
            self.settings,
            self.repository,
            cast(RunnerClient, NearRunner(self)),
            items=self.items,
            messages=self.messages_,
            models=cast(ModelService, models),
            threads=self.threads,
        )

    def draft(self, *given: ItemDraft | str, **fields: Any) -> AnswerDraft:
        drafts = tuple(said(item) if isinstance(item, str) else item for item in given)
        places = tuple(f"input.{number}" for number in range(len(drafts)))
        return AnswerDraft(**{"input": drafts, "places": places, **fields})

    def create(self, *given: ItemDraft | str, **fields: Any) -> Run:
        return self.answers.create(self.draft(*given, **fields))

    def answer(self, *given: ItemDraft | str, **fields: Any) -> Run:
        """One that is over."""
        return self.ended(self.create(*given, **fields))

    def ended(self, run: Run) -> Run:
        return self.answers.finished(run, Waiter(), LIMIT)

    def told(self, thread_id: str) -> list[str]:
        """The thread in a word or two for each item."""
        return briefly(list(self.repository.threads.all_messages(thread_id)))

    def shown(self) -> list[str]:
        """What the model was shown last."""
        return [turn.text for turn in self.model.requests[-1].messages]


def briefly(messages: Sequence[Message]) -> list[str]:
    return [item.text or (item.call.id if item.call else "") for message in messages for item in items_of(message)]


RESPONSE, CHAT = RunKind.RESPONSE, RunKind.CHAT
