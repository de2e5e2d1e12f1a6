"""Files that come as multipart/form-data: from the connection into the store in pieces, written once.

Werkzeug's own way would put them into a temporary file first, for the view to copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, cast

from flask import Request
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.formparser import FormDataParser

from janflask.errors import (
    ClientDisconnectedError,
    InvalidRequestError,
    RequestTooLargeError,
    UnsupportedMediaTypeError,
)
from janflask.models.known_fields import UPLOAD
from janflask.services.files import FileService, IncomingFile, too_large

MULTIPART = "multipart/form-data"
MAX_PARTS = 20
MAX_FIELDS_BYTES = 256 << 10  # of a field that is no file, and of a part's headers
_OVERHEAD = 1 << 20  # bytes of a body that may be something else than the file


@dataclass(frozen=True, slots=True)
class UploadForm:
    """A form that was read to its end; the file's content waits to be committed."""

    content: IncomingFile
    filename: str
    purpose: str


def largest_body(max_upload_mb: int) -> int:
    """Bytes that a form may have, with a file of so many MiB."""
    return (max_upload_mb << 20) + _OVERHEAD


@contextmanager
def receive(request: Request, files: FileService) -> Iterator[UploadForm]:
    """Reads the request's body. What the caller does not commit while this lasts is discarded.

    Raises UnsupportedMediaTypeError for a body that is no form, RequestTooLargeError (from its ``Content-Length``
    before anything is read), InvalidRequestError naming what is wrong or missing, and what the store raises.
    """
    if request.mimetype != MULTIPART:
        raise UnsupportedMediaTypeError(
            f"the body's content type is {request.mimetype or 'missing'}: send the file as {MULTIPART}"
        )
    request.max_content_length = largest_body(files.max_upload_mb)
    receiver = _Receiver(files)
    try:
        yield receiver.read(request)
    finally:
        receiver.discard()


class _Receiver:
    """Reads one form with one file."""

    def __init__(self, files: FileService) -> None:
        self._files = files
        self._content: IncomingFile | None = None

    def read(self, request: Request) -> UploadForm:
        parser = FormDataParser(
            self._begin, max_form_memory_size=MAX_FIELDS_BYTES, max_form_parts=MAX_PARTS, silent=False
        )
        length = request.content_length
        try:
            _, form, uploads = parser.parse(request.stream, MULTIPART, length, request.mimetype_params)
        except RequestEntityTooLarge:
            if length is not None and length > (request.max_content_length or 0):
                raise too_large(self._files.max_upload_mb) from None
            raise RequestTooLargeError(
                f"the body is too large: a file of at most {self._files.max_upload_mb} MiB, in at most {MAX_PARTS} "
                f"fields of which the others have at most {MAX_FIELDS_BYTES >> 10} KiB"
            ) from None
        except ClientDisconnected:
            raise ClientDisconnectedError("the client closed the connection in the middle of its upload") from None
        except ValueError as error:
            raise InvalidRequestError(
                f"the body is not complete multipart/form-data: {error}", code="invalid_multipart"
            ) from None
        return self._checked(form, uploads)

    def _checked(self, form: MultiDict[str, str], uploads: MultiDict[str, FileStorage]) -> UploadForm:
        file = uploads.get("file")
        if file is None or self._content is None:
            raise InvalidRequestError(
                "the form has no file: send one in the field `file`, with its file name", param="file"
            )
        names: list[str | None] = [*form]  # the parser has None for a part without a name
        if None in names:
            raise InvalidRequestError("the form has a field without a name", code="invalid_multipart")
        for name, value in form.items():
            field = name.partition("[")[0]  # the SDK sends an object's fields as name[field]
            reason = UPLOAD[field].objection(value) if field in UPLOAD else None
            if reason is not None:
                raise InvalidRequestError(f"{field} {reason}", param=field, code="invalid_value")
        if "purpose" not in form:
            raise InvalidRequestError("the form has no purpose: add the field `purpose`", param="purpose")
        return UploadForm(self._content, file.filename or "", form["purpose"])

    def discard(self) -> None:
        if self._content is not None:
            self._content.discard()

    def _begin(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        if self._content is not None:
            raise InvalidRequestError("the form has more than one file: send them one by one", param="file")
        self._content = self._files.begin()
        return cast(IO[bytes], _Sink(self._content))


@dataclass(frozen=True, slots=True)
class _Sink:
    """As much of a file as the parser uses."""

    content: IncomingFile

    def write(self, data: bytes) -> int:
        return self.content.write(data)

    def seek(self, offset: int) -> int:
        return offset  # to the beginning, once all is written; nobody reads it from here
