"""A stored conversation, answered by the server: each question becomes a message of the thread, each answer too."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any
from urllib.parse import quote

from janflask.cli.client import Client, Event, ServerError, error_of


class StoredConversation:
    """A thread of the server; see ``chat.Conversation``.

    ``options`` are further fields of the run (``temperature`` and the like).
    """

    def __init__(self, client: Client, thread_id: str, model: str | None, options: dict[str, Any]) -> None:
        """Raises ServerUnreachableError, and ServerError when there is no such thread."""
        self._client = client
        self._path = f"/threads/{quote(thread_id, safe='', errors='replace')}"
        given = {"model": model, "max_completion_tokens": options.get("max_tokens")}
        self._run = {name: value for name, value in options.items() if name != "max_tokens"}
        self._run |= {name: value for name, value in given.items() if value is not None}
        thread = client.call("GET", self._path)
        self.model = model or str(thread.get("title") or thread_id)

    def clear(self) -> str:
        """What to say instead: what is stored is not forgotten."""
        return "This conversation is stored: `janflask threads rm` deletes it."

    def ask(self, question: str) -> Generator[Event, None, None]:
        """The answer in pieces; closing the iterator cancels the run, and what has been said stays in the thread.

        Raises ServerUnreachableError and ServerError.
        """
        message = {"role": "user", "content": question}
        request = {**self._run, "additional_messages": [message], "stream": True, "cancel_on_disconnect": True}
        with self._client.stream(f"{self._path}/runs", request) as events:
            for event in events:
                piece = event if event.comment else Event(_said(event.text))
                if piece.comment or piece.text:
                    yield piece


def _said(data: str) -> str:
    """The text in one event of a run; a run that failed is raised."""
    try:
        event = json.loads(data)
    except ValueError:
        raise ServerError(f"the server sent an event that is no JSON: {data[:80]!r}") from None
    if not isinstance(event, dict) or "error" in event:
        raise error_of(event, fallback="the answer ended with an error")
    if event.get("object") == "thread.message.delta":
        parts = (event.get("delta") or {}).get("content") or []
        return "".join(str((part.get("text") or {}).get("value") or "") for part in parts)
    if event.get("object") == "thread.run" and event.get("status") in ("failed", "expired"):
        reason = (event.get("last_error") or {}).get("message")
        raise ServerError(str(reason or f"the run {event['status']}"))
    return ""
