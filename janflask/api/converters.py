"""What may stand in a route."""

from __future__ import annotations

from werkzeug.routing import BaseConverter

URL = "url"  # its name in routes


class UrlConverter(BaseConverter):
    """A whole URL. It is sent percent-encoded as one segment, but WSGI decodes it before a route is looked for."""

    part_isolating = False
    regex = r"[A-Za-z][A-Za-z0-9+.-]*://.+"
