"""Metric families as the text that every Prometheus reads, to the byte as prometheus-client writes it.

Its own writer asks of every label of every sample whether the name has to be escaped, which takes most of a scrape's
time where there are many models. Ours need no escaping: a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_by_go: Callable[[float], str] = floatToGoString


def as_text(families: Iterable[Metric]) -> bytes:
    """What is written of them. Their help is one line without a backslash."""
    lines: list[str] = []
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        lines.append(f"# HELP {name} {family.documentation}\n# TYPE {name} {family.type}\n")
        for sample in family.samples:
            labels = ",".join([_pair(*pair) for pair in sorted(sample.labels.items())])
            number = _number(sample.value)
            lines.append(f"{sample.name}{{{labels}}} {number}\n" if labels else f"{sample.name} {number}\n")
    return "".join(lines).encode()


@lru_cache(maxsize=4096)
def _pair(label: str, value: str) -> str:
    """The same few stand in many lines, and in every scrape."""
    value = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return f'{label}="{value}"'


def _number(value: float) -> str:
    """As Go writes it: from a million on not as Python does."""
    return repr(float(value)) if 0.0 <= value < 1e6 else _by_go(value)
