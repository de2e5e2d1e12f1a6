"""Assistants as somebody sees them: their own and those that are nobody's, which they cannot change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from janflask.errors import ConflictError, MissingScopeError, NotFoundError, StoreDamagedError
from janflask.storage.base import AssistantStore, Page, Slice
from janflask.storage.owned.viewer import Viewer, is_own, maker, page_for
from janflask.storage.records import DEFAULT_ASSISTANT, Assistant


class OwnedAssistantStore:
    """``base.AssistantStore`` over ``store``. What is made by whoever sees all is nobody's: for everybody."""

    def __init__(self, store: AssistantStore, viewer: Callable[[], Viewer]) -> None:
        self._store = store
        self._viewer = viewer

    def create(self, assistant: Assistant) -> Assistant:
        viewer = self._viewer()
        return self._store.create(replace(assistant, owner=None if viewer.sees_all else maker(viewer)))

    def get(self, assistant_id: str) -> Assistant:
        viewer = self._viewer()
        try:
            found: Assistant | None = self._store.get(assistant_id)
        except (NotFoundError, StoreDamagedError, ConflictError):
            if viewer.sees_all or assistant_id == DEFAULT_ASSISTANT:
                raise
            found = None
        if found is None or not (found.owner is None or is_own(viewer, found.owner)):
            raise NotFoundError(f"there is no assistant {assistant_id[:128]!r}", param="assistant_id")
        return found

    def list(self, page: Page) -> Slice[Assistant]:
        return self._store.list(page_for(self._viewer(), page))

    def update(self, assistant_id: str, change: Callable[[Assistant], Assistant]) -> Assistant:
        """Raises MissingScopeError for one that is nobody's."""
        self._check(assistant_id)
        return self._store.update(assistant_id, change)

    def give(self, assistant_id: str, owner: str | None) -> None:
        self._check(assistant_id)
        self._store.give(assistant_id, owner)

    def delete(self, assistant_id: str) -> None:
        """Raises MissingScopeError for one that is nobody's."""
        self._check(assistant_id)
        self._store.delete(assistant_id)

    def _check(self, assistant_id: str) -> None:
        viewer = self._viewer()
        if not viewer.sees_all and self.get(assistant_id).owner is None:
            raise MissingScopeError(
                f"the assistant {assistant_id} is everybody's: only a key with the scope admin may change or delete it"
            )
