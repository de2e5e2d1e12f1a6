"""Cutting a page out of a list whose order is known, by cursors that are ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TypeVar

from janflask.errors import InvalidRequestError
from janflask.files import ids
from janflask.storage.base import Page, Slice

T = TypeVar("T")
Key = tuple[int, str]  # an object's time in milliseconds, and its id


def cut(keys: Sequence[Key], page: Page, load: Callable[[str], T | None]) -> Slice[T]:
    """The page of a list whose ascending order is that of ``keys``.

    ``load`` gets an id and gives its object, or None for one that has to be left out; it is called for no more objects
    than are needed: those on the page, those left out and, to know whether the list goes on, one more. ``has_more`` is
    about what the cursors leave of the list. Raises InvalidRequestError for a cursor that has no place in the list.
    """
    start, stop = _range(keys, page)
    backwards = page.before is not None and page.after is None
    descending = (page.order == "desc") is not backwards
    items: list[T] = []
    has_more = False
    for index in reversed(range(start, stop)) if descending else range(start, stop):
        item = load(keys[index][1])
        if item is None:
            continue
        if len(items) == page.limit:
            has_more = True
            break
        items.append(item)
    return Slice(items[::-1] if backwards else items, has_more)


def cut_in_order(found: Iterable[T], page: Page) -> Slice[T]:
    """The page out of the items between its cursors, which come beginning at the end from which it is cut."""
    items = list(found if page.limit is None else islice(found, page.limit + 1))
    has_more = page.limit is not None and len(items) > page.limit
    if has_more:
        items.pop()
    if page.before is not None and page.after is None:
        items.reverse()
    return Slice(items, has_more)


def time_of_gone(cursor: str, param: str) -> int:
    """When the object was made that a cursor names and that is not in the list any more, in milliseconds.

    Raises InvalidRequestError for an id that does not tell.
    """
    made_ms = ids.time_of(cursor)
    if made_ms is None:
        raise InvalidRequestError(
            f"{cursor[:128]!r} is not in this list; {param!r} has to be the id of one of its items", param=param
        )
    return made_ms


def _range(keys: Sequence[Key], page: Page) -> tuple[int, int]:
    """Where in ``keys`` the items between the page's cursors begin and end."""
    lower, upper = ("after", page.after), ("before", page.before)
    if page.order == "desc":
        lower, upper = upper, lower
    start = 0 if lower[1] is None else _place(keys, lower[1], lower[0])[1]
    stop = len(keys) if upper[1] is None else _place(keys, upper[1], upper[0])[0]
    return start, stop


def _place(keys: Sequence[Key], cursor: str, param: str) -> tuple[int, int]:
    """How many keys come before the cursor's, and how many if it is counted, too; one that comes again, as often."""
    if places := [index for index, (_, found) in enumerate(keys) if found == cursor]:
        return places[0], places[-1] + 1
    # Not a binary search: a list of messages is in the order of their arrival, which need not be that of their times.
    gone = (time_of_gone(cursor, param), cursor)
    index = next((index for index, key in enumerate(keys) if key > gone), len(keys))
    return index, index
