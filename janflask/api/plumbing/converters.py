"""What may stand in a route."""

from __future__ import annotations

from werkzeug.routing import BaseConverter

URL = "url"  # its name in routes


class UrlConverter(BaseConverter):
    """A model's source: a whole URL, or a name like ``hf:org/repo:Q4_K_M``.

    It is sent percent-encoded as one segment, but WSGI decodes it before a route is looked for.
    """

    part_isolating = False
    regex = r"(?:[A-Za-z][A-Za-z0-9+.-]*://|hf:).+"
