"""flask-smorest's Blueprint and Api, with this API's own rules for bodies and errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any, NoReturn

import apispec
import flask_smorest
import marshmallow as ma
from flask import Flask, Request, Response, render_template, request, url_for
from webargs import core
from webargs.flaskparser import FlaskParser, is_json_request
from werkzeug.exceptions import RequestEntityTooLarge

from janflask.access.scopes import Scope, Scopes
from janflask.api.answers.anthropic_errors import in_anthropics_form
from janflask.api.examples import inference as examples
from janflask.api.plumbing import access, guards
from janflask.api.plumbing.context import services
from janflask.api.plumbing.response import json_response
from janflask.errors import InvalidRequestError, UnsupportedMediaTypeError
from janflask.models.json_bodies import decoded
from janflask.schemas.answers import ErrorSchema
from janflask.schemas.anthropic_answers import AnthropicErrorSchema

_FOR_KEYS = (401, 429)  # what an open operation answers nobody with
MAX_REASONS = 5  # of a body with several mistakes
RETRY_AFTER_HEADER = {
    "Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer"}}
}

SECURITY_SCHEMES: dict[str, dict[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key of this server, as OpenAI's clients send it."},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same, as Anthropic's do."},
}
_SCHEMES = [{name: list[str]()} for name in SECURITY_SCHEMES]  # one of them is enough

_View = Callable[..., Any]
_Note = Callable[[], Callable[[_View], Any]]  # gives a decorator of flask-smorest's that documents a view


class BodyParser(FlaskParser):
    """JSON bodies: 415 for another content type, 400 for anything that is not what the schema says."""

    DEFAULT_VALIDATION_STATUS = 400

    def use_args(self, argmap: Any, *args: Any, **kwargs: Any) -> Callable[[_View], _View]:
        """See webargs. One schema serves all requests, made when the first one comes: no start waits for them all."""
        made = cache(argmap) if isinstance(argmap, type) else None
        decorate: Callable[[_View], _View] = super().use_args(
            argmap if made is None else lambda request: made(), *args, **kwargs
        )
        return decorate

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
        return decoded(body, services().settings.max_json_items)

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


def path_id(kind: str, example: str) -> dict[str, Any]:
    """The id of a ``kind`` of object in a path, for the document."""
    return {"in": "path", "name": f"{kind}_id", "description": f"The {kind}'s id.", "example": example}


def links(*operations: str, **fields: str) -> dict[str, Any]:
    """What an answer leads to, for the document: operations, and which of its fields gives each of their parameters."""
    parameters = {name: f"$response.body#/{field}" for name, field in fields.items()}
    return {operation: {"operationId": operation, "parameters": parameters} for operation in operations}


def _tell_rule(rule: Scopes | None, operation: Any) -> None:
    """Notes the rule of an operation for the document."""
    notes = operation._apidoc
    told = {"security": [] if rule is None else _SCHEMES, "x-janflask-scope": sorted(rule or ())}
    notes["manual_doc"] = {**notes.get("manual_doc", {}), **told}
    if rule is None and "response" in notes:
        answers = notes["response"]["responses"]
        kept = {status: answer for status, answer in answers.items() if int(status) not in _FOR_KEYS}
        notes["response"] = {**notes["response"], "responses": kept}


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


def _noted(document: _Note) -> Callable[[_View], _View]:
    """A decorator that only documents, without the layer that flask-smorest puts around the view for it.

    A view has half a dozen of them; all that they do in a request is to pass it on, which costs as much as the view.
    Nor is anything made for the document before it is asked for: ``document`` gives flask-smorest's decorator then.
    """

    def decorate(view: _View) -> _View:
        view._notes = (*_notes(view), document)  # type: ignore[attr-defined]
        return view

    return decorate


def _notes(view: _View) -> tuple[_Note, ...]:
    """What was noted of it, the first first."""
    notes: tuple[_Note, ...] = getattr(view, "_notes", ())
    return notes


def _described(view: _View, notes: Sequence[_Note]) -> dict[Any, Any]:
    """What flask-smorest itself knows of a view, its arguments, and what ``notes`` say."""
    described = dict(getattr(view, "_apidoc", {}))
    for document in notes:
        described = _added(described, document()(_nothing)._apidoc)
    return described


def _id_by_patch(view: _View, notes: Sequence[_Note]) -> str:
    """The name of the same operation as PATCH."""
    operation_id = _described(view, notes).get("manual_doc", {}).get("operationId", view.__name__)
    return f"{operation_id}ByPatch"


def _nothing() -> None:
    """A view that nothing is noted of."""


def _added(notes: dict[Any, Any], more: dict[Any, Any]) -> dict[Any, Any]:
    """Both, lists one behind the other."""
    both = dict(notes)
    for key, value in more.items():
        known = both.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            both[key] = _added(known, value)
        else:
            both[key] = [*known, *value] if isinstance(known, list) else value
    return both


class Blueprint(flask_smorest.Blueprint):  # type: ignore[misc]
    """A resource. ``needs`` are the scopes that a caller of its routes needs, unless a route has a rule of its own."""

    ARGUMENTS_PARSER = BodyParser()

    def __init__(self, *args: Any, needs: Scope | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._needs = needs
        self._unstored: list[Callable[[], None]] = []  # of the operations' descriptions

    def add_url_rule(self, rule: str, endpoint: str | None = None, view_func: Any = None, **options: Any) -> None:
        """Registers a view, with this blueprint's rule unless it has one of its own."""
        if self._needs is not None and not access.has_rule(view_func):
            view_func = access.needs(self._needs)(view_func)
        super().add_url_rule(rule, endpoint, view_func, **options)

    def response(self, *args: Any, **kwargs: Any) -> Callable[[_View], _View]:
        """Documents the answer. The view makes it itself."""
        return _noted(lambda: flask_smorest.Blueprint.response(self, *args, **kwargs))

    def alt_response(self, *args: Any, **kwargs: Any) -> Callable[[_View], _View]:
        """Documents another answer."""
        return _noted(lambda: flask_smorest.Blueprint.alt_response(self, *args, **kwargs))

    @staticmethod
    def doc(**kwargs: Any) -> Callable[[_View], _View]:
        """Documents something else of the operation."""
        return _noted(lambda: flask_smorest.Blueprint.doc(**kwargs))

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
            # Every request may be without a key or for another host, and where a body may be too large, it may also
            # stay away.
            for status in dict.fromkeys((*_FOR_KEYS, 403, *statuses, *([408] if 413 in statuses else []))):
                description, example = examples.ERRORS[status]
                headers = RETRY_AFTER_HEADER if status in (429, 503) else None
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
            notes = _notes(view)
            patch = _noted(lambda: flask_smorest.Blueprint.doc(operationId=_id_by_patch(view, notes)))(view)
            for rule in rules:
                self.add_url_rule(rule, view_func=patch, methods=["PATCH"], **options)
            return view

        return register

    def _store_endpoint_docs(self, endpoint: str, obj: _View, parameters: Any, tags: Any, **options: Any) -> None:
        """Keeps what is known of a view now, which may become another operation, too, until the document is written."""
        notes, store = _notes(obj), super()._store_endpoint_docs

        def write() -> None:
            operation = SimpleNamespace(_apidoc=_described(obj, notes), __doc__=obj.__doc__)
            if access.has_rule(obj):
                _tell_rule(access.rule_of(obj), operation)
            store(endpoint, operation, parameters, tags, **options)

        self._unstored.append(write)

    def register_views_in_doc(self, *args: Any, **kwargs: Any) -> None:
        """See flask-smorest."""
        while self._unstored:
            self._unstored[0]()
            del self._unstored[0]  # not before: see ``Api.spec``
        super().register_views_in_doc(*args, **kwargs)


class Api(flask_smorest.Api):  # type: ignore[misc]
    """The OpenAPI document's maker. It is written when it is first asked for: no answer has to wait for it."""

    ERROR_SCHEMA = ErrorSchema

    def __init__(self, app: Flask) -> None:
        self._writing = threading.RLock()
        self._unwritten: list[Callable[[apispec.APISpec], None]] = []
        super().__init__(app)

    @property
    def spec(self) -> apispec.APISpec:
        """The whole document."""
        with self._writing:
            while self._unwritten:
                self._unwritten[0](self._spec)
                del self._unwritten[0]  # not before: what cannot be written fails each time, it is not left out
            return self._spec

    @spec.setter
    def spec(self, spec: apispec.APISpec) -> None:
        self._spec = spec

    def describe(self, write: Callable[[apispec.APISpec], None]) -> None:
        """``write`` adds to the document, in its turn."""
        self._unwritten.append(write)

    def register_blueprint(self, blp: Blueprint, **options: Any) -> None:
        """Registers a blueprint's routes in the application."""
        app: Flask = self._app
        app.register_blueprint(blp, **options)

        def write(spec: apispec.APISpec) -> None:
            blp.register_views_in_doc(self, app, spec, name=blp.name, parameters=None)
            spec.tag({"name": blp.name, "description": blp.description})

        self.describe(write)

    def _register_error_handlers(self) -> None:
        """The application has them already, since what comes before the routes can fail, too."""

    # Both below a path prefix (SCRIPT_NAME), which may be another one for each request.

    def _openapi_json(self) -> Response:
        document = self.spec.to_dict()
        document["servers"] = [{**server, "url": request.script_root or "/"} for server in document["servers"]]
        return json_response(document)

    def _openapi_swagger_ui(self) -> Response:
        page = render_template(
            "docs.html",
            title=self.spec.title,
            document_url=url_for("api-docs.openapi_json"),
            assets_url=f"{request.script_root}{self._swagger_ui_url}",
        )
        return Response(page, headers={guards.POLICY: guards.DOCUMENTATION})
