"""What a server's processes have computed: on a busy machine that tells more than how long it took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from statistics import median

import psutil

from benchmarks.harness import Server

# What a process is, by what its command line has; others are the HTTP server's.
PARTS = {
    "llama-server": "llama-server",
    "janflask.engine": "engine",
    "janflask.supervisor": "supervisor",
    "janflask.runner": "runner",
    "template_renderer": "templates",
}
HTTP = "workers"


def seconds(server: Server) -> Mapping[str, float]:
    """CPU time of each part of a server so far."""
    root = psutil.Process(server.process.pid)
    used: dict[str, float] = defaultdict(float)
    for process in (root, *root.children(recursive=True)):
        try:
            command, times = " ".join(process.cmdline()), process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        part = next((name for word, name in PARTS.items() if word in command), HTTP)
        used[part] += times.user + times.system
    return used


class TokenCosts:
    """Microseconds of CPU a token, by server and part, of rounds that were told one after the other."""

    def __init__(self) -> None:
        self._rounds: dict[str, list[dict[str, float]]] = {}

    def add(self, name: str, before: Mapping[str, float], after: Mapping[str, float], tokens: int) -> None:
        """A round of the server ``name``."""
        spent = {part: (value - before.get(part, 0.0)) / tokens * 1e6 for part, value in after.items()}
        self._rounds.setdefault(name, []).append(spent)

    def shown(self) -> dict[str, str]:
        """Medians, for a row's detail: ``ours: engine=2100+workers=120``."""
        told = {}
        for name, rounds in self._rounds.items():
            parts = {part: median(spent.get(part, 0.0) for spent in rounds) for part in rounds[-1]}
            big = sorted(((value, part) for part, value in parts.items() if round(value)), reverse=True)
            told[f"us_cpu_{name.replace(' ', '_')}"] = "+".join(f"{part}={value:.0f}" for value, part in big)
        return told
