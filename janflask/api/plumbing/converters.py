"""What may stand in a route."""

from __future__ import annotations

from werkzeug.routing import BaseConverter

URL = "url"  # its name in routes


class UrlConverter(BaseConverter):
    """A model's name that has slashes: a source (a whole URL, or like ``hf:org/repo:Q4_K_M``), or a folder's path.

    It is sent percent-encoded as one segment, but WSGI decodes it before a route is looked for.
    """

    part_isolating = False
    # What ends like a route below a model's is that.
    regex = r"(?:(?:[A-Za-z][A-Za-z0-9+.-]*://|hf:).+|[^/]+(?:/[^/]+)+(?<!/start)(?<!/stop)(?<!/events))"
