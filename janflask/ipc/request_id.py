"""The id of the request that is being served, for the logs of every process that works on it."""

from __future__ import annotations

from contextvars import ContextVar

# In a worker the HTTP request's, in the runner that of the request by which a run began or went on.
CURRENT: ContextVar[str | None] = ContextVar("request_id", default=None)
