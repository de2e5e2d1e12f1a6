"""The server's processes: which there are, and what each of them and all of a kind use."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import psutil


@dataclass
class Totals:
    """Of all processes of a kind together."""

    processes: int = 0
    resident: int = 0
    descriptors: int = 0


def by_kind(supervisor: int | None, runner: int | None, counting: Sequence[int]) -> dict[str, list[int]]:
    """The ids of the server's processes without its engines, as this worker sees them.

    ``counting``: of the workers that count requests; who has had none yet is found as a child of gunicorn's master.
    """
    pids = {"worker": list(counting) or [os.getpid()], "master": [os.getppid()]}
    beside = {kind: [pid] for kind, pid in (("supervisor", supervisor), ("runner", runner)) if pid}
    forked = children(os.getppid())
    if supervisor in forked:  # it is gunicorn's master
        known = [pid for each in beside.values() for pid in each]
        pids["worker"] = [pid for pid in forked if pid not in known]
    return pids | beside


def children(pid: int) -> list[int]:
    """The processes that the main thread of another one has made; none where the system does not tell."""
    return _made_by(Path(f"/proc/{pid}/task/{pid}"))


def all_children(pid: int) -> list[int]:
    """The same for all of its threads."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
    return sorted(child for thread in threads for child in _made_by(thread))


def _made_by(thread: Path) -> list[int]:
    try:
        return [int(text) for text in (thread / "children").read_text().split()]
    except (OSError, ValueError):
        return []


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """What one process uses."""

    kind: str
    pid: int
    rss_bytes: int
    cpu_seconds: float  # of all cores, since it began


def uses(pids: Mapping[str, Sequence[int]]) -> list[ProcessUse]:
    """Of each process that is there, by kind."""
    found = []
    for kind, each in pids.items():
        for pid in each:
            try:
                process = _process(pid)
                times = process.cpu_times()
                found.append(ProcessUse(kind, pid, process.memory_info().rss, round(times.user + times.system, 2)))
            except psutil.Error:  # it has just gone, or is not ours to look at
                continue
    return found


def began(pid: int) -> float | None:
    """When a process did, in seconds since the epoch; None if it is gone."""
    try:
        return _process(pid).create_time()
    except psutil.Error:
        return None


@lru_cache(maxsize=256)
def _process(pid: int) -> psutil.Process:
    """Made once: making it asks the system when it began, which is slow. What is asked here goes by the id alone."""
    return psutil.Process(pid)


def totals(pids: Sequence[int]) -> Totals:
    """Of all that are there."""
    found = Totals()
    for pid in pids:
        try:
            process = _process(pid)
            resident, descriptors = process.memory_info().rss, process.num_fds()
        except psutil.Error:  # it has just gone, or is not ours to look at
            continue
        found.processes += 1
        found.resident += resident
        found.descriptors += descriptors
    return found
