"""The least that Flask does for a request: what GET /threads/{id} is compared with."""

from __future__ import annotations

from flask import Flask, Response

app = Flask(__name__, static_folder=None)


@app.get("/healthz")
@app.get("/v1/threads/<thread_id>")
def empty(thread_id: str = "") -> Response:
    """Nothing, in the same content type."""
    return Response(b"{}", mimetype="application/json")
