"""The check of finished calls: arguments that do not meet their tool's schema stand, and the answer says so.

A model is held to a schema while it writes, but to less of it where no grammar can do all (``json_schema.py``), and not
at all where another server runs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from janflask.inference.calls.tool_schemas import tool_schemas
from janflask.inference.deltas import Event, Events, Finished, RefusalDelta, ToolCallDelta
from janflask.inference.forms.constrained import objection
from janflask.inference.requests import Tool
from janflask.ipc.messages.generation import FinishReason


@dataclass(slots=True)
class _Call:
    name: str = ""
    pieces: list[str] = field(default_factory=list)


def calls_checked(events: Events, tools: Sequence[Tool], place: str = "tools") -> Events:
    """The same events, with a ``RefusalDelta`` in front of an answer's end where a call is not as it should be.

    An answer that its limit has cut is not finished, and is not checked. Raises InvalidRequestError for a tool's schema
    that calls cannot be held to, before there are any events.
    """
    if not tools:
        yield from events
        return
    schemas = {tool.name: schema.schema for tool, schema in zip(tools, tool_schemas(tools, place), strict=True)}
    calls: dict[int, dict[int, _Call]] = {}
    refused: set[int] = set()  # an upstream may have said so itself
    with closing(events):
        for batch in events:
            out: list[Event] = []
            for event in batch:
                if isinstance(event, ToolCallDelta):
                    call = calls.setdefault(event.index, {}).setdefault(event.call, _Call())
                    call.name = event.name or call.name
                    call.pieces.append(event.arguments)
                elif isinstance(event, RefusalDelta):
                    refused.add(event.index)
                elif isinstance(event, Finished) and event.reason != FinishReason.LENGTH and event.index not in refused:
                    reason = _objections(calls.pop(event.index, {}), schemas)
                    if reason:
                        yield out  # what was said before is out, whatever becomes of the refusal
                        out = [RefusalDelta(event.index, reason)]
                out.append(event)
            yield out


def _objections(calls: Mapping[int, _Call], schemas: Mapping[str, str | None]) -> str:
    """What is wrong with the calls of one answer; empty: nothing."""
    found: list[str] = []
    for number, call in calls.items():
        schema = schemas.get(call.name)
        what = f"the call of {call.name} (number {number})"
        reason = None if schema is None else objection(schema, "".join(call.pieces), what)
        if reason is not None:
            found.append(reason)
    return "; ".join(found)
