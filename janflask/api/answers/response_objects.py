"""Responses as the API shows them: of a run, and of the messages that it made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from janflask.api.answers.item_objects import item_object
from janflask.api.answers.run_objects import seconds
from janflask.files import ids
from janflask.schemas.response_tools import Callee, callees, custom_input
from janflask.services.cache_diagnostics import response_diagnostics
from janflask.services.comparisons import COMPARISON
from janflask.services.seals import Seals
from janflask.storage.items import Item, ItemKind, readable_items, summary_field
from janflask.storage.records import Message, Run, RunStatus

_STATUSES = {
    RunStatus.QUEUED: "queued",
    RunStatus.IN_PROGRESS: "in_progress",
    RunStatus.CANCELLING: "in_progress",
    RunStatus.REQUIRES_ACTION: "completed",
    RunStatus.EXPIRED: "failed",
}
_REASONS = {"max_completion_tokens": "max_output_tokens", "max_prompt_tokens": "max_output_tokens"}
_CODES = frozenset({"server_error", "rate_limit_exceeded", "invalid_prompt"})  # those of OpenAI's that there are here
Object = dict[str, Any]
Logprobs = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class View:
    """How items are told: calls as their client knows what is called, and what is ``included`` beside.

    Without ``seals`` no thoughts are sealed.
    """

    known: Mapping[str, Callee]
    included: frozenset[str]
    seals: Seals | None = None

    @classmethod
    def of(cls, run: Run, seals: Seals | None, include: Iterable[str] = ()) -> Self:
        """As whoever asked for ``run`` wants them, and with what is to be included, too."""
        return cls(callees(run.asked.get("tools", ())), frozenset((*run.asked.get("include", ()), *include)), seals)


def response_object(run: Run, messages: Iterable[Message], view: View, logprobs: Logprobs = ()) -> Object:
    """A response whose output are the items of ``messages``; ``logprobs`` are those of its words.

    ``thread_id``, ``left_out_tools`` and ``left_out_message_ids`` are ours: the thread that it is stored in, the tools
    that the model was not offered, and what it was not shown because it did not fit.
    """
    items = [item for message in messages for item in readable_items(message)]
    return {**begun_object(run), **_outcome(run), "output": [output_object(item, view, logprobs) for item in items]}


def summary_of(run: Run) -> list[Message]:
    """The summary of what is older that was made for an answer, as the message that it is; none if there is none."""
    made = run.compaction
    if not made:
        return []
    extra = summary_field((), made["encrypted_content"])
    return [Message(id=made["message_id"], thread_id=run.thread_id, created_ms=made["at"], extra=extra)]


def begun_object(run: Run, status: str | None = None) -> Object:
    """A response of which nothing came yet: what was asked for, and ``status`` if it is not the run's own."""
    asked = run.asked
    reasoning = asked.get("reasoning") or {}
    conversation = asked.get("conversation")
    return {
        "id": run.id,
        "object": "response",
        "created_at": run.created_ms // 1000,
        "status": status or _STATUSES.get(run.status, str(run.status)),
        "background": asked.get("background", False),
        "completed_at": None,
        "conversation": None if conversation is None else {"id": ids.conversation_id(ids.thread_id(conversation))},
        "error": None,
        "incomplete_details": None,
        "instructions": run.instructions or None,
        "max_output_tokens": asked.get("max_output_tokens"),
        "max_tool_calls": asked.get("max_tool_calls"),
        "metadata": run.metadata,
        "model": run.model,
        "output": [],
        "parallel_tool_calls": run.parallel_tool_calls,
        "previous_response_id": asked.get("previous_response_id"),
        "prompt_cache_key": asked.get("prompt_cache_key"),
        "prompt_cache_options": _cache_options(asked),
        "prompt_cache_diagnostics": None,
        "prompt_cache_retention": asked.get("prompt_cache_retention"),
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "safety_identifier": asked.get("safety_identifier"),
        "service_tier": "default",
        "store": asked.get("store", True),
        "temperature": run.temperature,
        "text": {"format": {"type": "text"}, **asked.get("text", {})},
        "tool_choice": "auto" if run.tool_choice is None else run.tool_choice,
        "tools": asked.get("tools", []),
        "top_logprobs": asked.get("top_logprobs", 0),
        "top_p": run.top_p,
        "truncation": asked.get("truncation", "disabled"),
        "usage": None,
        "user": asked.get("user"),
        "thread_id": run.thread_id or None,
        "left_out_tools": asked.get("left_out_tools", []),
        "left_out_message_ids": [],
    }


def _cache_options(asked: Mapping[str, Any]) -> Object | None:
    given = asked.get("prompt_cache_options")
    return None if given is None else {"mode": "implicit", "ttl": "30m", **given}


def _outcome(run: Run) -> Object:
    reason = run.incomplete_reason
    return {
        "completed_at": seconds(run.completed_ms) if run.status is RunStatus.COMPLETED else None,
        "error": error_object(run),
        "incomplete_details": None if reason is None else {"reason": _REASONS.get(reason, reason)},
        "usage": _usage(run),
        "prompt_cache_diagnostics": _diagnostics(run),
        "left_out_message_ids": run.left_out,
    }


def _diagnostics(run: Run) -> Object | None:
    comparison = run.asked.get(COMPARISON)
    if comparison is None or not run.status.is_final:
        return None
    return response_diagnostics(comparison, run.prompt_tokens, run.cached_tokens)


def error_object(run: Run) -> Object | None:
    """What made it fail, in OpenAI's words."""
    if run.status is RunStatus.EXPIRED:
        return {"code": "server_error", "message": "the response was not done when its time (run_timeout) was over"}
    if run.error_message is None:
        return None
    code = run.error_code if run.error_code in _CODES else "server_error"
    return {"code": code, "message": run.error_message}


def _usage(run: Run) -> Object | None:
    """The tokens of an answer that has ended, as far as they are known."""
    if run.prompt_tokens is None or run.completion_tokens is None:
        return None
    return usage_object(run.prompt_tokens, run.cached_tokens or 0, run.completion_tokens, run.reasoning_tokens or 0)


def usage_object(prompt: int, cached: int, completion: int, reasoning: int) -> Object:
    """Tokens, and those of them that were cached or are thoughts."""
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": prompt + completion,
    }


# --- what it said ----------------------------------------------------------------------------------------------------


def output_object(item: Item, view: View, logprobs: Logprobs = ()) -> Object:
    """An item that an answer made."""
    told = item_object(item, include=view.included, seals=view.seals)
    if item.kind is ItemKind.CALL and told["name"] in view.known:
        return as_called(told, view.known[told["name"]])
    if item.kind is ItemKind.MESSAGE:
        for part in told["content"]:
            if part["type"] == "output_text":
                part["logprobs"] = list(logprobs)
                break
        if any(part["type"] == "refusal" for part in told["content"]):
            told["phase"] = "commentary"  # who reads the words as what was asked for passes over those of this phase
    return told


def as_called(call: Object, callee: Callee) -> Object:
    """A function's call as one of what the client calls so."""
    told = {**call, "name": callee.name}
    if callee.namespace is not None:
        told["namespace"] = callee.namespace
    if callee.is_custom:
        told |= {"type": "custom_tool_call", "input": custom_input(told.pop("arguments"))}
    return told
