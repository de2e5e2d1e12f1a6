"""The server's own pages: health, the documentation's assets, and the way there."""

from __future__ import annotations

from importlib.resources import files

from flask import Blueprint as PlainBlueprint
from flask import Response, redirect, request, send_from_directory, url_for
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as BaseResponse

from janflask import __version__
from janflask.api.examples import inference as examples
from janflask.api.plumbing.blueprint import Blueprint
from janflask.api.plumbing.context import services
from janflask.api.plumbing.response import json_response
from janflask.schemas.answers import HealthSchema

DOCS_PATH = "/docs"
ASSETS_PATH = "/docs/assets/"
_ASSETS = frozenset({"swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-standalone-preset.js"})
_ASSETS_MAX_AGE = 86_400  # seconds

blp = Blueprint("Server", __name__, description="The server itself.")
pages = PlainBlueprint("pages", __name__)


@blp.route("/healthz", methods=["GET"])
@blp.doc(operationId="getHealth")
@blp.response(200, HealthSchema, description="The server works.", example=examples.HEALTH)
@blp.refuses(503)
def health() -> Response:
    """Check health

    Answers 200 when this worker and the supervisor behind it respond. It costs next to nothing and starts no model.
    """
    return json_response({"status": "ok", "version": __version__, "models_running": services().models.running()})


@pages.get("/")
def home() -> BaseResponse:
    """Leads to the documentation. Who asks for the head alone wants to know whether somebody is here."""
    if request.method == "HEAD":
        return Response()
    return redirect(url_for("api-docs.openapi_swagger_ui"))


@pages.get(f"{ASSETS_PATH}<name>")
def docs_asset(name: str) -> Response:
    """Swagger UI's files, as the ``flask-swagger-ui`` package carries them: the page needs no other host."""
    if name not in _ASSETS:
        raise NotFound
    folder = files("flask_swagger_ui").joinpath("dist")
    return send_from_directory(str(folder), name, max_age=_ASSETS_MAX_AGE)
