"""What may stand in a route."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from werkzeug.routing import BaseConverter, Rule

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


class LazyRule(Rule):
    """A route whose builder of URLs is compiled when one is first built: for most of them none ever is."""

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        @functools.cache
        def builder() -> Callable[..., tuple[str, str]]:
            return super(LazyRule, self)._compile_builder(append_unknown)

        return lambda *args, **values: builder()(*args, **values)
