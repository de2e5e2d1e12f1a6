"""Errors about a response in the words of its request: what it is made of has other names below."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from janflask.errors import (
    ContextLengthExceededError,
    EngineError,
    InvalidRequestError,
    JanflaskError,
    QueueFullError,
)
from janflask.storage.records import Run

_TOOL = re.compile(r"\btools\.(\d+)(?:\.function)?(?=[.\s]|$)")
_NAMES = (
    (re.compile(r"\bresponse_format\.json_schema\b"), "text.format"),
    (re.compile(r"\bresponse_format\b"), "text.format"),
    (re.compile(r"^messages(\.\d+)?\b"), "input"),
    (re.compile(r"^max_(completion_)?tokens\b"), "max_output_tokens"),
)


@contextmanager
def in_its_words(tools: Sequence[str]) -> Iterator[None]:
    """Raises errors with the request's names in them; ``tools`` are where in it each of the functions stands."""
    try:
        yield
    except JanflaskError as error:
        if error.param is not None:
            error.param = _renamed(error.param, tools)
        error.message = _renamed(error.message, tools)
        raise


def failure(run: Run) -> JanflaskError:
    """The error that ``run`` failed of, as it would have been answered at once."""
    message = run.error_message or "the response failed"
    if run.error_code == ContextLengthExceededError.code:
        return ContextLengthExceededError(message, param="input")
    if run.error_code == "rate_limit_exceeded":
        return QueueFullError(message)
    if run.error_code == "invalid_prompt":
        return InvalidRequestError(message, param="input")
    return EngineError(message)


def _renamed(text: str, tools: Sequence[str]) -> str:
    for pattern, name in _NAMES:
        text = pattern.sub(name, text)
    return _TOOL.sub(lambda found: tools[int(found[1])] if int(found[1]) < len(tools) else found[0], text)
