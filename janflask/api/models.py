"""GET /models and what can be done with one of them."""

from __future__ import annotations

from typing import Any

from flask import Response

from janflask.api import examples
from janflask.api.blueprint import Blueprint
from janflask.api.context import services, waiter
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
_MODEL_ID = [{"in": "path", "name": "model_id", "description": "The model's id.", "example": examples.MODEL_ID}]


@blp.route("", methods=["GET"])
@blp.doc(operationId="listModels")
@blp.response(200, ModelListSchema, description="All models.", example=examples.MODEL_LIST)
@blp.refuses(500, 503)
def list_models() -> Response:
    """List models

    Lists the models on this server, and provides basic information about each one.
    """
    return json_response({"object": "list", "data": [listed_model(model) for model in services().models.list()]})


@blp.route("/<model_id>", methods=["GET"], parameters=_MODEL_ID)
@blp.doc(operationId="getModel")
@blp.response(200, ModelObjectSchema, description="The model.", example=examples.MODEL)
@blp.refuses(404, 500, 503)
def get_model(model_id: str) -> Response:
    """Get model

    Describes one model. While it runs, `runtime` tells how: the context's length, how many sequences at once, the
    settings that decide speed and how they were found.
    """
    return json_response(single_model(services().models.get(model_id)))


@blp.route("/<model_id>/start", methods=["PUT"], parameters=_MODEL_ID)
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
    return json_response({"id": model_id, "object": "model", "state": str(state.status)})


@blp.route("/<model_id>/stop", methods=["PUT"], parameters=_MODEL_ID)
@blp.doc(operationId="stopModel")
@blp.response(200, ModelStateSchema, description="The model is stopped.", example=examples.MODEL_STOPPED)
@blp.refuses(404, 500, 503)
def stop_model(model_id: str) -> Response:
    """Stop model

    Gives the model's memory back. Requests under way end with an error. Stopping a stopped model is no error; the next
    request for it starts it again.
    """
    services().models.stop(model_id)
    return json_response({"id": model_id, "object": "model", "state": "stopped"})
