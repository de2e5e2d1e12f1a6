"""JSON responses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import msgspec
from flask import Response, request

BATCH = 64  # objects of a streamed list that are sent together


def json_response(content: Any, status: int = 200) -> Response:
    """``content`` as JSON, its keys in the order given."""
    return Response(msgspec.json.encode(content), status, mimetype="application/json")


def validated(response: Response) -> Response:
    """The response with an ``ETag`` of all that it says, or 304 where that is what the client has already."""
    said = response.get_data() + str(list(response.headers)).encode()
    response.set_etag(hashlib.sha256(said).hexdigest()[:32])
    response.make_conditional(request)
    return response


def streamed_list(items: Iterable[dict[str, Any]], before: bytes = b"", after: bytes = b"") -> Response:
    """A JSON list that is never whole in memory, between what stands ``before`` and ``after`` it.

    The first item is waited for here: what is wrong from the start is raised and becomes a true HTTP status.
    """
    rest = iter(items)
    first = list(islice(rest, 1))
    return Response(_pieces(chain(first, rest), before, after), mimetype="application/json")


def _pieces(items: Iterator[dict[str, Any]], before: bytes, after: bytes) -> Iterator[bytes]:
    start = before + b"["
    while batch := list(islice(items, BATCH)):
        yield start + msgspec.json.encode(batch)[1:-1]
        start = b","
    yield (b"" if start == b"," else start) + b"]" + after
