"""Pages of lists, out of what a client asks for."""

from __future__ import annotations

from janflask.errors import InvalidRequestError
from janflask.files.ids import is_id
from janflask.storage.base import Order, Page


def page(limit: int | None, order: Order, after: str | None, before: str | None) -> Page:
    """The page. Raises InvalidRequestError for a cursor that is no id; one that is not in the list is the store's."""
    for param, cursor in (("after", after), ("before", before)):
        if cursor is not None and not is_id(cursor):
            raise InvalidRequestError(
                f"{param} must be the id of an item of the list, not {cursor[:80]!r}", param=param, code="invalid_value"
            )
    return Page(limit=limit, order=order, after=after, before=before)
