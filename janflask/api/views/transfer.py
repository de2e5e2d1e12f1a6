"""Threads out of this server and into it: one as a JSON document, all as an archive."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Request, Response, request

from janflask.access.scopes import Scope
from janflask.api.answers.thread_objects import single_thread
from janflask.api.examples import inference as examples
from janflask.api.plumbing.blueprint import Blueprint, path_id
from janflask.api.plumbing.context import services
from janflask.api.plumbing.response import json_response
from janflask.errors import UnsupportedMediaTypeError
from janflask.schemas.thread_answers import ImportReportSchema, ThreadObjectSchema
from janflask.services.spool import spooled

ZIP = "application/zip"
_ZIPS = (ZIP, "application/x-zip-compressed")

blp = Blueprint(
    "Import and export",
    __name__,
    url_prefix="/v1/threads",
    needs=Scope.CONVERSATIONS,
    description="Threads with their messages and files, to be kept elsewhere or moved.",
)
_THREAD = path_id("thread", examples.THREAD_ID)
_BINARY = {"type": "string", "format": "binary"}
_DOCUMENT = {"type": "object", "description": "A portable document: the thread, its messages and files."}
_IMPORT_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": _DOCUMENT, "example": examples.THREAD_DOCUMENT},
        ZIP: {"schema": _BINARY, "example": examples.ARCHIVE},
    },
}


@blp.route("/export", methods=["GET"])
@blp.doc(operationId="exportThreads")
@blp.response(200, _BINARY, content_type=ZIP, description="The archive.", example=examples.ARCHIVE)
@blp.refuses(500, 503)
def export_threads() -> Response:
    """Export all threads

    Sends all threads (that the key sees) with their messages, the assistants and the uploaded files as a zip archive in
    the layout of Jan's data folder, while they are read.
    """
    return _attached(Response(services().portable.export_all(), mimetype=ZIP), "threads.zip")


@blp.route("/<thread_id>/export", methods=["GET"], parameters=[_THREAD])
@blp.doc(operationId="exportThread")
@blp.response(200, _DOCUMENT, description="The document.", example=examples.THREAD_DOCUMENT)
@blp.refuses(404, 409, 500, 503)
def export_thread(thread_id: str) -> Response:
    """Export thread

    Sends one thread as a JSON document that holds its messages and files, while they are read. POST /threads/import
    makes a thread of it again, here or on another server.
    """
    pieces = services().portable.export_thread(thread_id)
    return _attached(Response(pieces, mimetype="application/json"), f"{thread_id}.json")


@blp.route("/import", methods=["POST"])
@blp.doc(operationId="importThreads", requestBody=_IMPORT_BODY)
@blp.response(
    200,
    {"oneOf": [ThreadObjectSchema, ImportReportSchema]},
    description="The new thread of a document, or what came out of an archive.",
    example=examples.IMPORT_REPORT,
)
@blp.refuses(400, 409, 413, 415, 500, 503, 507)
def import_threads() -> Response:
    """Import threads

    Takes a document of one thread, which always becomes a new thread with ids of its own, or an archive of many, which
    keep their ids where these are free. The body may be as large as an uploaded file (`JANFLASK_MAX_UPLOAD_MB`). What a
    document holds beside the contents of its files may be as large as any other JSON (`JANFLASK_MAX_BODY_MB`).
    """
    request.max_content_length = services().settings.max_upload_mb << 20
    if request.mimetype in _ZIPS:
        return _import_archive(request)
    if not request.is_json:
        raise UnsupportedMediaTypeError(
            f"the body's content type is {request.mimetype or 'missing'}: send application/json or {ZIP}"
        )
    with spooled(request.stream, services().settings.cache_dir) as file:
        thread = services().portable.import_document(file)
    return json_response(single_thread(services().threads.get(thread.id)))


def _import_archive(request: Request) -> Response:
    with spooled(request.stream, services().settings.cache_dir) as file:
        report: dict[str, Any] = asdict(services().portable.import_archive(file))
    return json_response({"object": "thread.import", **report})


def _attached(response: Response, name: str) -> Response:
    response.headers.set("Content-Disposition", "attachment", filename=name)
    return response
