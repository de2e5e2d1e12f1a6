"""GET /models and what can be done with one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Response

from janflask.api import examples
from janflask.api.blueprint import Blueprint
from janflask.api.context import services, waiter
from janflask.api.converters import URL
from janflask.api.model_objects import listed_model, single_model
from janflask.api.reply import json_response
from janflask.schemas.answers import ModelListSchema, ModelObjectSchema, ModelStateSchema
from janflask.schemas.models import StartSettingsSchema

blp = Blueprint(
    "Models",
    __name__,
    url_prefix="/v1/models",
    description="List and describe the various models available in the API.",
)
_MODEL_ID = [
    {
        "in": "path",
        "name": "model_id",
        "description": "The model's id, or the URL it came from (`source_url`, or a `url` of its `sources`), "
        "percent-encoded: `https%3A%2F%2Fhuggingface.co%2F...`.",
        "example": examples.MODEL_ID,
    }
]
_View = Callable[..., Response]


def _one_model(action: str, method: str) -> Callable[[_View], _View]:
    """The routes of one model: by its id, and by the URL it came from."""

    def register(view: _View) -> _View:
        for place in (f"<{URL}:model_id>", "<model_id>"):
            blp.add_url_rule(f"/{place}{action}", view_func=view, methods=[method], parameters=_MODEL_ID)
        return view

    return register


@blp.route("", methods=["GET"])
@blp.doc(operationId="listModels")
@blp.response(200, ModelListSchema, description="All models.", example=examples.MODEL_LIST)
@blp.refuses(500, 503)
def list_models() -> Response:
    """List models

    Lists the models on this server, and provides basic information about each one.
    """
    return json_response({"object": "list", "data": [listed_model(model) for model in services().models.list()]})


@_one_model("", "GET")
@blp.doc(operationId="getModel")
@blp.response(200, ModelObjectSchema, description="The model.", example=examples.MODEL)
@blp.refuses(404, 500, 503)
def get_model(model_id: str) -> Response:
    """Get model

    Describes one model. While it runs, `runtime` tells how: the context's length, how many sequences at once, the
    settings that decide speed and how they were found.
    """
    return json_response(single_model(services().models.get(model_id)))


@_one_model("/start", "PUT")
@blp.doc(operationId="startModel")
@blp.arguments(StartSettingsSchema, required=False, example=examples.START_SETTINGS)
@blp.response(200, ModelStateSchema, description="The model runs.", example=examples.MODEL_RUNNING)
@blp.refuses(400, 404, 409, 413, 415, 500, 503)
def start_model(overrides: dict[str, Any], model_id: str) -> Response:
    """Start model

    Loads the model and answers once it runs; a running one is left as it is. The body is optional: settings that hold
    until the model stops, over those in its model.json.
    """
    state = services().models.start(model_id, overrides, waiter())
    return json_response({"id": state.model_id, "object": "model", "state": str(state.status)})


@_one_model("/stop", "PUT")
@blp.doc(operationId="stopModel")
@blp.response(200, ModelStateSchema, description="The model is stopped.", example=examples.MODEL_STOPPED)
@blp.refuses(404, 500, 503)
def stop_model(model_id: str) -> Response:
    """Stop model

    Gives the model's memory back. Requests under way end with an error. Stopping a stopped model is no error; the next
    request for it starts it again.
    """
    state = services().models.stop(model_id)
    return json_response({"id": state.model_id, "object": "model", "state": "stopped"})
