"""Looks at the server's processes and files every few seconds, from outside."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.soak.growth import Points, floor_growth, slope_growth

EVERY = 5.0  # seconds
RESIDENT, ANONYMOUS, PROPORTIONAL, SHARED = "rss", "anonymous", "pss", "shared memory"  # bytes
DESCRIPTORS, THREADS = "fds", "threads"
SIZES, COUNTS = (RESIDENT, ANONYMOUS, PROPORTIONAL, SHARED), (DESCRIPTORS, THREADS)
_MODULES = {
    "janflask.supervisor": "supervisor",
    "janflask.runner": "runner",
    "janflask.engine": "engine",
    "template_renderer": "renderer",
}
_ROLLUP = {"Rss:": RESIDENT, "Anonymous:": ANONYMOUS, "Pss:": PROPORTIONAL, "Pss_Shmem:": SHARED}


@dataclass
class Life:
    """A process as long as it was seen; times are seconds since the watch began."""

    kind: str
    pid: int
    values: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    @property
    def times(self) -> tuple[float, float]:
        """When it was seen first and last."""
        seen = self.values[THREADS]
        return seen[0][0], seen[-1][0]


@dataclass(frozen=True, slots=True)
class Growth:
    """What one process, or those of a kind that follow one another, came to after ``since``."""

    who: str
    what: str
    first: float
    last: float
    growth: float | None  # a part of the first for sizes, a difference for counts; None: seen too shortly


class Watch:
    """Of the process ``master`` and all below it, and of the folders that the server writes to."""

    def __init__(self, master: int, data: Path, runtime: Path) -> None:
        self._master = psutil.Process(master)
        self._data, self._runtime = data, runtime
        self._began = time.monotonic()
        self._lives: dict[tuple[int, float], Life] = {}
        self.totals: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._ended = threading.Event()
        self._lock = threading.Lock()  # guards the lives
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def start(self) -> None:
        """In a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """It has looked for the last time."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(EVERY):
            self.look()

    def look(self) -> None:
        """Once."""
        now = time.monotonic() - self._began
        sums: dict[str, float] = defaultdict(float)
        for process in family(self._master):
            with contextlib.suppress(psutil.Error, OSError):  # it has just gone
                key = process.pid, process.create_time()
                values = _values(process.pid)
                with self._lock:
                    life = self._lives.get(key)
                    if life is None:
                        life = self._lives[key] = Life(self._kind(process), process.pid)
                    for name, value in values.items():
                        life.values[name].append((now, value))
                        sums[f"all: {name}"] += value
                sums["processes"] += 1
        sums["zombies"] = _zombies(self._master)
        for name, value in [*sums.items(), *self._folders()]:
            self.totals[name].append((now, value))

    def _kind(self, process: psutil.Process) -> str:
        if process.pid == self._master.pid:
            return "master"
        command = " ".join(process.cmdline())
        found = next((kind for module, kind in _MODULES.items() if module in command), None)
        return found or ("worker" if process.ppid() == self._master.pid else "other")

    def _folders(self) -> Iterator[tuple[str, float]]:
        files, size = inventory(self._data)
        yield "data: files", files
        yield "data: bytes", size
        files, size = inventory(self._runtime)
        yield "runtime: files", files
        yield "runtime: bytes", size

    def so_far(self) -> str:
        """What the processes that live now have in memory of their own, in MiB."""
        with self._lock:
            sizes = [(life.kind, life.values[ANONYMOUS][-1]) for life in self._lives.values()]
        newest = max((time for _, (time, _) in sizes), default=0.0)
        return ", ".join(f"{kind} {size / 2**20:.1f}" for kind, (time, size) in sizes if time == newest)

    def growths(self, since: float) -> list[Growth]:
        """Of each process that lived for half the time since then, and of the other kinds' from life to life."""
        end = max((life.times[1] for life in self._lives.values()), default=0.0)
        found: list[Growth] = []
        short: dict[str, list[Life]] = defaultdict(list)
        for life in self._lives.values():
            first, last = life.times
            if last - max(first, since) >= (end - since) / 2:
                found += _growths(f"{life.kind} {life.pid}", life.values, max(since, first))
            elif last > since:
                short[life.kind].append(life)
        for kind, lives in short.items():
            found += _growths(f"{len(lives)} x {kind}", _from_life_to_life(lives), since)
        return found

    def total_growths(self, since: float) -> list[Growth]:
        """Of all together, and of the folders."""
        return [growth for name, points in self.totals.items() for growth in _growths("server", {name: points}, since)]


def is_size(what: str) -> bool:
    """Whether it is bytes; else it is a count."""
    return what.removeprefix("all: ") in SIZES or "bytes" in what


def family(master: psutil.Process) -> list[psutil.Process]:
    """It and all below it."""
    with contextlib.suppress(psutil.Error):
        return [master, *master.children(recursive=True)]
    return []


def inventory(folder: Path) -> tuple[float, float]:
    """How many files there are below a folder, without the models', and their bytes."""
    files = size = 0
    for place, folders, names in os.walk(folder):
        if Path(place) == folder and "models" in folders:
            folders.remove("models")
        files += len(names)
        size += sum(_size(Path(place) / name) for name in names)
    return float(files), float(size)


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.lstat().st_size
    return 0


def _values(pid: int) -> dict[str, float]:
    """Raises OSError for one that is ending, or gone."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(" ")
        if name in _ROLLUP:
            found[_ROLLUP[name]] = float(rest.split()[0]) * 1024
    found[DESCRIPTORS] = float(len(os.listdir(f"/proc/{pid}/fd")))  # noqa: PTH208 - names are enough
    if not found[DESCRIPTORS]:
        raise ProcessLookupError(f"process {pid} is ending")  # with fewer threads from moment to moment
    found[THREADS] = float(len(os.listdir(f"/proc/{pid}/task")))  # noqa: PTH208
    return found


def _zombies(master: psutil.Process) -> float:
    count = 0
    for process in family(master):
        with contextlib.suppress(psutil.Error):
            count += process.status() == psutil.STATUS_ZOMBIE
    return float(count)


def _from_life_to_life(lives: list[Life]) -> dict[str, list[tuple[float, float]]]:
    """The most of each life (of counts the least), at the time when it was seen first."""
    ordered = sorted(lives, key=lambda life: life.times)
    points: dict[str, list[tuple[float, float]]] = {}
    for name in (*SIZES, *COUNTS):
        best = max if name in SIZES else min
        points[name] = [(life.times[0], best(value for _, value in life.values[name])) for life in ordered]
    return points


def _growths(who: str, series: Mapping[str, Points], since: float) -> Iterator[Growth]:
    for what, all_points in series.items():
        points = [point for point in all_points if point[0] >= since]
        if points:
            growth = slope_growth(points) if is_size(what) else floor_growth(points)
            yield Growth(who, what, points[0][1], points[-1][1], growth)
