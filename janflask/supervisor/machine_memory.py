"""How much memory the models may take on this machine: of its RAM, and of its GPUs where llama.cpp can use them."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from janflask.models.memory_estimate import GIB, in_gib
from janflask.settings import Settings

log = logging.getLogger(__name__)

SHARE = 0.8  # of the machine's memory, if no setting says how much
PROBE_TIMEOUT = 60.0  # seconds for llama.cpp to wake the GPUs
# Libraries of ggml that are no GPU's; any other beside them makes it a GPU build.
_CPU_LIBRARIES = ("base", "cpu", "blas", "rpc")


@dataclass(frozen=True, slots=True)
class Amount:
    """Bytes of RAM and of the GPUs' memory."""

    ram: int = 0
    vram: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.ram + other.ram, self.vram + other.vram)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.ram - other.ram, self.vram - other.vram)

    def fits(self, room: Amount) -> bool:
        """Whether ``room`` is enough for it. What is not needed may be overdrawn."""
        return (self.ram <= room.ram or self.ram == 0) and (self.vram <= room.vram or self.vram == 0)

    @property
    def total(self) -> int:
        return self.ram + self.vram


def limits(settings: Settings) -> Amount:
    """``memory_budget_gb`` is the VRAM's budget where there is a GPU to use, or else the RAM's."""
    ram, vram = int(SHARE * usable_ram()), int(SHARE * usable_vram()) if settings.ngl != 0 else 0
    if settings.memory_budget_gb is not None:
        wanted = int(settings.memory_budget_gb * GIB)
        ram, vram = (ram, wanted) if vram else (wanted, 0)
    log.info("the models may take %s of RAM%s", in_gib(ram), f" and {in_gib(vram)} of VRAM" if vram else "")
    return Amount(ram, vram)


def usable_ram() -> int:
    """Bytes of the machine, or of the control group that this process is in if that has fewer."""
    return min([psutil.virtual_memory().total, *group_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])


def free_ram() -> int:
    """Bytes that a new process could take now without anything being swapped out."""
    return psutil.virtual_memory().available


def resident_bytes(pid: int) -> int | None:
    """What a process has in RAM, the weights that it maps included; None once it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


def group_limits(membership: Path, root: Path) -> list[int]:
    """The limits of this process's control groups, in bytes: of version 2, and of version 1's memory controller."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # not Linux
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found += _limits_upwards(root, path, "memory.max")
        elif "memory" in controllers.split(","):
            found += _limits_upwards(root / "memory", path, "memory.limit_in_bytes")
    return found


def _limits_upwards(root: Path, path: str, name: str) -> list[int]:
    """A group's own limit and those of all groups above it. In a container ``root`` may be the group itself."""
    found = []
    group = root / path.lstrip("/")
    for folder in [group, *group.parents]:
        with contextlib.suppress(OSError, ValueError):  # no such file there, or "max"
            found.append(int((folder / name).read_text()))
        if folder == root:
            break
    return found


def usable_vram() -> int:
    """Bytes of all GPUs that llama.cpp can use here; 0 without asking it where its build has none."""
    if not is_gpu_build():
        return 0
    command = [sys.executable, "-m", "janflask.engine.devices"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT, check=True)
        return sum(int(device["total"]) for device in json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        log.warning("the GPUs' memory cannot be told, so it is not counted: %s", error)
        return 0


def is_gpu_build() -> bool:
    """Whether llama-cpp-python came with a library for GPUs. Loads nothing."""
    package = importlib.util.find_spec("llama_cpp")
    if package is None or package.origin is None:
        return False
    libraries = (Path(package.origin).parent / "lib").glob("*ggml-*")
    names = {path.name.split("ggml-", 1)[1].split(".", 1)[0] for path in libraries}
    return any(not name.startswith(_CPU_LIBRARIES) for name in names)
