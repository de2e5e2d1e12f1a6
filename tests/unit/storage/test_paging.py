"""Cutting a page: every combination of cursors, order and limit against a plain reference."""

from __future__ import annotations

import itertools

import pytest

from janflask.errors import InvalidRequestError
from janflask.files import ids
from janflask.storage.base import Order, Page
from janflask.storage.paging import cut

ORDERS: tuple[Order, ...] = ("asc", "desc")
OWN = [(time_ms, ids.new_id(ids.THREAD, time_ms)) for time_ms in (10, 20, 30, 40, 50)]
KEYS = [*OWN[:2], (25, "jan_1"), *OWN[2:], (60, "jan_2")]
GONE = [ids.new_id(ids.THREAD, time_ms) for time_ms in (5, 22, 70)]


def expected(page: Page) -> tuple[list[str], bool]:
    """What ``Page`` and ``Slice`` say, word for word."""
    places = {key: (time_ms, key) for time_ms, key in KEYS} | {gone: (ids.time_of(gone) or 0, gone) for gone in GONE}
    listed = KEYS if page.order == "asc" else KEYS[::-1]

    def comes_before(one: tuple[int, str], other: tuple[int, str]) -> bool:
        return one < other if page.order == "asc" else one > other

    between = [
        key
        for time_ms, key in listed
        if (page.after is None or comes_before(places[page.after], (time_ms, key)))
        and (page.before is None or comes_before((time_ms, key), places[page.before]))
    ]
    if page.limit is None or len(between) <= page.limit:
        return between, False
    backwards = page.before is not None and page.after is None
    return (between[len(between) - page.limit :] if backwards else between[: page.limit]), True


def test_every_combination() -> None:
    cursors = [None, *(key for _, key in KEYS), *GONE]
    for after, before, order, limit in itertools.product(cursors, cursors, ORDERS, (None, 1, 2, 3, 7, 8)):
        page = Page(limit=limit, order=order, after=after, before=before)
        got = cut(KEYS, page, lambda key: key)
        assert (list(got.items), got.has_more) == expected(page), page


def test_what_cannot_be_loaded_is_left_out_and_the_page_is_filled() -> None:
    wanted = {key for _, key in KEYS[::2]}
    got = cut(KEYS, Page(limit=2, order="asc"), lambda key: key if key in wanted else None)
    assert (list(got.items), got.has_more) == ([KEYS[0][1], KEYS[2][1]], True)
    got = cut(KEYS, Page(limit=4, order="asc"), lambda key: key if key in wanted else None)
    assert (len(got.items), got.has_more) == (4, False)


def test_no_more_is_loaded_than_is_needed() -> None:
    loaded: list[str] = []
    keys = [(time_ms, f"t{time_ms:05}") for time_ms in range(10_000)]
    cut(keys, Page(limit=20), lambda key: loaded.append(key) or key)
    assert loaded == [key for _, key in keys[:-22:-1]]


@pytest.mark.parametrize("param", ["after", "before"])
@pytest.mark.parametrize("cursor", ["nobody", "", "../x", "x" * 100_000])
def test_a_cursor_from_elsewhere(param: str, cursor: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        cut(KEYS, Page(**{param: cursor}), lambda key: key)
    assert caught.value.param == param
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_walk_over_ids_that_come_again_ends(order: Order) -> None:
    keys = [(0, name) for name in "xyabcad"]
    seen, after = "", None
    for _ in keys:
        found = cut(keys, Page(limit=3, order=order, after=after), str)
        seen += "".join(found.items)
        if not found.has_more:
            break
        after = found.items[-1]
    assert seen == ("xyad" if order == "asc" else "dacbayx")
