"""The repository in memory: for tests, and the plainest statement of what ``base`` says.

Everything is copied on its way in and out, so that nobody's later change to a nested dict is seen by anybody else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

from janflask.errors import ConflictError, NotFoundError
from janflask.storage.base import Page, Repository, Slice
from janflask.storage.jan_assistants import BUILT_IN
from janflask.storage.memory_runs import MemoryRunStore
from janflask.storage.memory_threads import MemoryThreadStore, check_new
from janflask.storage.memory_uploads import MemoryUploadStore
from janflask.storage.paging import cut
from janflask.storage.records import DEFAULT_ASSISTANT, Assistant


def memory_repository(*, lock_timeout: float = 5.0) -> Repository:
    """An empty repository; ``lock_timeout`` is in seconds."""
    threads = MemoryThreadStore()
    return Repository(
        threads=threads,
        assistants=MemoryAssistantStore(),
        files=MemoryUploadStore(lock_timeout),
        runs=MemoryRunStore(threads),
    )


class MemoryAssistantStore:
    """Assistants in memory; the built-in one is there from the start."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._assistants = {BUILT_IN.id: BUILT_IN}

    def create(self, assistant: Assistant) -> Assistant:
        with self._lock:
            check_new("assistant", assistant.id, self._assistants)
            self._assistants[assistant.id] = deepcopy(assistant)
            return deepcopy(assistant)

    def get(self, assistant_id: str) -> Assistant:
        with self._lock:
            assistant = self._assistants.get(assistant_id)
        if assistant is None:
            raise NotFoundError(f"there is no assistant {assistant_id[:200]!r}", param="assistant_id")
        return deepcopy(assistant)

    def list(self, page: Page) -> Slice[Assistant]:
        with self._lock:
            shown = [
                found for found in self._assistants.values() if page.owner is None or found.owner in (None, page.owner)
            ]
            return cut(sorted((found.created_ms, found.id) for found in shown), page, self.get)

    def update(self, assistant_id: str, change: Callable[[Assistant], Assistant]) -> Assistant:
        with self._lock:
            present = self.get(assistant_id)
            changed = replace(deepcopy(change(present)), id=assistant_id, owner=present.owner)
            self._assistants[assistant_id] = changed
            return deepcopy(changed)

    def give(self, assistant_id: str, owner: str | None) -> None:
        if assistant_id == DEFAULT_ASSISTANT:
            raise ConflictError(f"the assistant {DEFAULT_ASSISTANT} is everybody's and cannot be given away")
        with self._lock:
            self._assistants[assistant_id] = replace(self.get(assistant_id), owner=owner)

    def delete(self, assistant_id: str) -> None:
        if assistant_id == DEFAULT_ASSISTANT:
            raise ConflictError(f"the assistant {DEFAULT_ASSISTANT} always exists and cannot be deleted")
        with self._lock:
            self.get(assistant_id)
            del self._assistants[assistant_id]
