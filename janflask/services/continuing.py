"""A thread's last message that gets more words: whether it can, and what it is then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from janflask.errors import InvalidRequestError
from janflask.services.prompts import Begun
from janflask.services.replies import refusal_of
from janflask.storage.items import CALLS, REASONING, is_summary
from janflask.storage.records import Continued, Message, Run, text_part


def continued(last: Message | None) -> Continued:
    """That a run goes on with ``last``. Raises InvalidRequestError if it cannot."""
    reason = "the thread has no message" if last is None else _reason_against(last)
    if last is None or reason is not None:
        raise InvalidRequestError(f"there is nothing to go on with: {reason}", param="continue_last")
    begun = begun_in(last)
    return Continued(
        message_id=last.id, created_ms=last.created_ms, text=len(begun.text), reasoning=len(begun.reasoning)
    )


def begun_in(message: Message) -> Begun:
    """What a message says, as the beginning of an answer."""
    thought = message.extra.get(REASONING)
    return Begun(message.text, thought if isinstance(thought, str) else "")


def is_continued(run: Run, message_id: str) -> bool:
    """Whether the message was there before the run."""
    return run.continued is not None and run.continued.message_id == message_id


def grown(before: Message, reply: Message, run: Run) -> Message:
    """``before`` with what ``reply`` of ``run``, which has all of the words, adds to it; once stored it stays so."""
    if run.continued is None or before.run_id == run.id:
        return before
    *parts, last = before.content or (text_part(""),)
    words = reply.text[run.continued.text :]
    return replace(
        reply,
        created_ms=before.created_ms,
        content=(*parts, _longer(last, words)),
        file_ids=before.file_ids,
        attachments=before.attachments,
        metadata=before.metadata,
        extra={**before.extra, **reply.extra},
    )


def _longer(part: Mapping[str, Any], words: str) -> dict[str, Any]:
    return {**part, "text": {**part["text"], "value": part["text"]["value"] + words}}


def _reason_against(last: Message) -> str | None:
    if last.role != "assistant":
        return f"the thread's last message {last.id} is of the role {last.role[:32]!r}, not an assistant's"
    if last.is_error or is_summary(last) or last.extra.get(CALLS) or refusal_of(last):
        return f"the thread's last message {last.id} is no answer in words"
    if last.content and not _is_text(last.content[-1]):
        return f"the thread's last message {last.id} does not end with text"
    return None if begun_in(last) else f"the thread's last message {last.id} is empty"


def _is_text(part: Mapping[str, Any]) -> bool:
    text = part.get("text")
    return part.get("type") == "text" and isinstance(text, Mapping) and isinstance(text.get("value"), str)
