"""Log-probabilities as a chat's answer tells them: an entry for each token."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from janflask.parsing.deltas import TokenLogprob

LEAST_LOGPROB = -9999.0  # JSON has no -inf; OpenAI's own answers use this number


def logprob_entries(tokens: Iterable[TokenLogprob]) -> list[dict[str, Any]]:
    """``{"token", "logprob", "bytes", "top_logprobs"}`` of each token, the last one of its likeliest candidates."""
    return [
        {
            "token": token.token,
            "logprob": finite(token.logprob),
            "bytes": list(token.raw),
            "top_logprobs": [
                {"token": top.token, "logprob": finite(top.logprob), "bytes": list(top.raw)} for top in token.top
            ],
        }
        for token in tokens
    ]


def finite(logprob: float | None) -> float | None:
    """JSON has no infinity. None, of what nothing predicts, stays."""
    return logprob if logprob is None or logprob > LEAST_LOGPROB else LEAST_LOGPROB
