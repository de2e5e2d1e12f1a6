"""How many cores there are for an engine."""

from __future__ import annotations

import os
from pathlib import Path

import psutil


def usable_cores() -> int:
    """Physical cores that this process may use."""
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return max(1, min(physical, allowed, _cgroup_cores() or physical))


def _cgroup_cores() -> int | None:
    """The CPU quota of a container, in whole cores; None without one."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, int(quota) // int(period))
