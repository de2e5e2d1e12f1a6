"""Models as Anthropic's clients read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from janflask.errors import InvalidRequestError
from janflask.services.model import Model

MAX_PAGE = 1000


def model_info(model: Model) -> dict[str, Any]:
    """One model; how much it reads is known while it runs."""
    info = model.state.info
    return {
        "type": "model",
        "id": model.card.id,
        "display_name": model.card.name,
        "created_at": datetime.fromtimestamp(model.card.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "line": None,
        "capabilities": None,
        "deprecated_at": None,
        "retires_at": None,
        "max_input_tokens": None if info is None else info.ctx_len,
        "max_tokens": None if info is None else info.ctx_len,
    }


def model_page(models: Sequence[Model], query: Mapping[str, str]) -> dict[str, Any]:
    """A page of them, as ``limit`` and ``after_id`` or ``before_id`` have it. Raises InvalidRequestError."""
    limit = _limit(query.get("limit"))
    names = [model.card.id for model in models]
    after, before = query.get("after_id"), query.get("before_id")
    start = _place(names, after, "after_id") + 1 if after else 0
    end = _place(names, before, "before_id") if before else len(models)
    found = models[start:end]
    page = found[-limit:] if before and not after else found[:limit]
    data = [model_info(model) for model in page]
    return {
        "data": data,
        "has_more": len(found) > limit,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def _limit(text: str | None) -> int:
    """All that may be asked for, where Anthropic gives twenty: there are not that many models here."""
    if text is None:
        return MAX_PAGE
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= MAX_PAGE):
        raise InvalidRequestError(f"limit must be from 1 to {MAX_PAGE}, not {text[:40]!r}", param="limit")
    return int(text)


def _place(names: Sequence[str], name: str, field: str) -> int:
    if name not in names:
        raise InvalidRequestError(f"{field} is the id of no model here: {name[:128]!r}", param=field)
    return names.index(name)
