"""What tests of servers share: waiting for something to come true, processes that are left, a port that is free."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable

import psutil

LIMIT = 30.0  # seconds that anything may take on a slow machine


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come true")
        time.sleep(0.02)


def still_there(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Of a server that has ended; also what nobody has reaped: a container's first process may never do it."""
    return [process for process in processes if process.is_running()]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
