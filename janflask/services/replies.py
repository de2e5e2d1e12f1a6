"""The message that a run makes, at any time of the run."""

from __future__ import annotations

from janflask.storage.records import Message, Run, RunStatus
from janflask.storage.run_log import ended_ms

REASONING = "reasoning_content"  # the field of a message that holds what the model thought before it

# OpenAI's words for why a message is not whole.
_REASONS = {
    RunStatus.INCOMPLETE: "max_tokens",
    RunStatus.CANCELLED: "run_cancelled",
    RunStatus.EXPIRED: "run_expired",
    RunStatus.FAILED: "run_failed",
}


def reply_message(run: Run, text: str, reasoning: str = "") -> Message:
    """The reply of ``run`` with the ``text`` that it has so far, and what the model thought before it."""
    status = "in_progress"
    if run.status.is_final:
        status = "completed" if run.status is RunStatus.COMPLETED else "incomplete"
    reason = _REASONS.get(run.status)
    ended = ended_ms(run)
    return Message(
        id=run.message_id,
        thread_id=run.thread_id,
        created_ms=run.replied_ms or run.created_ms,
        role="assistant",
        content=({"type": "text", "text": {"value": text, "annotations": []}},),
        assistant_id=run.assistant_id,
        run_id=run.id,
        status=status,
        incomplete_details=None if reason is None else {"reason": reason},
        completed_ms=ended if status == "completed" else None,
        incomplete_ms=ended if status == "incomplete" else None,
        extra={REASONING: reasoning} if reasoning else {},
    )
