"""Whose API the current request speaks: OpenAI's, or Anthropic's, whose clients read errors of another shape."""

from __future__ import annotations

from flask import request

MESSAGES = "/v1/messages"
MODELS = "/v1/models"
VERSION_HEADER = "anthropic-version"


def is_anthropic() -> bool:
    """By the path; models have the same one in both, and there Anthropic's clients say which version they speak."""
    path = request.path
    if path == MESSAGES or path.startswith(f"{MESSAGES}/"):
        return True
    return VERSION_HEADER in request.headers and (path == MODELS or path.startswith(f"{MODELS}/"))
