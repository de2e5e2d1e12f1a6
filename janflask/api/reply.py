"""JSON responses."""

from __future__ import annotations

from typing import Any

import msgspec
from flask import Response


def json_response(content: Any, status: int = 200) -> Response:
    """``content`` as JSON, its keys in the order given."""
    return Response(msgspec.json.encode(content), status, mimetype="application/json")
