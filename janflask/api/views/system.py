"""The server itself: its health and its metrics."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Response

from janflask import __version__
from janflask.access.caller import STRANGER
from janflask.access.scopes import Scope
from janflask.api.answers.server_object import server_object
from janflask.api.examples import inference as examples
from janflask.api.examples import server as server_examples
from janflask.api.plumbing import access
from janflask.api.plumbing.blueprint import RETRY_AFTER_HEADER, Blueprint
from janflask.api.plumbing.context import services
from janflask.api.plumbing.errors import RETRY_AFTER
from janflask.api.plumbing.response import json_response
from janflask.schemas.answers import HealthSchema, LivenessSchema, ReadinessSchema
from janflask.schemas.server_answers import ServerSchema

blp = Blueprint("Server", __name__, description="The server itself.")


@blp.route("/healthz", methods=["GET"])
@access.is_open
@blp.doc(operationId="getHealth")
@blp.response(200, HealthSchema, description="The server works.", example=examples.HEALTH)
@blp.refuses(503)
def health() -> Response:
    """Check health

    Answers 200 when this worker and the supervisor behind it respond. It costs next to nothing and starts no model.
    Who has no key, where one is asked for, gets the `status` alone.
    """
    running = services().models.running()
    if access.caller() == STRANGER:
        return json_response({"status": "ok"})
    return json_response({"status": "ok", "version": __version__, "models_running": running})


@blp.route("/livez", methods=["GET"])
@access.is_open
@blp.doc(operationId="getLiveness")
@blp.response(200, LivenessSchema, description="This worker answers.", example=examples.LIVE)
@blp.refuses()
def live() -> Response:
    """Check that a worker answers

    It asks nobody else: a server that is starting, or waits for a model, is alive.
    """
    return json_response({"status": "ok"})


@blp.route("/readyz", methods=["GET"])
@access.is_open
@blp.doc(operationId="getReadiness")
@blp.response(200, ReadinessSchema, description="Requests can be sent here.", example=examples.READY)
@blp.alt_response(
    503,
    schema=ReadinessSchema,
    description="Not now; `missing` says why.",
    example=examples.NOT_READY,
    headers=RETRY_AFTER_HEADER,
)
@blp.refuses()
def ready() -> Response:
    """Check readiness

    503 while the server is draining after SIGTERM, when supervisor or runner do not answer, and until the models run
    that are configured to: those of `JANFLASK_READY_MODELS`, and with `JANFLASK_RESTORE_MODELS` those that ran before.
    Who has no key, where one is asked for, is not told what is missing.
    """
    found = services().health.readiness()
    status = "ready" if found.is_ready else "not_ready"
    body: dict[str, Any] = {"status": status, "draining": found.draining}
    if access.caller() != STRANGER:
        body["missing"] = [asdict(each) for each in found.missing]
    response = json_response(body, 200 if found.is_ready else 503)
    if not found.is_ready:
        response.headers["Retry-After"] = str(RETRY_AFTER)
    return response


@blp.route("/v1/server", methods=["GET"])
@access.needs(Scope.ADMIN)
@blp.doc(operationId="getServer")
@blp.response(200, ServerSchema, description="The server now.", example=server_examples.SERVER)
@blp.refuses()
def server() -> Response:
    """Tell what is going on

    For whoever looks at the server, as its page does once a second: models, the answers that their engines owe, memory,
    processes. Ids and numbers only: of what is asked and answered it tells nothing. What does not answer within half a
    second is left out, and named in `missing`. Requests that an upstream answers are not among `requests`.
    """
    return json_response(server_object(services().observer.look(), __version__))


@blp.route("/metrics", methods=["GET"])
@access.needs(Scope.ADMIN)
@blp.doc(
    operationId="getMetrics",
    responses={
        200: {
            "description": "Prometheus' text format.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": examples.METRICS}},
        }
    },
)
@blp.refuses()
def metrics() -> Response:
    """Tell metrics

    For Prometheus: requests, tokens, latencies, KV cache, memory and states, by model, gathered from all processes of
    the server. What does not answer within a second is left out and counted in `janflask:scrape_failures_total`.
    """
    text, content_type = services().metrics.render(__version__)
    return Response(text, content_type=content_type)
