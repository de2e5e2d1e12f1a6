"""Assistants: who answers in a thread, by default with which model, instructions and sampling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from janflask.errors import InvalidRequestError, NotFoundError
from janflask.files import ids
from janflask.storage.base import Page, Repository, Slice
from janflask.storage.records import Assistant


class AssistantService:
    """Thread-safe. Its methods raise NotFoundError for an id that names no assistant, and what the store raises."""

    def __init__(self, repository: Repository) -> None:
        self._assistants = repository.assistants
        self._files = repository.files

    def create(self, values: Mapping[str, Any]) -> Assistant:
        """A new assistant out of the fields of ``Assistant`` that are given; without ``id`` it gets a new one.

        Raises InvalidRequestError for an id that cannot be one and for files that don't exist, ConflictError for an id
        that is taken.
        """
        assistant_id = values.get("id") or ids.new_id(ids.ASSISTANT)
        if not ids.is_id(assistant_id) or ids.is_reserved(assistant_id):
            raise InvalidRequestError(
                f"{assistant_id[:80]!r} cannot be an id: use 1 to 128 letters, digits and . _ -",
                param="id",
                code="invalid_value",
            )
        assistant = Assistant(created_ms=ids.now_ms(), **{**values, "id": assistant_id})
        with self._holding(assistant.file_ids, assistant_id):
            return self._assistants.create(assistant)

    def get(self, assistant_id: str) -> Assistant:
        """One of them."""
        return self._assistants.get(assistant_id)

    def list(self, page: Page) -> Slice[Assistant]:
        """A page of them."""
        return self._assistants.list(page)

    def modify(self, assistant_id: str, values: Mapping[str, Any]) -> Assistant:
        """Changes the fields of ``Assistant`` that are given. Raises InvalidRequestError for files that don't exist."""
        self._assistants.get(assistant_id)
        with self._holding(values.get("file_ids", ()), assistant_id):
            return self._assistants.update(assistant_id, lambda assistant: replace(assistant, **values))

    def delete(self, assistant_id: str) -> None:
        """Raises ConflictError for the one that always exists."""
        self._assistants.delete(assistant_id)

    @contextmanager
    def _holding(self, file_ids: Sequence[str], assistant_id: str) -> Iterator[None]:
        """While it lasts, none of the files can be deleted; later the assistant is asked before one is."""
        with ExitStack() as stack:
            try:
                stack.enter_context(self._files.holding(file_ids, assistant_id))
            except NotFoundError as error:
                raise InvalidRequestError(error.message, param="file_ids", code="file_not_found") from None
            yield
