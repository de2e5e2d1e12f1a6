"""The messages that a run makes, at any time of the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from janflask.storage.items import CALLS, REASONING, kept_calls
from janflask.storage.records import Message, Run, RunKind, RunStatus, text_part
from janflask.storage.rounds import FIELD, Round, kept
from janflask.storage.run_log import ended_ms

# OpenAI's words for why a message is not whole.
_REASONS = {
    RunStatus.INCOMPLETE: "max_tokens",
    RunStatus.CANCELLED: "run_cancelled",
    RunStatus.EXPIRED: "run_expired",
    RunStatus.FAILED: "run_failed",
}


def run_messages(run: Run, text: str, reasoning: str = "") -> list[Message]:
    """All that ``run`` has made so far, oldest first: what came before calls, then the reply, with ``text`` so far."""
    messages: list[Message] = []
    since: list[Round] = []  # the last message
    for past in run.rounds:
        if past.replied_ms is not None:
            messages.append(round_message(run, past, since))
            since = []
        since.append(past)
    if run.replied_ms is not None:
        messages.append(reply_message(run, text, reasoning, since))
    return messages


def owes_message(run: Run) -> bool:
    """Whether there is no message yet that could keep the newest answered calls."""
    return run.replied_ms is None and any(item.answered_ms is not None for item in run.rounds)


def reply_message(run: Run, text: str, reasoning: str = "", since: Sequence[Round] = ()) -> Message:
    """The reply of ``run`` with the ``text`` that it has so far, and what the model thought before it.

    ``since`` are the rounds behind the message before.
    """
    said = _said(run, text, reasoning, since)
    if run.kind is not RunKind.RUN:
        said = _said_by_itself(run, said, text)
    status = "in_progress"
    if run.status.is_final:
        status = "completed" if run.status is RunStatus.COMPLETED else "incomplete"
    reason = _REASONS.get(run.status)
    ended = ended_ms(run)
    return Message(
        id=run.message_id,
        created_ms=_created_ms(run, run.message_id, run.replied_ms or run.created_ms),
        **said,
        status=status,
        incomplete_details=None if reason is None else {"reason": reason},
        completed_ms=ended if status == "completed" else None,
        incomplete_ms=ended if status == "incomplete" else None,
    )


def round_message(run: Run, past: Round, since: Sequence[Round] = ()) -> Message:
    """What a round said before its calls."""
    return Message(
        id=past.message_id,
        created_ms=_created_ms(run, past.message_id, past.replied_ms or past.ended_ms),
        **_said(run, past.text, past.reasoning, since),
        completed_ms=past.ended_ms,
    )


def _created_ms(run: Run, message_id: str, begun_ms: int) -> int:
    continued = run.continued
    return begun_ms if continued is None or continued.message_id != message_id else continued.created_ms


def refusal_of(message: Message) -> str:
    """Why the answer that it is is not what was asked for; empty where it is."""
    found = (part.get("refusal") for part in message.content if part.get("type") == "refusal")
    return next((text for text in found if isinstance(text, str)), "")


def _said_by_itself(run: Run, said: dict[str, Any], text: str) -> dict[str, Any]:
    """An answer that is nothing but calls has no content, and they stand with it; one that is whole has words.

    Be they none: clients look for them.
    """
    is_whole = run.status is RunStatus.COMPLETED and not run.wanted and not run.refusal
    content = said["content"] if text or is_whole else ()
    if run.refusal:
        content = (*content, {"type": "refusal", "refusal": run.refusal})
    calls = {CALLS: kept_calls(run.wanted)} if run.wanted else {}
    return {**said, "content": content, "extra": {**said["extra"], **calls}}


def _said(run: Run, text: str, reasoning: str, since: Sequence[Round]) -> dict[str, Any]:
    extra: dict[str, Any] = {REASONING: reasoning} if reasoning else {}
    if rounds := kept(since):
        extra[FIELD] = rounds
    return {
        "thread_id": run.thread_id,
        "role": "assistant",
        "content": (text_part(text),),
        "assistant_id": run.assistant_id,
        "run_id": run.id,
        "extra": extra,
    }
