"""Whether a change came to be that a process was killed over: its object tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from janflask.errors import ModelNotFoundError, NotFoundError, StoreDamagedError
from janflask.files import ids
from janflask.models.catalog import ModelCatalog
from janflask.storage.base import Repository
from janflask.storage.records import RunStatus


class Happened:
    """Call it with an event's type and data, while nobody else changes the object.

    True where the object cannot tell: who is told looks at it, too. Raises what the repository does.
    """

    def __init__(self, repository: Repository, catalog: ModelCatalog) -> None:
        self._repository = repository
        self._catalog = catalog

    def __call__(self, type: str, data: Mapping[str, str]) -> bool:
        kind, _, what = type.rpartition(".")
        is_there: Callable[[Mapping[str, str]], bool]
        match kind:
            case "thread":
                is_there = self._has_thread
            case "thread.message":
                is_there = self._has_message
            case "model":
                is_there = self._has_model
            case _:
                return self._run_is(what, data)
        match what:
            case "created":
                return is_there(data)
            case "deleted":
                return not is_there(data)
        return True

    def _has_thread(self, data: Mapping[str, str]) -> bool:
        try:
            self._repository.threads.get(data["id"])
        except NotFoundError:
            return False
        except StoreDamagedError:  # it is there
            return True
        return True

    def _has_message(self, data: Mapping[str, str]) -> bool:
        try:
            return data["id"] in self._repository.threads.message_ids(data["thread_id"])
        except NotFoundError:
            return False
        except StoreDamagedError:
            return True

    def _has_model(self, data: Mapping[str, str]) -> bool:
        try:
            card = self._catalog.get(data["id"])
        except ModelNotFoundError:
            return False
        return card.present or card.upstream is not None

    def _run_is(self, what: str, data: Mapping[str, str]) -> bool:
        thread_id = data.get("thread_id") or ids.thread_of(data["id"]) or ""
        try:
            status = self._repository.runs.get(thread_id, data["id"]).status
        except NotFoundError:
            return False
        except StoreDamagedError:
            return True
        if what == RunStatus.REQUIRES_ACTION:  # it may have gone on since
            return status not in (RunStatus.QUEUED, RunStatus.IN_PROGRESS)
        return status.is_final
