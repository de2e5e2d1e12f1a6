"""Runs: what makes a thread answer."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from janflask.access.scopes import Scope
from janflask.api.answers.run_events import RunEventWriter
from janflask.api.answers.run_objects import run_object
from janflask.api.answers.run_stream import run_stream
from janflask.api.answers.step_objects import steps_of
from janflask.api.answers.thread_objects import list_object
from janflask.api.examples import inference as examples
from janflask.api.examples import runs as examples_runs
from janflask.api.plumbing import access
from janflask.api.plumbing.blueprint import Blueprint, links, path_id
from janflask.api.plumbing.context import services, waiter
from janflask.api.plumbing.response import json_response
from janflask.api.plumbing.sse import last_event
from janflask.errors import NotFoundError
from janflask.schemas.objects import PageQuerySchema
from janflask.schemas.run_answers import RunListSchema, RunObjectSchema, StepListSchema, StepObjectSchema
from janflask.schemas.runs import (
    NewRunSchema,
    NewThreadAndRunSchema,
    RunChangesSchema,
    RunEventsQuerySchema,
    ToolOutputsSchema,
)
from janflask.services.paging import page
from janflask.storage.paging import cut
from janflask.storage.records import Run, RunDraft

blp = Blueprint(
    "Runs",
    __name__,
    url_prefix="/v1/threads",
    needs=Scope.CONVERSATIONS,
    description="A run makes a thread answer. It goes on when its client leaves, and after a crash.",
)
_THREAD = path_id("thread", examples.THREAD_ID)
_RUN = path_id("run", examples_runs.RUN_ID)
_STEP = path_id("step", examples_runs.STEP_ID)
_EVENTS = {"type": "string", "description": "Server-sent events with numbers; the last one is `done`."}
_LAST_EVENT = {
    "in": "header",
    "name": "Last-Event-ID",
    "description": "The number of the last event that was heard: the stream goes on behind it.",
    "schema": {"type": "integer", "minimum": 0},
}
_LINKS = links(*("getRun", "modifyRun", "cancelRun", "listRunSteps", "watchRun"), thread_id="thread_id", run_id="id")

_streams = blp.alt_response(
    200,
    schema=_EVENTS,
    content_type="text/event-stream",
    example=examples_runs.STREAM,
    description="The run's events.",
    success=True,
)


@blp.route("/runs", methods=["POST"])
@access.needs(Scope.INFERENCE, Scope.CONVERSATIONS)
@blp.doc(operationId="createThreadAndRun", responses={200: {"links": _LINKS}})
@blp.arguments(NewThreadAndRunSchema, required=False, example=examples_runs.THREAD_AND_RUN_REQUEST)
@blp.response(200, RunObjectSchema, description="The run.", example=examples_runs.RUN)
@_streams
@blp.refuses(400, 404, 409, 413, 415, 500, 503, 507)
def create_thread_and_run(body: RunDraft) -> Response:
    """Create thread and run

    Makes a thread with its first messages and has it answered, as createRun does.
    """
    return _answer(services().runs.create_with_thread(body), is_stream=body.stream)


@blp.route("/<thread_id>/runs", methods=["POST"], parameters=[_THREAD])
@access.needs(Scope.INFERENCE, Scope.CONVERSATIONS)
@blp.doc(operationId="createRun", responses={200: {"links": _LINKS}})
@blp.arguments(NewRunSchema, required=False, example=examples_runs.RUN_REQUEST)
@blp.response(200, RunObjectSchema, description="The run.", example=examples_runs.RUN)
@_streams
@blp.refuses(400, 404, 409, 413, 415, 500, 503, 507)
def create_run(body: RunDraft, thread_id: str) -> Response:
    """Create run

    Has the thread answered: the reply becomes its next message. When the run is answered it is on disk, and goes on
    whatever becomes of its client, unless `cancel_on_disconnect` says otherwise. Model, instructions and sampling are
    those of the run, else of the thread, of its assistant, of the model. A thread has one run at a time: a second one
    gets 400.

    With `stream` the answer is the run's events. Where the history does not fit the model's context its oldest turns
    are left out, and `left_out_message_ids` names them.

    Functions in `tools`, and what an answer must look like (`response_format`), are the run's own, else the thread's or
    its assistant's. The run itself may say the latter in any field that a chat has for it (`json_schema`, `grammar`,
    `regex`, `structured_outputs`, `guided_*`): then `form` shows that field.

    With `continue_last` the reply goes on where the last message ends, an assistant's: the new words become part
    of that message.

    When the model calls functions the run `requires_action`, and the stream ends: submitToolOutputs has it go on.

    What the model could not be shown (a picture, a file attached), and what cannot be had (other tools than functions),
    is refused by name, whether the run says it or the thread and its assistant hold it.
    """
    return _answer(services().runs.create(thread_id, body), is_stream=body.stream)


@blp.route("/<thread_id>/runs", methods=["GET"], parameters=[_THREAD])
@blp.doc(operationId="listRuns")
@blp.arguments(PageQuerySchema, location="query")
@blp.response(200, RunListSchema, description="A page of runs.", example=examples_runs.RUN_LIST)
@blp.refuses(400, 404, 500, 503)
def list_runs(query: dict[str, Any], thread_id: str) -> Response:
    """List runs

    Gives a page of a thread's runs, the newest first.
    """
    found = services().runs.list(thread_id, page(**query))
    return json_response(list_object([run_object(run) for run in found.items], found.has_more))


@blp.route("/<thread_id>/runs/<run_id>", methods=["GET"], parameters=[_THREAD, _RUN])
@blp.doc(operationId="getRun")
@blp.response(200, RunObjectSchema, description="The run.", example=examples_runs.RUN)
@blp.refuses(404, 500, 503)
def get_run(thread_id: str, run_id: str) -> Response:
    """Get run

    Tells how far a run is and what came of it.
    """
    return json_response(run_object(services().runs.get(thread_id, run_id)))


@blp.modifies("/<thread_id>/runs/<run_id>", parameters=[_THREAD, _RUN])
@blp.doc(operationId="modifyRun")
@blp.arguments(RunChangesSchema, required=False, example=examples_runs.RUN_CHANGES)
@blp.response(200, RunObjectSchema, description="The run.", example=examples_runs.RUN)
@blp.refuses(400, 404, 413, 415, 500, 503, 507)
def modify_run(changes: dict[str, Any], thread_id: str, run_id: str) -> Response:
    """Modify run

    Replaces a run's `metadata`; everything else about it stays as it is.
    """
    return json_response(run_object(services().runs.modify(thread_id, run_id, changes)))


@blp.route("/<thread_id>/runs/<run_id>/cancel", methods=["POST"], parameters=[_THREAD, _RUN])
@blp.doc(operationId="cancelRun")
@blp.response(200, RunObjectSchema, description="The run, which is about to end.", example=examples_runs.RUN)
@blp.refuses(400, 404, 500, 503, 507)
def cancel_run(thread_id: str, run_id: str) -> Response:
    """Cancel run

    Ends a run that is under way. What it has said so far stays in the thread, as an `incomplete` message.
    """
    return json_response(run_object(services().runs.cancel(thread_id, run_id)))


@blp.route("/<thread_id>/runs/<run_id>/events", methods=["GET"], parameters=[_THREAD, _RUN, _LAST_EVENT])
@blp.doc(operationId="watchRun")
@blp.arguments(RunEventsQuerySchema, location="query")
@blp.response(
    200,
    _EVENTS,
    content_type="text/event-stream",
    description="The run's events.",
    example=examples_runs.STREAM,
)
@blp.refuses(400, 404, 500, 503)
def watch_run(query: dict[str, Any], thread_id: str, run_id: str) -> Response:
    """Watch run

    Gives a run's events, all from the start or those behind `Last-Event-ID`, and then what comes: a client that was cut
    off goes on where it was. Runs that have ended can be watched too, until the thread has its next one. The stream
    ends where the run does, or where it `requires_action`.

    With `reasoning` what the model thinks comes as `thread.message.reasoning.delta`, whose data is
    `{"id": MESSAGE, "object": "thread.message.reasoning.delta", "delta": {"reasoning": "..."}}`.
    """
    after = last_event(request.headers.get("Last-Event-ID")) or 0
    every = query["every"]
    changes = services().runs.watch(thread_id, run_id, waiter(), services().settings.keepalive, every)
    return run_stream(changes, RunEventWriter(after, thoughts=query["reasoning"], joins=every > 0))


@blp.route("/<thread_id>/runs/<run_id>/submit_tool_outputs", methods=["POST"], parameters=[_THREAD, _RUN])
@access.needs(Scope.INFERENCE, Scope.CONVERSATIONS)
@blp.doc(operationId="submitToolOutputs")
@blp.arguments(ToolOutputsSchema, example=examples_runs.TOOL_OUTPUTS)
@blp.response(200, RunObjectSchema, description="The run, which goes on.", example=examples_runs.QUEUED_RUN)
@_streams
@blp.refuses(400, 404, 413, 415, 500, 503, 507)
def submit_tool_outputs(body: dict[str, Any], thread_id: str, run_id: str) -> Response:
    """Submit tool outputs

    Gives a run that `requires_action` what its calls gave back, and has it go on. There must be an output for each of
    the calls, and the run must not have expired. When this is answered the outputs are on disk. With `stream` the
    answer is the run's events from here on.
    """
    run = services().runs.submit(thread_id, run_id, body["tool_outputs"])
    return _answer(run, is_stream=body.get("stream", False))


@blp.route("/<thread_id>/runs/<run_id>/steps", methods=["GET"], parameters=[_THREAD, _RUN])
@blp.doc(operationId="listRunSteps")
@blp.arguments(PageQuerySchema, location="query")
@blp.response(200, StepListSchema, description="The steps.", example=examples_runs.STEP_LIST)
@blp.refuses(400, 404, 500, 503)
def list_run_steps(query: dict[str, Any], thread_id: str, run_id: str) -> Response:
    """List run steps

    Gives a page of the steps of a run, the newest first: the making of each of its messages, once that has begun, and
    its calls with what they gave back.
    """
    steps = {step["id"]: step for step in steps_of(services().runs.get(thread_id, run_id))}
    found = cut([(0, step_id) for step_id in steps], page(**query), steps.get)
    return json_response(list_object(list(found.items), found.has_more))


@blp.route("/<thread_id>/runs/<run_id>/steps/<step_id>", methods=["GET"], parameters=[_THREAD, _RUN, _STEP])
@blp.doc(operationId="getRunStep")
@blp.response(200, StepObjectSchema, description="The step.", example=examples_runs.STEP)
@blp.refuses(404, 500, 503)
def get_run_step(thread_id: str, run_id: str, step_id: str) -> Response:
    """Get run step

    Gives one step of a run: what it made, and how that ended.
    """
    for step in steps_of(services().runs.get(thread_id, run_id)):
        if step["id"] == step_id:
            return json_response(step)
    raise NotFoundError(
        f"run {run_id} has no step {step_id[:128]!r}; GET /v1/threads/{thread_id}/runs/{run_id}/steps lists them",
        param="step_id",
    )


def _answer(run: Run, *, is_stream: bool) -> Response:
    if not is_stream:
        return json_response(run_object(run))
    changes = services().runs.follow(run, waiter(), services().settings.keepalive)
    return run_stream(changes, RunEventWriter(0, len(run.rounds)))
