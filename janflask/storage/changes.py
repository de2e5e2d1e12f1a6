"""Which changes of messages and runs are told by webhooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from janflask.storage.records import Message, Run, RunKind, RunStatus
from janflask.webhooks.events import Event, of_message, of_response, of_run


def message_changes(thread_id: str, before: Sequence[Message], after: Sequence[Message]) -> Iterator[Event]:
    """A thread's messages are replaced by others, of which some may be the same."""
    present = {message.id: message for message in before}
    kept = {message.id for message in after}
    yield from (of_message("deleted", thread_id, name) for name in present if name not in kept)
    for message in after:
        if message.id not in present:
            yield of_message("created", thread_id, message.id)
        elif message != present[message.id]:
            yield of_message("updated", thread_id, message.id)


def run_changes(before: Run, after: Run) -> Iterator[Event]:
    """A run has changed: what is told of that, if anything is. A stored chat is told by its thread's messages."""
    status = after.status
    if status is before.status:
        return
    if after.kind is RunKind.RUN and (status.is_final or status is RunStatus.REQUIRES_ACTION):
        yield of_run(status.value, after.thread_id, after.id)
    elif after.kind is RunKind.RESPONSE and status.is_final:
        told = RunStatus.FAILED if status is RunStatus.EXPIRED else status  # as the response itself tells it
        yield of_response(told.value, after.thread_id, after.id)
