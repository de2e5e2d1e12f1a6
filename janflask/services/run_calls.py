"""What a run may call, and what was called: its tools, whose outputs it waits for, and how long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from janflask.errors import InvalidRequestError, RequestTooLargeError
from janflask.files import ids
from janflask.inference import leftovers
from janflask.inference.calls.functions import tools_of
from janflask.inference.calls.tool_schemas import tool_schemas
from janflask.inference.forms.answer_forms import answer_form, constraint_of
from janflask.storage.records import Assistant, Run, RunDraft, RunStatus, ThreadAssistant
from janflask.storage.rounds import Round

_LISTED = 20  # names in an error


def tools_for(
    draft: RunDraft, entry: ThreadAssistant, assistant: Assistant, parameters: Mapping[str, Any]
) -> tuple[Mapping[str, Any], ...]:
    """The run's own tools, else the thread's, else its entry's, else the assistant's, as they were given.

    ``parameters`` are those of the thread over its entry's. Raises InvalidRequestError for what cannot be called, and
    for a ``tool_choice`` that is none of them.
    """
    if draft.tool_choice == leftovers.NO_TOOLS:
        return ()
    place, param, listed = leftovers.tools_in(draft, entry, assistant, parameters)
    with _coming_by(param):
        tools = tools_of(listed, place)
        tool_schemas(tools, place)
    known = [tool.name for tool in tools]
    if draft.calls.required and not known:
        raise InvalidRequestError(
            "tool_choice needs tools, and neither the run nor its assistant has any: leave it out, or set it to none",
            param="tool_choice",
        )
    for name in draft.calls.names or ():
        if name not in known:
            listed_names = ", ".join(known[:_LISTED]) + ", ..." * (len(known) > _LISTED)
            raise InvalidRequestError(
                f"tool_choice names {name[:64]!r}, which is none of the run's tools: {listed_names or 'it has none'}",
                param="tool_choice",
            )
    return tuple(listed[tool.number] for tool in tools if tool.number is not None)


def format_for(draft: RunDraft, entry: ThreadAssistant, assistant: Assistant, parameters: Mapping[str, Any]) -> object:
    """The ``response_format``, as it was given: from the run, else from where its tools would come.

    A run that says in another field what its answer must look like (``draft.form``) takes over none. Raises
    InvalidRequestError for what no answer can be held to.
    """
    if draft.form:
        constraint_of({**draft.form, "response_format": draft.response_format})
        return draft.response_format
    place, param, form = leftovers.format_in(draft, entry, assistant, parameters)
    with _coming_by(param):
        answer_form(form, place)
    return form


@contextmanager
def _coming_by(param: str | None) -> Iterator[None]:
    """What is wrong with what a run takes over is told of the field by which it does."""
    try:
        yield
    except InvalidRequestError as error:
        error.param = param or error.param
        raise


def seen(run: Run) -> Run:
    """The run as it is now: one that waits in vain has expired, be it that nobody has written it down yet."""
    if run.status is RunStatus.REQUIRES_ACTION and run.expires_ms <= ids.now_ms():
        return replace(run, status=RunStatus.EXPIRED)
    return run


def answered(run: Run, outputs: Sequence[tuple[str, str]], most: int) -> Run:
    """The run with the outputs, by the ids of the calls, that it waits for: it goes on.

    Raises InvalidRequestError unless it waits, and for outputs that are not those of all its calls;
    RequestTooLargeError when all that it holds is over ``most`` characters.
    """
    waiting = run.waiting
    if (status := seen(run).status) is not RunStatus.REQUIRES_ACTION or waiting is None:
        raise InvalidRequestError(f"Runs in status '{status}' do not accept tool outputs.", param="tool_outputs")
    past = waiting.answered(_by_call(waiting, outputs), ids.now_ms())
    rounds = (*run.rounds[:-1], past)
    if (size := sum(item.size for item in rounds)) > most:
        raise RequestTooLargeError(
            f"the calls of the run and their outputs have {size} characters; {most} is the most", param="tool_outputs"
        )
    return replace(run, status=RunStatus.QUEUED, rounds=rounds)


def _by_call(waiting: Round, outputs: Sequence[tuple[str, str]]) -> dict[str, str]:
    wanted = [call.id for call in waiting.calls]
    given: dict[str, str] = {}
    for number, (call_id, output) in enumerate(outputs):
        place = f"tool_outputs.{number}.tool_call_id"
        if call_id not in wanted:
            raise InvalidRequestError(
                f"{place} is {call_id[:64]!r}, which the run does not wait for: it waits for {', '.join(wanted)}",
                param=place,
            )
        if call_id in given:
            raise InvalidRequestError(f"{place} comes twice: {call_id}", param=place)
        given[call_id] = output
    if lacking := [call_id for call_id in wanted if call_id not in given]:
        raise InvalidRequestError(
            f"Expected tool outputs for call_ids {wanted}, and there is none for {', '.join(lacking)}",
            param="tool_outputs",
        )
    return given
