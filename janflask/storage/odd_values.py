"""Parameters and settings in files that nobody can mean, in words: for the doctor, and for whoever imports them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from janflask.models.engine_settings import read_settings
from janflask.models.parameters import read_parameters

UNUSABLE = "nothing is answered with it: set it right, or take it out"


def of_thread(raw: Mapping[str, Any]) -> Iterator[str]:
    """In a ``thread.json``: its own, and those of its entries of assistants."""
    yield from of_tables(raw)
    listed = raw.get("assistants")
    for number, item in enumerate(listed if isinstance(listed, list) else ()):
        model = item.get("model") if isinstance(item, Mapping) else None
        if isinstance(model, Mapping):
            yield from of_tables(model, f"assistants.{number}.model.")


def of_assistant(raw: Mapping[str, Any]) -> Iterator[str]:
    """In an ``assistant.json``."""
    yield from _parameters({name: raw.get(name) for name in ("temperature", "top_p", "reasoning_effort")}, "")
    yield from _parameters(raw.get("parameters"), "parameters")


def of_tables(raw: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """In ``parameters`` and ``settings`` of a model, or of whatever else has both."""
    yield from _parameters(raw.get("parameters") or None, f"{prefix}parameters")
    for name, told in read_settings(raw.get("settings") or None)[1].items():
        yield f"{prefix}settings{name and f'.{name}'} {told}"


def _parameters(given: object, prefix: str) -> Iterator[str]:
    for problem in read_parameters(given).problems.values():
        yield problem.told(prefix=prefix)
