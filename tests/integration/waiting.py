"""What tests of servers share: waiting for something to come true, processes that are left, a port that is free."""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator

import psutil

LIMIT = 30.0  # seconds that anything may take on a slow machine
FIRST_PORT, PORTS, LANES = 16_000, 2_000, 8  # of a lane; all below 32,768, from where Linux picks


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
    """A port of the loopback that nobody listens on, and that this call hands out to nobody else for a long time.

    One that the system picks may be picked again, by the next call, by another lane of the tests (pytest-xdist) or by
    any client, before the server that it is for listens. These are below those that systems pick from, and each lane
    has its own.
    """
    for port in itertools.islice(_PORTS, PORTS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have ended keep no port
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"of {PORTS} ports from {FIRST_PORT} on none is free")


def _lane_ports() -> Iterator[int]:
    lane = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % LANES
    ports = range(FIRST_PORT + lane * PORTS, FIRST_PORT + (lane + 1) * PORTS)
    first = os.getpid() % PORTS  # another run of the tests beside this one starts elsewhere
    return itertools.cycle([*ports[first:], *ports[:first]])


_PORTS = _lane_ports()
