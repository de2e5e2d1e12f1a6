"""The OpenAPI document around the operations: what this is, and the objects that appear in no operation yet."""

from __future__ import annotations

from typing import Any

import apispec
import marshmallow as ma

from janflask import __version__
from janflask.api.examples import inference as examples
from janflask.api.examples import models as examples_models
from janflask.api.plumbing.blueprint import SECURITY_SCHEMES
from janflask.api.views.page import ASSETS_PATH, DOCS_PATH
from janflask.schemas import models, threads
from janflask.schemas.model_answers import ModelObjectSchema
from janflask.schemas.thread_answers import MessageObjectSchema, ThreadObjectSchema

DESCRIPTION = """\
Language models on your own machine, behind the API that [Jan](https://jan.ai) and OpenAI's clients speak.

* Errors are OpenAI's error object with a true HTTP status; `param` names the field.
* Every answer carries `X-Request-Id`; send one to choose it.
* Times are seconds since the epoch.
* A server that has keys asks for one, `Authorization: Bearer KEY` or `x-api-key`; what it must be good for is each
  operation's `x-janflask-scope`. A server without keys asks for nothing.
* A POST that stores something may be sent again safely with an `Idempotency-Key`: for a day the key gives the same
  answer (`Idempotent-Replayed: true`), 409 while the first is under way, and 422 with another request.
* What a key stores is its own: another finds a 404 there, and does not see it in lists. A key with `admin` sees all.
* A request for a model that is on disk and not running starts it.
"""

CONFIG: dict[str, Any] = {
    "API_TITLE": "janflask",
    "API_VERSION": __version__,
    "OPENAPI_VERSION": "3.0.3",
    "OPENAPI_URL_PREFIX": "/",
    "OPENAPI_JSON_PATH": "openapi.json",
    "OPENAPI_SWAGGER_UI_PATH": DOCS_PATH,
    "OPENAPI_SWAGGER_UI_URL": ASSETS_PATH,
    "API_SPEC_OPTIONS": {
        "info": {
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "servers": [{"url": "/", "description": "This server"}],
    },
}

_WEBHOOKS: dict[str, tuple[type[ma.Schema], str, str, str, Any]] = {
    "ModelObject": (ModelObjectSchema, "Models", "The model object", "A model on this server.", examples_models.MODEL),
    "MessageObject": (
        MessageObjectSchema,
        "Messages",
        "The message object",
        "A message of a thread; a line of its messages.jsonl.",
        examples.MESSAGE,
    ),
    "ThreadObject": (
        ThreadObjectSchema,
        "Threads",
        "The thread object",
        "A thread's folder holds thread.json, with metadata and model parameter overrides. No field is required.",
        examples.THREAD,
    ),
}


def add_components(spec: apispec.APISpec) -> None:
    """Names the schemas that fields refer to by name, and the ways to send a key; before the operations."""
    for name, scheme in SECURITY_SCHEMES.items():
        spec.components.security_scheme(name, scheme)
    for schema in (*models.COMPONENTS, *threads.COMPONENTS):
        spec.components.schema(schema.__name__.removesuffix("Schema"), schema=schema)


def add_webhooks(spec: apispec.APISpec) -> None:
    """Describes the objects of the reference's ``x-webhooks``."""
    webhooks = {}
    for name, (schema, tag, summary, description, example) in _WEBHOOKS.items():
        if name not in spec.components.schemas:
            spec.components.schema(name, schema=schema)
        content = {"schema": {"$ref": f"#/components/schemas/{name}"}, "example": example}
        operation = {
            "operationId": name,
            "tags": [tag],
            "summary": summary,
            "description": description,
            "requestBody": {"content": {"application/json": content}},
            "responses": {"200": {"description": "Nothing is sent; this describes the object."}},
        }
        webhooks[name] = {"post": operation}
    spec.options["x-webhooks"] = webhooks
