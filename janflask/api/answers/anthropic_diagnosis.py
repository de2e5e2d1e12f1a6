"""What a message says of its prompt's cached beginning, beside an earlier message's."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Self

from janflask.inference.blocks import MessagesRequest, Thought, Turn
from janflask.services.cache_diagnostics import CacheDiagnostics, Fingerprint, message_diagnostics


class Diagnosis:
    """Of one request that asks for it: ``told`` is the message's ``diagnostics``."""

    def __init__(self, diagnostics: CacheDiagnostics, fingerprint: Fingerprint, previous: str | None) -> None:
        self._diagnostics = diagnostics
        self._fingerprint = fingerprint
        self.told: dict[str, Any] | None = None
        if previous is not None:
            self.told = message_diagnostics(diagnostics.kept(previous), fingerprint)

    @classmethod
    def of(cls, request: MessagesRequest, diagnostics: CacheDiagnostics) -> Self | None:
        """None for a request that does not ask. Raises OSError without a secret."""
        if not request.is_diagnosed:
            return None
        chat = request.chat
        fingerprint = diagnostics.fingerprint(
            model=chat.model,
            tools=[tool.as_told() for tool in (*chat.tools, *request.deferred)],
            instructions=[message.text for message in chat.messages],
            settings=dict(chat.template_kwargs),
            messages=[_as_json(turn) for turn in request.turns],
        )
        return cls(diagnostics, fingerprint, request.previous)

    def keep(self, message_id: str, prompt_tokens: int) -> None:
        """A later request may be compared with this one."""
        self._diagnostics.keep(message_id, self._fingerprint.of_tokens(prompt_tokens))


def _as_json(turn: Turn) -> list[Any]:
    """What a turn says; what was thought is shown for a while only."""
    said = [[type(block).__name__, asdict(block)] for block in turn.blocks if not isinstance(block, Thought)]
    return [turn.role, *said]
