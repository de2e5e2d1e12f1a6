"""A run whose prompt is too long has what is older summed up before it answers."""

from __future__ import annotations

from collections.abc import Sequence

from janflask.inference.waiting import Waiter
from janflask.services.compaction import Compactions
from janflask.storage.base import ThreadStore
from janflask.storage.items import is_summary
from janflask.storage.records import Message, Run


def summed_up(
    compactions: Compactions, threads: ThreadStore, run: Run, messages: Sequence[Message], waiter: Waiter
) -> Message | None:
    """The summary, which is the thread's newest message from now on; None where none is due, or nothing is older.

    One that was stored before a crash is found again. Raises what ``Compactions.of`` does.
    """
    made = next((message for message in reversed(messages) if message.run_id == run.id), None)
    if made is not None and is_summary(made):
        return made
    summary = compactions.of(run, messages, waiter)
    if summary is not None:
        threads.append(run.thread_id, [summary])
    return summary
