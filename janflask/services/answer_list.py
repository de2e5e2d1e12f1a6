"""Answers of all threads as one list. What is read of a thread is which runs it has, and then those of the page."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from janflask.errors import ConflictError, InvalidRequestError, NotFoundError, StoreDamagedError
from janflask.files import ids
from janflask.storage.base import Page, Repository
from janflask.storage.records import Run, RunKind
from janflask.storage.run_json import kind_of

log = logging.getLogger(__name__)


def answers_between(repository: Repository, kind: RunKind, page: Page) -> Iterator[Run]:
    """Those between the page's cursors, beginning at the end from which it is cut; ``limit`` is the caller's to keep.

    Threads come in the order of their creation, and of one thread its answers. One that cannot be read is left out, and
    logged. Raises InvalidRequestError for a cursor that is no such answer's id.
    """
    is_backwards = page.before is not None and page.after is None
    newest_first = (page.order == "desc") != is_backwards
    after, before = _cursor(kind, page.after, "after"), _cursor(kind, page.before, "before")
    start, end = (before, None) if is_backwards else (after, before)
    between = Page(limit=None, order=page.order, after=after and after[0], before=before and before[0])
    threads = [start[0]] if start else []
    for thread_id in _chain(threads, repository.threads.ids(between), end):
        names = _names(repository, thread_id, kind)
        ordered = names[::-1] if newest_first else names
        if start is not None and thread_id == start[0]:
            ordered = [name for name in ordered if _comes(name, start[1], newest_first)]
        if end is not None and thread_id == end[0]:
            ordered = [name for name in ordered if _comes(end[1], name, newest_first)]
        for name in ordered:
            if (run := _readable(repository, thread_id, name)) is not None:
                yield run


def _chain(first: Sequence[str], between: Iterator[str], end: tuple[str, str] | None) -> Iterator[str]:
    yield from first
    yield from between
    if end is not None and end[0] not in first:
        yield end[0]


def _cursor(kind: RunKind, name: str | None, param: str) -> tuple[str, str] | None:
    """An answer's thread, and the answer."""
    if name is None:
        return None
    thread_id = ids.thread_of(name)
    if thread_id is None or kind_of(name) is not kind:
        raise InvalidRequestError(
            f"{name[:128]!r} is not in this list; {param!r} has to be the id of one of its items", param=param
        )
    return thread_id, name


def _key(name: str) -> tuple[int, str]:
    return ids.time_of(name) or 0, name


def _comes(name: str, behind: str, newest_first: bool) -> bool:
    return _key(name) < _key(behind) if newest_first else _key(name) > _key(behind)


def _names(repository: Repository, thread_id: str, kind: RunKind) -> Sequence[str]:
    try:
        return [name for name in repository.runs.ids(thread_id) if kind_of(name) is kind]
    except NotFoundError:  # it was deleted meanwhile
        return ()


def _readable(repository: Repository, thread_id: str, run_id: str) -> Run | None:
    try:
        return repository.runs.get(thread_id, run_id)
    except NotFoundError:
        pass
    except (StoreDamagedError, ConflictError) as error:
        log.warning("an answer of thread %s is left out: %s", thread_id, error.message)
    return None
