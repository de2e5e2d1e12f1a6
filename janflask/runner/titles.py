"""A thread's title out of what its user says first."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace

from janflask.errors import JanflaskError
from janflask.storage.base import ThreadStore
from janflask.storage.records import Message, Thread

LONGEST = 60  # characters
UNTITLED = ("", "New Thread")  # the second is Jan's

log = logging.getLogger(__name__)


def give_title(threads: ThreadStore, thread_id: str) -> None:
    """Sets the title of a thread that has none. A thread without one is no failure: it is logged."""
    try:
        if threads.get(thread_id).title in UNTITLED:
            title = title_of(threads.all_messages(thread_id))
            if title:
                threads.update(thread_id, lambda thread: _titled(thread, title))
    except JanflaskError as error:
        log.warning("thread %s gets no title: %s", thread_id, error.message)


def title_of(messages: Iterable[Message]) -> str:
    """The first line of the first user's message that has a text, cut after a word; empty if there is none."""
    for message in messages:
        text = message.text.strip()
        if message.role == "user" and text:
            return _cut(" ".join(text.splitlines()[0].split()))
    return ""


def _titled(thread: Thread, title: str) -> Thread:
    return replace(thread, title=title) if thread.title in UNTITLED else thread  # somebody may have been quicker


def _cut(line: str) -> str:
    if len(line) <= LONGEST:
        return line
    head, space, _ = line[: LONGEST + 1].rpartition(" ")
    return head if space else line[:LONGEST]
