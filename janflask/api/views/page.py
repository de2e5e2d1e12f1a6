"""The page at ``/``, and the documentation's own files. What both are made of is open: whoever reads it knows nothing.

The page is built from ``ui/`` by ``make ui``. Its files carry a hash in their names, so that a browser keeps them for
good; only ``index.html`` is asked for again.
"""

from __future__ import annotations

import functools
import gzip
import mimetypes
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

from flask import Blueprint, Response, redirect, request, send_from_directory
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as BaseResponse

from janflask.api.plumbing import access, guards

DOCS_PATH = "/docs"
ASSETS_PATH = "/docs/assets/"
_DOCS_ASSETS = {  # each with the package that carries it
    "docs.js": ("janflask", "api/static"),
    "swagger-ui.css": ("flask_swagger_ui", "dist"),
    "swagger-ui-bundle.js": ("flask_swagger_ui", "dist"),
}
_DOCS_MAX_AGE = 86_400  # seconds
_FOREVER = "public, max-age=31536000, immutable"
_AGAIN = "no-cache"  # kept, but asked for each time; 304 if it is the same
_INDEX = "index.html"

blp = Blueprint("page", __name__, template_folder="../templates")


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    compressed: bytes
    content_type: str
    etag: str


@blp.get("/")
@access.is_open
def home() -> BaseResponse:
    """The page. Who asks for the head alone wants to know whether somebody is here."""
    if not request.environ.get("PATH_INFO"):  # below a proxy's path, which its files are relative to
        return redirect(f"{request.root_path}/", 308)
    response = _answer(_INDEX, _AGAIN)
    response.headers[guards.POLICY] = guards.PAGE
    return response


@blp.get("/icon.png")
@access.is_open
def icon() -> Response:
    """What a browser's tab shows: a picture of ui/icon.svg, which the page's own thread would have to draw."""
    return _answer("icon.png", _AGAIN)


@blp.get("/assets/<name>")
@access.is_open
def asset(name: str) -> Response:
    """A script or a style sheet of the page."""
    return _answer(f"assets/{name}", _FOREVER)


@blp.get(f"{ASSETS_PATH}<name>")
@access.is_open
def docs_asset(name: str) -> Response:
    """What the documentation is made of: our script, and Swagger UI as a package carries it. It needs no other host."""
    if name not in _DOCS_ASSETS:
        raise NotFound
    package, folder = _DOCS_ASSETS[name]
    return send_from_directory(str(files(package).joinpath(folder)), name, max_age=_DOCS_MAX_AGE)


def _answer(path: str, keeping: str) -> Response:
    file = _files().get(path)
    if file is None:
        raise NotFound
    response = Response(content_type=file.content_type)
    response.headers[guards.KEEPING] = keeping
    response.headers.add("Vary", "Accept-Encoding")
    if request.accept_encodings["gzip"] > 0:
        response.headers["Content-Encoding"] = "gzip"
        response.data = file.compressed
    else:
        response.data = file.content
    response.set_etag(file.etag, weak=True)  # of both encodings
    response.make_conditional(request)
    return response


@functools.cache
def _files() -> dict[str, _File]:
    """The page's files by their paths: few and small, so they are read and compressed once."""
    root = files("janflask").joinpath("page")
    return {path: _File(*_read(path, root.joinpath(path))) for path in _paths(root, "")}


def _read(path: str, file: Traversable) -> tuple[bytes, bytes, str, str]:
    content = file.read_bytes()
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    if kind.startswith("text/") or kind.endswith(("javascript", "+xml")):
        kind += "; charset=utf-8"
    return content, gzip.compress(content, mtime=0), kind, sha256(content).hexdigest()[:32]


def _paths(folder: Traversable, before: str) -> list[str]:
    found: list[str] = []
    for entry in folder.iterdir():
        path = f"{before}{entry.name}"
        found += _paths(entry, f"{path}/") if entry.is_dir() else [path]
    return found
