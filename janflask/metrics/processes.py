"""What the server's processes use, by what they are: their ids come and go, and would be ever new labels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import psutil
from prometheus_client.metrics_core import Metric

from janflask.metrics.families import gauge
from janflask.models.state import ModelState


@dataclass
class _Use:
    """Of all processes of a kind together."""

    processes: int = 0
    resident: int = 0
    descriptors: int = 0


def process_families(pids: Mapping[str, Sequence[int]], states: Mapping[str, ModelState]) -> Iterator[Metric]:
    """``pids``: by kind. Engines tell of themselves through ``states``."""
    uses = {kind: _use(each) for kind, each in pids.items()}
    engines = [state for state in states.values() if state.pid is not None]
    uses["engine"] = _Use(len(engines), sum(state.used_bytes or 0 for state in engines))
    labels = ["process"]
    yield gauge("processes", "How many there are.", labels, (([kind], float(u.processes)) for kind, u in uses.items()))
    resident = (([kind], float(use.resident)) for kind, use in uses.items())
    yield gauge("process_resident_memory_bytes", "RAM, of all of a kind together.", labels, resident)
    descriptors = (([kind], float(use.descriptors)) for kind, use in uses.items() if kind != "engine")
    yield gauge("process_open_fds", "Open files and sockets, of all of a kind together.", labels, descriptors)


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


def _use(pids: Sequence[int]) -> _Use:
    use = _Use()
    for pid in pids:
        try:
            process = _process(pid)
            resident, descriptors = process.memory_info().rss, process.num_fds()
        except psutil.Error:  # it has just gone, or is not ours to look at
            continue
        use.processes += 1
        use.resident += resident
        use.descriptors += descriptors
    return use
