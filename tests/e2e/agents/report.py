"""What every script here has in common: what it is told, and how it tells what came of it.

Each runs in its SDK's own environment: ``python drive_NAME.py BASE_URL MODEL TALK``, where TALK is the conversation as
JSON: the messages of an ``earlier`` turn with a call in OpenAI's form, a ``question`` that makes the model call
``get_weather``, the ``weather`` of some cities, and a request to ``describe`` one as an object.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

BASE_URL, MODEL = sys.argv[1:3]
TALK: dict[str, Any] = json.loads(sys.argv[3])
MAX_TOKENS = 100


def get_weather(city: str) -> str:
    """The weather of a city."""
    return str(TALK["weather"].get(city, "unknown"))


def tell(package: str, items: Mapping[str, Callable[[], Any]]) -> None:
    """Does one item after the other and prints what each gave or raised, so that one failure hides no other."""
    told = {}
    for name, item in items.items():
        try:
            value = item()
            told[name] = asyncio.run(value) if inspect.iscoroutine(value) else value
        except Exception as error:
            told[name] = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps({"version": version(package), "items": told}))
