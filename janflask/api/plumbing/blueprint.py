"""flask-smorest's Blueprint and Api, with this API's own rules for bodies and errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import flask_smorest
import marshmallow as ma
import msgspec
from flask import Request, Response, render_template, request, url_for
from webargs import core
from webargs.flaskparser import FlaskParser, is_json_request
from werkzeug.exceptions import RequestEntityTooLarge

from janflask.api.answers.anthropic_errors import in_anthropics_form
from janflask.api.examples import inference as examples
from janflask.api.plumbing.response import json_response
from janflask.errors import InvalidRequestError, UnsupportedMediaTypeError, why_not_json
from janflask.schemas.answers import ErrorSchema
from janflask.schemas.anthropic_answers import AnthropicErrorSchema

MAX_REASONS = 5  # of a body with several mistakes
_RETRY_AFTER = {"Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer"}}}

_View = Callable[..., Any]


class BodyParser(FlaskParser):
    """JSON bodies: 415 for another content type, 400 for anything that is not what the schema says."""

    DEFAULT_VALIDATION_STATUS = 400

    def load_json(self, req: Request, schema: ma.Schema) -> Any:
        """The decoded body. An empty one is right only for a schema without required fields."""
        body = whole_body(req)
        if not body:
            if any(item.required for item in schema.fields.values()):
                raise InvalidRequestError("the request has no body: send a JSON object", code="invalid_json")
            return core.missing
        if not is_json_request(req):
            raise UnsupportedMediaTypeError(
                f"the body's content type is {req.mimetype or 'missing'}: send JSON with Content-Type: application/json"
            )
        return decoded_json(body)

    def handle_error(
        self, error: ma.ValidationError, req: Request, schema: ma.Schema, *, error_status_code: Any, error_headers: Any
    ) -> NoReturn:
        """Raises InvalidRequestError; ``param`` is the first wrong field's path."""
        messages = error.messages[next(iter(error.messages))] if isinstance(error.messages, dict) else error.messages
        reasons = list(_flat(messages, ""))
        param = reasons[0][0] or None
        shown = [f"{path} {message}" if path else f"the body {message}" for path, message in reasons[:MAX_REASONS]]
        more = f" (and {len(reasons) - MAX_REASONS} more)" if len(reasons) > MAX_REASONS else ""
        raise InvalidRequestError("; ".join(shown) + more, param=param, code="invalid_value")


def whole_body(req: Request) -> bytes:
    """The body. Raises RequestEntityTooLarge.

    Werkzeug itself gives, of a body that doesn't tell its length, as much as is allowed and drops the rest.
    """
    body = req.get_data(cache=True)
    if req.content_length is None and req.max_content_length is not None and len(body) >= req.max_content_length:
        raise RequestEntityTooLarge
    return body


def decoded_json(body: bytes) -> Any:
    """What a body says. Raises InvalidRequestError for one that is not JSON."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(
            f"the body is not valid JSON: {why_not_json(body, error)}", code="invalid_json"
        ) from None


def path_id(kind: str, example: str) -> dict[str, Any]:
    """The id of a ``kind`` of object in a path, for the document."""
    return {"in": "path", "name": f"{kind}_id", "description": f"The {kind}'s id.", "example": example}


def links(*operations: str, **fields: str) -> dict[str, Any]:
    """What an answer leads to, for the document: operations, and which of its fields gives each of their parameters."""
    parameters = {name: f"$response.body#/{field}" for name, field in fields.items()}
    return {operation: {"operationId": operation, "parameters": parameters} for operation in operations}


def _flat(messages: Any, path: str) -> list[tuple[str, str]]:
    """(path, message) of every leaf in marshmallow's nested messages: ``messages.0.content``."""
    if isinstance(messages, dict):
        return [
            leaf
            for key, inner in messages.items()
            for leaf in _flat(inner, path if key == "_schema" else f"{path}.{key}" if path else str(key))
        ]
    if isinstance(messages, list):
        return [leaf for inner in messages for leaf in _flat(inner, path)]
    return [(path, str(messages))]


def _noted(decorator: Callable[[_View], Any]) -> Callable[[_View], _View]:
    """A decorator that only documents, without the layer that flask-smorest puts around the view for it.

    A view has half a dozen of them; all that they do in a request is to pass it on, which costs as much as the view.
    """

    def decorate(view: _View) -> _View:
        view._apidoc = decorator(view)._apidoc  # type: ignore[attr-defined]
        return view

    return decorate


class Blueprint(flask_smorest.Blueprint):  # type: ignore[misc]
    """A resource."""

    ARGUMENTS_PARSER = BodyParser()

    def arguments(self, schema: Any, **kwargs: Any) -> Any:
        """What a request brings. One schema serves all requests: making one costs more than using it."""
        return super().arguments(schema() if isinstance(schema, type) else schema, **kwargs)

    def response(self, *args: Any, **kwargs: Any) -> Callable[[_View], _View]:
        """Documents the answer. The view makes it itself."""
        return _noted(super().response(*args, **kwargs))

    def alt_response(self, *args: Any, **kwargs: Any) -> Callable[[_View], _View]:
        """Documents another answer."""
        return _noted(super().alt_response(*args, **kwargs))

    @staticmethod
    def doc(**kwargs: Any) -> Callable[[_View], _View]:
        """Documents something else of the operation."""
        return _noted(flask_smorest.Blueprint.doc(**kwargs))

    def refuses(self, *statuses: int) -> Callable[[_View], _View]:
        """Documents the errors that an operation can answer with, each with an example."""
        return self._errors(ErrorSchema, statuses, lambda _, example: example)

    def refuses_as_anthropic(self, *statuses: int) -> Callable[[_View], _View]:
        """The same, in Anthropic's shape."""
        return self._errors(AnthropicErrorSchema, statuses, in_anthropics_form)

    def _errors(
        self, schema: type[ma.Schema], statuses: Sequence[int], shape: Callable[[int, dict[str, Any]], dict[str, Any]]
    ) -> Callable[[_View], _View]:
        def decorate(view: _View) -> _View:
            # Every request may be for another host, and where a body may be too large, it may also stay away.
            for status in (403, *statuses, *([408] if 413 in statuses else [])):
                description, example = examples.ERRORS[status]
                headers = _RETRY_AFTER if status in (429, 503) else None
                document = self.alt_response(
                    status, schema=schema, description=description, example=shape(status, example), headers=headers
                )
                view = document(view)
            return view

        return decorate

    def modifies(self, *rules: str, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Registers a view as POST, OpenAI's way to modify an object, and as PATCH, Jan's later one.

        Several rules are several ways to write the same operation.
        """

        def register(view: Callable[..., Any]) -> Callable[..., Any]:
            for rule in rules:
                self.add_url_rule(rule, view_func=view, methods=["POST"], **options)
            operation_id = getattr(view, "_apidoc", {}).get("manual_doc", {}).get("operationId", view.__name__)
            patch = self.doc(operationId=f"{operation_id}ByPatch")(view)
            for rule in rules:
                self.add_url_rule(rule, view_func=patch, methods=["PATCH"], **options)
            return view

        return register


class Api(flask_smorest.Api):  # type: ignore[misc]
    """The OpenAPI document's maker."""

    ERROR_SCHEMA = ErrorSchema

    def _register_error_handlers(self) -> None:
        """The application has them already, since what comes before the routes can fail, too."""

    # Both below a path prefix (SCRIPT_NAME), which may be another one for each request.

    def _openapi_json(self) -> Response:
        document = self.spec.to_dict()
        document["servers"] = [{**server, "url": request.script_root or "/"} for server in document["servers"]]
        return json_response(document)

    def _openapi_swagger_ui(self) -> str:
        page: str = render_template(
            "swagger_ui.html",
            title=self.spec.title,
            spec_url=url_for("api-docs.openapi_json"),
            swagger_ui_url=f"{request.script_root}{self._swagger_ui_url}",
            swagger_ui_config=self.config["OPENAPI_SWAGGER_UI_CONFIG"],
        )
        return page
