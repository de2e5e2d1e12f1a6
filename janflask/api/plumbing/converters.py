"""What may stand in a route."""

from __future__ import annotations

from typing import Any

from werkzeug.routing import BaseConverter

from janflask.files import ids

URL = "url"  # its name in routes
THREADS = ("thread_id", "conversation_id")  # the parts of routes that name a thread


def name_threads(endpoint: str | None, values: dict[str, Any] | None) -> None:
    """A thread may be named as a conversation wherever it stands in a route."""
    for part in THREADS:
        if values and part in values:
            values[part] = ids.thread_id(values[part])


class UrlConverter(BaseConverter):
    """A model's name that has slashes: a source (a whole URL, or like ``hf:org/repo:Q4_K_M``), or a folder's path.

    It is sent percent-encoded as one segment, but WSGI decodes it before a route is looked for.
    """

    part_isolating = False
    # What ends like a route below a model's is that.
    regex = r"(?:(?:[A-Za-z][A-Za-z0-9+.-]*://|hf:).+|[^/]+(?:/[^/]+)+(?<!/start)(?<!/stop)(?<!/events))"
