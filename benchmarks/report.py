"""What a benchmark says: rows of a table, and the same as JSON."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One figure and its target. ``at_least``: higher is better; else ``value`` must not exceed ``target``."""

    name: str
    value: float
    target: float | None
    unit: str = ""
    at_least: bool = True
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def reached(self) -> bool | None:
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    def line(self) -> str:
        sign = "" if self.target is None else (">=" if self.at_least else "<=") + f" {self.target:g}"
        verdict = {True: "reached", False: "MISSED", None: ""}[self.reached]
        detail = "  ".join(f"{key}={value}" for key, value in self.detail.items())
        return f"{self.name:<58} {self.value:>9.3f} {self.unit:<6} {sign:<9} {verdict:<8} {detail}"


def save(name: str, rows: list[Row], folder: Path) -> Path:
    """Writes rows and the machine they were measured on. Returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    document = {
        "benchmark": name,
        "time": int(time.time()),
        "machine": {"platform": platform.platform(), "cpu": cpu_name()},
        "rows": [asdict(row) | {"reached": row.reached} for row in rows],
    }
    file.write_text(json.dumps(document, indent=1) + "\n")
    return file


def cpu_name() -> str:
    """As the kernel calls it."""
    try:
        with Path("/proc/cpuinfo").open() as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    except OSError:
        return platform.processor() or "unknown"
