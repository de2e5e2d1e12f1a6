"""An address of this machine that others could reach, for tests of what is decided by where a client comes from."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from tests.integration.waiting import LIMIT

_CLONE_NEWNET = 0x40000000
_OF_OWN_NETWORK = "192.0.2.7"


def own_address() -> str | None:
    """An address of this machine that is not loopback."""
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family.name == "AF_INET" and not each.address.startswith("127."):
                return each.address
    return None


@contextmanager
def reachable_address() -> Iterator[str]:
    """One that is not loopback. Where this machine has none, this thread, and what it starts, is in a network with one.

    Raises OSError or CalledProcessError where it may have no network of its own either.
    """
    if (address := own_address()) is not None:
        yield address
        return
    with _own_network():
        for command in (["link", "set", "lo", "up"], ["addr", "add", f"{_OF_OWN_NETWORK}/32", "dev", "lo"]):
            subprocess.run(["ip", *command], check=True, capture_output=True, timeout=LIMIT)
        yield _OF_OWN_NETWORK


@contextmanager
def _own_network() -> Iterator[None]:
    libc = ctypes.CDLL(None, use_errno=True)  # os.unshare and os.setns came with Python 3.12
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_CLONE_NEWNET) != 0:
            why = os.strerror(ctypes.get_errno())
            raise OSError(f"this machine has no address but loopback, and gives us no network of our own: {why}")
        try:
            yield
        finally:
            assert libc.setns(before, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(before)
