"""How runs end, and how they come to wait: the fields of a run that this sets."""

from __future__ import annotations

from typing import Any

import msgspec

from janflask.errors import ContextLengthExceededError, EngineError, JanflaskError, QueueFullError
from janflask.files import ids
from janflask.inference.deltas import Done, Finished
from janflask.ipc.messages.error import ErrorReply
from janflask.ipc.messages.generation import FinishReason
from janflask.services.prompts import RunPrompt
from janflask.services.replies import refusal_of
from janflask.storage.items import calls_of
from janflask.storage.records import Message, Run, RunKind, RunStatus
from janflask.storage.rounds import Call, Round
from janflask.storage.run_json import STEP

Ending = dict[str, Any]


def ended(reason: str) -> Ending:
    """The end of a run whose answer ended for ``reason``."""
    if reason == "length":
        return incomplete("max_completion_tokens")
    return {"status": RunStatus.COMPLETED, "completed_ms": ids.now_ms()}


def incomplete(reason: str) -> Ending:
    """The end of a run whose answer is not whole."""
    return {"status": RunStatus.INCOMPLETE, "incomplete_reason": reason, "completed_ms": ids.now_ms()}


def cancelled() -> Ending:
    """The end of a run that somebody cancelled."""
    return {"status": RunStatus.CANCELLED, "cancelled_ms": ids.now_ms()}


def expired() -> Ending:
    """The end of a run whose time is over."""
    return {"status": RunStatus.EXPIRED}


def failed(error: JanflaskError, kind: RunKind = RunKind.RUN) -> Ending:
    """The end of a run that ``error`` stopped; of an answer by itself whoever asks is told the same error."""
    return {
        "status": RunStatus.FAILED,
        "failed_ms": ids.now_ms(),
        "error_code": _error_code(error, kind),
        "error_message": error.message,
        **({} if kind is RunKind.RUN else {"failure": msgspec.to_builtins(ErrorReply.of(error))}),
    }


def _error_code(error: JanflaskError, kind: RunKind) -> str:
    """OpenAI's words for the errors of runs, and of responses."""
    if kind is not RunKind.RUN and isinstance(error, ContextLengthExceededError):
        return ContextLengthExceededError.code
    if error.status == QueueFullError.status:
        return "rate_limit_exceeded"
    return "invalid_prompt" if error.param == "messages" and error.status == 400 else "server_error"


def waiting(run: Run, calls: tuple[Call, ...], text: str, reasoning: str, used: Ending) -> Ending:
    """The end of a round: the run waits for the outputs of ``calls``. ``used`` are the tokens of the round."""
    past = Round(
        calls=calls,
        step_id=ids.new_id(STEP),
        ended_ms=ids.now_ms(),
        started_ms=run.resumed_ms if run.rounds else run.started_ms,
        message_id=run.message_id,
        message_step_id=run.step_id,
        replied_ms=run.replied_ms,
        text=text,
        reasoning=reasoning,
        **used,
    )
    return {
        "status": RunStatus.REQUIRES_ACTION,
        "rounds": (*run.rounds, past),
        "message_id": ids.new_id(ids.MESSAGE),
        "step_id": ids.new_id(STEP),
        "resumed_ms": None,
        "replied_ms": None,
    }


def answered(finished: Finished, calls: tuple[Call, ...], refusal: str) -> Ending:
    """The end of an answer by itself. It is over with its calls, and a refusal is an answer, too."""
    wanted = calls if finished.reason == FinishReason.TOOL_CALLS else ()
    return {**ended(finished.reason), "wanted": wanted, "refusal": refusal, "stop": finished.stop}


def usage(done: Done, prompt: RunPrompt) -> Ending:
    """The tokens that an answer took; what it had said before it broke off counts as its own."""
    used = done.usage
    prompt_tokens = max(0, used.prompt_tokens - prompt.said_tokens)
    return {
        "prompt_tokens": prompt_tokens,
        "cached_tokens": min(used.cached_tokens, prompt_tokens),
        "completion_tokens": used.completion_tokens + prompt.said_tokens,
        "reasoning_tokens": used.reasoning_tokens + prompt.thought_tokens,
    }


def timings(run: Run, done: Done) -> Ending:
    """Where the time of all rounds went; of an answer's last piece, where an engine died under it."""
    before = run.timings if run.rounds else {}
    spent: dict[str, float] = msgspec.to_builtins(done.timings)
    return {"timings": {name: value + before.get(name, 0) for name, value in spent.items()}}


def total(run: Run, used: Ending) -> Ending:
    """``used`` and the tokens of the run's earlier rounds."""
    return {name: tokens + sum(getattr(item, name) for item in run.rounds) for name, tokens in used.items()}


def ending_of(message: Message) -> Ending:
    """The end of the run whose message this is; the tokens that it took are not known, nor its stop string."""
    said = {"wanted": calls_of(message), "refusal": refusal_of(message)}
    return {**_ending_by_reason(message), **{name: value for name, value in said.items() if value}}


def _ending_by_reason(message: Message) -> Ending:
    ended_ms = message.completed_ms or message.incomplete_ms or ids.now_ms()
    match (message.incomplete_details or {}).get("reason"):
        case "max_tokens":
            return incomplete("max_completion_tokens") | {"completed_ms": ended_ms}
        case "run_cancelled":
            return cancelled() | {"cancelled_ms": ended_ms}
        case "run_expired":
            return expired()
        case "run_failed":
            reason = EngineError("the run failed; the server ended before it could write down why")
            return failed(reason) | {"failed_ms": ended_ms}
    return {"status": RunStatus.COMPLETED, "completed_ms": ended_ms}
