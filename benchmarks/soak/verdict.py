"""What an hour came to: a report, the problems in it, and the same as JSON."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.soak.tally import Tally
from benchmarks.soak.watch import COUNTS, Growth, inventory, is_size

GROWTH = 0.02  # of any process after the warm-up
JUDGED = ("rss", "anonymous")
KEPT = (
    "usage",
    "secrets",
    "cache",
    "logs",
    "assistants",
    "webhooks",
)  # folders of the data folder in which files may stay
_NUMBERS = re.compile(r"\b[a-z]+_\w{16,}|\d+|[0-9a-f]{8,}")


def problems_of_growth(growths: Sequence[Growth], minimum: float) -> list[str]:
    """Sizes that grew by more than ``GROWTH`` and ``minimum`` bytes, and counts that did not come down again."""
    found = []
    for each in growths:
        if each.growth is None:
            continue
        if each.what in JUDGED and each.growth > GROWTH and each.growth * each.first > minimum:
            found.append(f"{each.who}: {each.what} grew by {each.growth:.1%} from {each.first / 2**20:.1f} MiB")
        elif each.what in (*COUNTS, "zombies", "processes", "runtime: files") and each.growth > 0:
            found.append(f"{each.who}: {each.growth:g} more {each.what} than {each.first:g}")
    return found


def problems_of_files(data: Path) -> list[str]:
    """What is left in the data folder once everybody has removed what he had stored."""
    found = []
    for folder in sorted(path for path in data.iterdir() if path.is_dir() and path.name not in (*KEPT, "models")):
        files, _ = inventory(folder)
        if files:
            names = [str(path.relative_to(data)) for path in folder.rglob("*") if path.is_file()]
            found.append(f"{folder.name} has {files:g} files: {names[:8]}")
    odd = [str(path.relative_to(data)) for path in data.rglob("*") if path.suffix in (".tmp", ".part", ".new")]
    return found + ([f"unfinished files: {odd[:8]}"] if odd else [])


def log_lines(log: Path) -> Counter[str]:
    """What the log says above ``info``, numbers left out, and how often; lines that are no JSON as they are."""
    found: Counter[str] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        try:
            entry: Any = json.loads(line)
            level, message = entry["level"], f"{entry['process']}: {entry['message']}"
            if entry.get("exception"):
                message += " ... " + entry["exception"].strip().splitlines()[-1]
        except (ValueError, KeyError, TypeError):
            level, message = "text", line
        if level not in ("info", "debug"):
            found[f"{level} {_NUMBERS.sub('N', message)[:300]}"] += 1
    return found


def show_growths(growths: Sequence[Growth]) -> None:
    """A table."""
    for each in sorted(growths, key=lambda each: (each.who, each.what)):
        size = is_size(each.what)
        unit, scale = ("MiB", 2**20) if size else ("", 1)
        change = "" if each.growth is None else f"{each.growth:+.2%}" if size else f"{each.growth:+g}"
        span = f"{each.first / scale:>10.1f} -> {each.last / scale:>10.1f} {unit:<4}"
        print(f"{each.who:<24} {each.what:<16} {span} {change}")


def show_tally(tally: Tally) -> None:
    """Statuses, activities, failures."""
    print("\nanswers: " + ", ".join(f"{count} x {status}" for status, count in sorted(tally.statuses.items())))
    for what in sorted({*tally.done, *tally.failed}):
        slowest = tally.slowest.get(what, 0.0)
        print(f"  {what:<16} {tally.done[what]:>6} done  {tally.failed[what]:>4} failed  slowest {slowest:.1f} s")


def save(file: Path, tally: Tally, growths: Sequence[Growth], problems: Sequence[str], totals: Any) -> None:
    """As JSON, with every sample of the totals."""
    document = {
        "problems": list(problems),
        "statuses": tally.statuses,
        "done": tally.done,
        "failed": tally.failed,
        "failures": tally.failures,
        "growths": [asdict(growth) for growth in growths],
        "totals": totals,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n")
