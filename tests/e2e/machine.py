"""A machine with systemd in it, in namespaces of its own, that runs conf/janflask.service as it is shipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.e2e.container import end
from tests.e2e.server import LIMIT, ROOT, wait_for

SYSTEMD = Path("/lib/systemd/systemd")
UNSHARE = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts", "--net", "--cgroup"]

# All that systemd would ask for before and around a service, and nothing in it.
STUBS = ("sysinit", "basic", "shutdown", "sockets", "multi-user", "network")

# Its own log is the only thing that is not as it is shipped: there is no journal.
LOGGED = "[Service]\nStandardOutput=append:/run/janflask.log\nStandardError=append:/run/janflask.log\n"
ENV = """\
PYTHONPATH=/opt/janflask:/opt/packages:/opt/janflask/ext
LD_LIBRARY_PATH=/opt/python/lib
PYTHONDONTWRITEBYTECODE=1
JANFLASK_CTX_LEN=512
JANFLASK_N_PARALLEL=4
JANFLASK_CPU_THREADS=1
JANFLASK_FLASH_ATTN=0
JANFLASK_KV_UNIFIED=0
JANFLASK_SLICE_SIZE=64
"""


def why_not() -> str | None:
    """Why there can be no such machine here."""
    if os.geteuid() != 0:
        return "needs root, for namespaces"
    if not SYSTEMD.exists():
        return "needs systemd (Debian: systemd)"
    if shutil.which("curl") is None:
        return "needs curl (Debian: curl)"
    return None


class Machine:
    """One whose systemd runs. ``pid`` is its first process."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid = pid
        self.log = log

    def run(self, *command: str, check: bool = True) -> str:
        """What a command in it says."""
        inside = ["nsenter", "-t", str(self.pid), "-m", "-p", "-n", "-i", "-u", "--", *command]
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_UNIT_PATH": "/run/units"}
        done = subprocess.run(inside, env=env, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert done.returncode == 0 or not check, f"{command}: {done.stderr}\n{self.logs()}"
        return done.stdout

    def about(self, what: str, unit: str = "janflask.service") -> str:
        """A property of the unit."""
        return self.run("systemctl", "show", "--property", what, "--value", unit).strip()

    def curl(self, path: str, *options: str) -> str:
        return self.run("curl", "-sS", "--max-time", str(int(LIMIT)), *options, f"http://127.0.0.1:1337{path}")

    def logs(self) -> str:
        inside = ["nsenter", "-t", str(self.pid), "-m", "--", "cat", "/run/janflask.log"]
        own = subprocess.run(inside, capture_output=True, text=True, timeout=LIMIT, check=False).stdout
        return f"{self.log.read_text()}\n{own}"


@contextmanager
def machine(folder: Path, data_dir: Path, wanted: str) -> Iterator[Machine]:
    """A machine that brings up ``wanted`` (units). Nothing of it is left.

    Args:
        folder: for what it is made of.
        data_dir: is copied into it.
    """
    units = folder / "units"
    units.mkdir()
    for name in STUBS:
        (units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    (units / "test.target").write_text(f"[Unit]\nDefaultDependencies=no\nWants={wanted}\n")
    for name in ("janflask.service", "janflask.socket"):
        shutil.copy(ROOT / "conf" / name, units / name)
    with (units / "janflask.service").open("a") as unit:
        unit.write(f"\n{LOGGED}")
    (units / "janflask.env").write_text(ENV)
    packages = sysconfig.get_paths()["purelib"]
    arguments = [str(ROOT), str(data_dir), str(units), sys.base_prefix, packages]
    script = str(Path(__file__).with_suffix(".sh"))
    log = folder / "systemd.log"
    with own_group() as group, log.open("w") as output:
        command = ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", *UNSHARE]
        process = subprocess.Popen(
            [*command, "bash", script, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            wait_for(lambda: process.poll() is not None or _first(process.pid) is not None, "systemd")
            pid = _first(process.pid)
            assert pid is not None, log.read_text()
            made = Machine(pid, log)
            wait_for(lambda: made.run("ls", "/run/systemd", check=False).count("private"), "systemd to answer")
            yield made
        finally:
            end(process)


def _first(pid: int) -> int | None:
    try:
        return next((each.pid for each in psutil.Process(pid).children() if each.name() == "systemd"), None)
    except psutil.NoSuchProcess:
        return None


@contextmanager
def own_group() -> Iterator[Path]:
    """A control group in which the machine's can be, and which it takes for the topmost."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    top = next((Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"), None)
    assert top is not None, "no cgroup2 file system is mounted"
    group = top / f"janflask-test-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        wait_for(lambda: _removed(group), "the control group to be empty")


def _removed(group: Path) -> bool:
    for path, _, _ in os.walk(group, topdown=False):
        try:
            Path(path).rmdir()
        except OSError:
            return False
    return not group.exists()
