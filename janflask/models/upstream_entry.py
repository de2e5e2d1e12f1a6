"""The ``model.json`` of a model that another server runs."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from janflask.models.upstream import Upstream

FACT = "context_length"

_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9._-]+")


def entry_json(
    model_id: str, table: Mapping[str, Any], facts: Mapping[str, Any], before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """``table`` is the upstream; ``facts`` go over the ``metadata`` of the description ``before``, whose rest stays.

    The context that stood there was that of another upstream, and does not stay.
    """
    before = before or {}
    known = before.get("metadata")
    kept = {name: value for name, value in known.items() if name != FACT} if isinstance(known, dict) else {}
    return {
        "id": model_id,
        "object": "model",
        "name": model_id,
        "version": "1.0",
        "description": "",
        "format": "api",
        "created": int(time.time()),
        "parameters": {},
        **before,
        "metadata": {**kept, **facts},
        "upstream": {name: value for name, value in table.items() if value is not None},
    }


def default_id(upstream: Upstream) -> str:
    """A legal id out of the model's name there, without the folder or organization in front of it."""
    text = _NOT_IN_IDS.sub("-", re.split(r"[/\\]", upstream.model.rstrip("/\\"))[-1]).removesuffix(".gguf")
    return text.lstrip("._-")[:128] or "model"
