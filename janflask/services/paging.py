"""Pages of lists, out of what a client asks for."""

from __future__ import annotations

from janflask.errors import InvalidRequestError
from janflask.files.ids import is_id
from janflask.storage.base import Order, Page


def page(
    limit: int | None,
    order: Order,
    after: str | None,
    before: str | None,
    branches_of: str | None = None,
    branches: bool = True,
) -> Page:
    """The page. Raises InvalidRequestError for a cursor that is no id; one that is not in the list is the store's."""
    if branches_of is not None and not is_id(branches_of):
        raise InvalidRequestError(
            f"branches_of must be the id of a thread, not {branches_of[:80]!r}",
            param="branches_of",
            code="invalid_value",
        )
    for param, cursor in (("after", after), ("before", before)):
        if cursor is not None and not is_id(cursor):
            raise InvalidRequestError(
                f"{param} must be the id of an item of the list, not {cursor[:80]!r}", param=param, code="invalid_value"
            )
    return Page(limit=limit, order=order, after=after, before=before, family=branches_of, branches=branches)
