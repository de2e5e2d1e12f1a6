"""Uploaded files: POST and GET /files, and what can be done with one of them."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, BinaryIO

from flask import Response, request, send_file
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wsgi import FileWrapper

from janflask.access.scopes import Scope
from janflask.api.answers.thread_objects import list_object
from janflask.api.examples import store as examples
from janflask.api.plumbing.blueprint import Blueprint, links, path_id
from janflask.api.plumbing.context import services
from janflask.api.plumbing.response import json_response
from janflask.api.plumbing.uploads import MULTIPART, receive
from janflask.schemas.files import FileDeletedSchema, FileListSchema, FileSchema, FilesQuerySchema
from janflask.services.files import PURPOSES, plain_name
from janflask.services.paging import page
from janflask.storage.records import StoredFile

blp = Blueprint(
    "Files",
    __name__,
    url_prefix="/v1/files",
    needs=Scope.CONVERSATIONS,
    description="Files that messages and assistants can hold.",
)

# What a browser may know a file as. Nothing that it would run: markup and scripts are bytes like any others.
SAFE_TYPES = {
    ".bmp": "image/bmp",
    ".csv": "text/csv",
    ".flac": "audio/flac",
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".m4a": "audio/mp4",
    ".md": "text/markdown",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".txt": "text/plain",
    ".wav": "audio/wav",
    ".webp": "image/webp",
}
OTHER_TYPE = "application/octet-stream"
_BLOCK = 64 << 10  # bytes read at once

_FILE_ID = [path_id("file", examples.FILE_ID)]
_BYTES = {"type": "string", "format": "binary"}
_FORM = {
    "required": True,
    "content": {
        MULTIPART: {
            "schema": {
                "type": "object",
                "required": ["file", "purpose"],
                "properties": {
                    "file": {**_BYTES, "description": "The file, with its file name. One only."},
                    "purpose": {"type": "string", "enum": list(PURPOSES), "description": "What it is for."},
                },
            },
            "example": examples.UPLOAD,
        }
    },
}
_LINKS = links("retrieveFile", "downloadFile", "deleteFile", file_id="id")
_RANGE = {"in": "header", "name": "Range", "schema": {"type": "string"}, "example": "bytes=0-99"}
_CONTENTS = {"*/*": {"schema": {}, "example": examples.CONTENT}}
_DOWNLOADS = {
    200: {"description": "All of it.", "content": _CONTENTS},
    206: {"description": "The part that `Range` asks for.", "content": _CONTENTS},
    304: {"description": "It is what `If-None-Match` names."},
}


def file_object(file: StoredFile) -> dict[str, Any]:
    """``file`` as the API shows it: OpenAI's fields."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created_ms // 1000,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }


@blp.route("", methods=["POST"])
@blp.doc(operationId="createFile", requestBody=_FORM, responses={200: {"links": _LINKS}})
@blp.response(200, FileSchema, description="The stored file.", example=examples.FILE)
@blp.refuses(400, 413, 415, 500, 503, 507)
def create_file() -> Response:
    """Upload file

    Stores a file. It is kept until it is deleted: `expires_after` is refused, other fields are ignored. The largest
    size is the setting `JANFLASK_MAX_UPLOAD_MB`.
    """
    with receive(request, services().files) as form:
        file = form.content.commit(form.filename, form.purpose)
    return json_response(file_object(file))


@blp.route("", methods=["GET"])
@blp.doc(operationId="listFiles")
@blp.arguments(FilesQuerySchema, location="query")
@blp.response(200, FileListSchema, description="A page of files.", example=examples.FILE_LIST)
@blp.refuses(400, 500, 503)
def list_files(query: dict[str, Any]) -> Response:
    """List files

    Gives the uploaded files, or those with one `purpose`; by default the newest 10,000.
    """
    purpose = query.pop("purpose")
    found = services().files.list(page(**query), purpose)
    return json_response(list_object([file_object(file) for file in found.items], found.has_more))


@blp.route("/<file_id>", methods=["GET"], parameters=_FILE_ID)
@blp.doc(operationId="retrieveFile")
@blp.response(200, FileSchema, description="The file.", example=examples.FILE)
@blp.refuses(404, 500, 503)
def retrieve_file(file_id: str) -> Response:
    """Get file

    Describes one file: its name, size, purpose and the time of its upload.
    """
    return json_response(file_object(services().files.get(file_id)))


@blp.route("/<file_id>", methods=["DELETE"], parameters=_FILE_ID)
@blp.doc(operationId="deleteFile")
@blp.response(200, FileDeletedSchema, description="It is gone.", example=examples.FILE_DELETED)
@blp.refuses(404, 409, 500, 503)
def delete_file(file_id: str) -> Response:
    """Delete file

    Forgets the file and its content. One that a message or an assistant holds cannot be deleted: 409 says who holds it.
    """
    services().files.delete(file_id)
    return json_response({"id": file_id, "object": "file", "deleted": True})


@blp.route("/<file_id>/content", methods=["GET"], parameters=[*_FILE_ID, _RANGE])
@blp.doc(operationId="downloadFile", responses=_DOWNLOADS)
@blp.refuses(404, 416, 500, 503)
def download_file(file_id: str) -> Response:
    """Get file content

    Sends the file as it was uploaded, as an attachment. `Range` and `If-None-Match` are honoured.
    """
    return _attachment(*services().files.open(file_id))


def _attachment(file: StoredFile, content: BinaryIO) -> Response:
    """``content`` as a download of which a browser shows or runs nothing; closed when it is sent, or on an error."""
    name = plain_name(file.filename) or file.id
    response = send_file(
        content,
        mimetype=SAFE_TYPES.get(PurePosixPath(name).suffix.lower(), OTHER_TYPE),
        as_attachment=True,
        download_name=name,
        conditional=False,  # below: it is not told the length
        etag=file.sha256,
    )
    if "Range" in request.headers:
        response.response = FileWrapper(content, _BLOCK)  # a server's own wrapper may be unable to seek
    response.content_length = file.bytes
    try:
        response.make_conditional(request, accept_ranges=True, complete_length=file.bytes)
    except RequestedRangeNotSatisfiable:
        content.close()
        raise
    return response
