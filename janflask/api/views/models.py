"""Models: listed, fetched, described, changed, started, stopped, watched and deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Response, request

from janflask.access.scopes import Scope
from janflask.api.answers.anthropic_models import model_info, model_page
from janflask.api.answers.model_events import model_events
from janflask.api.answers.model_objects import listed_model, single_model
from janflask.api.examples import inference as examples
from janflask.api.examples import models as examples_models
from janflask.api.plumbing import access
from janflask.api.plumbing.blueprint import Blueprint
from janflask.api.plumbing.context import services, waiter
from janflask.api.plumbing.converters import URL
from janflask.api.plumbing.dialects import is_anthropic
from janflask.api.plumbing.response import json_response
from janflask.models.state import DownloadRequest
from janflask.schemas.model_answers import (
    ModelDeletedSchema,
    ModelDownloadingSchema,
    ModelListSchema,
    ModelObjectSchema,
    ModelStateSchema,
)
from janflask.schemas.models import ModelChangesSchema, ModelSettingsSchema, NewModelSchema
from janflask.services.model_changes import ModelChanges

blp = Blueprint(
    "Models",
    __name__,
    url_prefix="/v1/models",
    needs=Scope.ADMIN,
    description="List and describe the various models available in the API.",
)
_MODEL_ID = [
    {
        "in": "path",
        "name": "model_id",
        "description": "The model's id, the name of its folder, or where it came from (`source_url`, or a `url` of its "
        "`sources`), percent-encoded: `https%3A%2F%2Fhuggingface.co%2F...`.",
        "example": examples.MODEL_ID,
    }
]
_RULES = (f"/<{URL}:model_id>", "/<model_id>")  # a model by where it came from, and by its id
_EVENTS = {"type": "string", "description": "Server-sent events, each a JSON object."}
_OF_MODEL = {"model_id": "$response.body#/id"}
_LINKS = {name: {"operationId": name, "parameters": _OF_MODEL} for name in ("getModel", "watchModel", "deleteModel")}
_View = Callable[..., Response]


def _one_model(action: str, method: str) -> Callable[[_View], _View]:
    """The routes of one model."""

    def register(view: _View) -> _View:
        for rule in _RULES:
            blp.add_url_rule(f"{rule}{action}", view_func=view, methods=[method], parameters=_MODEL_ID)
        return view

    return register


@blp.route("", methods=["GET"])
@access.needs(Scope.INFERENCE)
@blp.doc(operationId="listModels")
@blp.response(200, ModelListSchema, description="All models.", example=examples_models.MODEL_LIST)
@blp.refuses(500, 503)
def list_models() -> Response:
    """List models

    Lists the models on this server, and provides basic information about each one. Those that are being fetched, or
    could not be, are among them. Who sends `anthropic-version` gets Anthropic's form of the list.
    """
    if is_anthropic():
        return json_response(model_page(services().models.list(), request.args))
    return json_response({"object": "list", "data": [listed_model(model) for model in services().models.list()]})


@blp.route("", methods=["POST"])
@blp.doc(operationId="createModel", responses={200: {"links": _LINKS}})
@blp.arguments(NewModelSchema, example=examples_models.NEW_MODEL)
@blp.response(200, ModelDownloadingSchema, description="It is coming.", example=examples_models.MODEL_DOWNLOADING)
@blp.refuses(400, 409, 413, 415, 500, 503, 507)
def create_model(body: DownloadRequest) -> Response:
    """Download model

    Begins to fetch a model and answers at once; the same source again, while it is being fetched, is the same download.
    `download` of the model, and its events, tell how far it is. One that fails says why in `error`; ask again, and it
    goes on where it stopped. Nobody sees a file that is not whole and checked.
    """
    state = services().downloads.start(body)
    return json_response({"id": state.model_id, "object": "model", "state": "downloading"})


@_one_model("", "GET")
@access.needs(Scope.INFERENCE)
@blp.doc(operationId="getModel")
@blp.response(200, ModelObjectSchema, description="The model.", example=examples_models.MODEL)
@blp.refuses(404, 500, 503)
def get_model(model_id: str) -> Response:
    """Get model

    Describes one model. While it runs, `runtime` tells how: the context's length, how many sequences at once, the
    settings that decide speed and how they were found. While it is being fetched, `download` tells how far that is. Of
    one that another server runs, `upstream` tells where, and whether that can be reached. Who sends `anthropic-version`
    gets Anthropic's form of a model.
    """
    model = services().models.get(model_id)
    return json_response(model_info(model) if is_anthropic() else single_model(model))


@blp.modifies(*_RULES, parameters=_MODEL_ID)
@blp.doc(operationId="modifyModel")
@blp.arguments(ModelChangesSchema, example=examples_models.MODEL_CHANGES)
@blp.response(200, ModelObjectSchema, description="The changed model.", example=examples_models.MODEL)
@blp.refuses(400, 404, 409, 413, 415, 500, 503, 507)
def modify_model(body: dict[str, Any], model_id: str) -> Response:
    """Modify model

    Changes the model's `model.json`. What is not named stays; null takes a name out of `settings`, `parameters` or
    `metadata`. A model that runs goes on with the settings it was started with, and `notes` says so: the changed ones
    hold from its next start. A model of an upstream has no settings to change, and where it runs is changed only in the
    file itself.
    """
    return json_response(single_model(services().models.modify(model_id, ModelChanges(**body))))


@_one_model("", "DELETE")
@blp.doc(operationId="deleteModel")
@blp.response(200, ModelDeletedSchema, description="The model is gone.", example=examples_models.MODEL_DELETED)
@blp.refuses(404, 409, 500, 503, 507)
def delete_model(model_id: str) -> Response:
    """Delete model

    Removes the model's folder, ends its download if there is one, and forgets what was measured of it. Files that its
    `model.json` names elsewhere stay. A model that runs here is refused: stop it first. Of a model of an upstream the
    entry is gone; nothing changes there.
    """
    deleted = services().models.delete(model_id)
    return json_response({"id": deleted, "object": "model", "deleted": True})


@_one_model("/events", "GET")
@access.needs(Scope.INFERENCE)
@blp.doc(operationId="watchModel")
@blp.response(
    200,
    _EVENTS,
    content_type="text/event-stream",
    example=examples_models.MODEL_EVENTS,
    description="`id`, `state`, `status`, `error` and `download` of the model.",
)
@blp.refuses(404, 500, 503)
def watch_model(model_id: str) -> Response:
    """Watch model

    Tells as server-sent events how the model is: once at the beginning, then at each change of its state or its
    download, at most every 250 ms. The stream ends when nothing is under way with it any more. Comment lines keep the
    connection alive; a failure is an event with `error` alone.
    """
    keepalive = services().settings.keepalive
    return model_events(services().models.watching(model_id, waiter(), keepalive))


@_one_model("/start", "PUT")
@blp.doc(operationId="startModel")
@blp.arguments(ModelSettingsSchema, required=False, example=examples_models.START_SETTINGS)
@blp.response(200, ModelStateSchema, description="The model runs.", example=examples_models.MODEL_RUNNING)
@blp.refuses(400, 404, 409, 413, 415, 500, 503)
def start_model(overrides: dict[str, Any], model_id: str) -> Response:
    """Start model

    Loads the model and answers once it runs; a running one is left as it is. The body is optional: settings that hold
    until the model stops, over those in its model.json. A model of an upstream runs if that can be reached.
    """
    state = services().models.start(model_id, overrides, waiter())
    return json_response({"id": state.model_id, "object": "model", "state": str(state.status)})


@_one_model("/stop", "PUT")
@blp.doc(operationId="stopModel")
@blp.response(200, ModelStateSchema, description="The model is stopped.", example=examples_models.MODEL_STOPPED)
@blp.refuses(404, 409, 500, 503)
def stop_model(model_id: str) -> Response:
    """Stop model

    Gives the model's memory back. Requests under way end with an error. Stopping a stopped model is no error; the next
    request for it starts it again. A model of an upstream is not stopped from here.
    """
    state = services().models.stop(model_id)
    return json_response({"id": state.model_id, "object": "model", "state": "stopped"})
