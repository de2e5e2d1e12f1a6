"""For the run along the links: what keeps schemathesis from beginning with a new thread or assistant is hidden from it.

It begins a chain of requests only with one that can succeed on its own. One with a ``model_id`` in its body cannot, it
thinks, since the only operation that makes models is left out.
"""

from __future__ import annotations

from typing import Any

import schemathesis

from tests.e2e.schemathesis_hooks import as_it_is

__all__ = ["as_it_is"]
HIDDEN = "model_id"


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    for path in "/v1/threads", "/v1/assistants":
        body = raw_schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        hide(raw_schema["components"]["schemas"][body["$ref"].rsplit("/", 1)[1]])


def hide(part: Any) -> None:
    """Takes the field out of every object's description inside ``part``."""
    if isinstance(part, list):
        for item in part:
            hide(item)
    elif isinstance(part, dict):
        if isinstance(properties := part.get("properties"), dict):
            properties.pop(HIDDEN, None)
        if isinstance(required := part.get("required"), list) and HIDDEN in required:
            required.remove(HIDDEN)
            if not required:
                del part["required"]
        for item in part.values():
            hide(item)
