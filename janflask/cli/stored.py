"""A stored conversation, answered by the server: each question becomes a message of the thread, each answer too."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, NoReturn
from urllib.parse import quote

import click

from janflask.cli.answer import Answer, parsed
from janflask.cli.client import Client, Event, ServerError


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
        return "This conversation is stored: `janflask threads delete` deletes it."

    def ask(self, question: str) -> Generator[Event, None, None]:
        """The answer in pieces; closing the iterator cancels the run, and what has been said stays in the thread.

        Raises ServerUnreachableError and ServerError, and ClickException for an answer that is not what was asked for.
        """
        message = {"role": "user", "content": question}
        request = {**self._run, "additional_messages": [message], "stream": True, "cancel_on_disconnect": True}
        answer = Answer(held="response_format" in self._run)
        with self._client.stream(f"{self._path}/runs", request) as events:
            for event in events:
                piece = event if event.comment else self._piece(answer, event.text)
                if piece.comment or piece.text:
                    yield piece
        yield from answer.end()

    def _piece(self, answer: Answer, data: str) -> Event:
        """What to show of one event of a run; a run that failed, or that nobody here can go on with, is raised."""
        event = parsed(data, "event")
        if event.get("object") == "thread.message.delta":
            parts = (event.get("delta") or {}).get("content") or []
            text = "".join(str((part.get("text") or {}).get("value") or "") for part in parts)
            return answer.say(text, "".join(str(part.get("refusal") or "") for part in parts))
        if event.get("object") == "thread.run":
            status = event.get("status")
            if status in ("failed", "expired"):
                reason = (event.get("last_error") or {}).get("message")
                raise ServerError(str(reason or f"the run {status}"))
            if status == "requires_action":
                self._give_up(event)
            return answer.say("", is_cut=status == "incomplete")
        return Event("")

    def _give_up(self, run: Mapping[str, Any]) -> NoReturn:
        """A run that waits would keep the thread from being answered."""
        told = f"the assistant asks for {_calls(run)}, and nobody here can call that"
        run_id = quote(str(run.get("id")), safe="")
        try:
            self._client.call("POST", f"{self._path}/runs/{run_id}/cancel")
        except ServerError as error:
            told += f"; its run could not be cancelled: {error.message}"
        raise click.ClickException(told)


def _calls(run: Mapping[str, Any]) -> str:
    wanted = (run.get("required_action") or {}).get("submit_tool_outputs") or {}
    functions = [call.get("function") or {} for call in wanted.get("tool_calls") or ()]
    return ", ".join(f"{item.get('name')}({item.get('arguments')})" for item in functions) or "tools"
