"""What glibc's allocator is told in the server's processes; another allocator does not hear it."""

from __future__ import annotations

import contextlib
import ctypes
import os

ARENAS = 2  # at most; else each thread gets one of its own, up to eight a core, with holes that no other thread uses
ALLOCATOR = {"MALLOC_ARENA_MAX": str(ARENAS)}  # for the environment of a process that is started

# Nor does each of the runner's many threads, most of which wait, keep what it has freed for itself: up to 230 kB.
RUNNER_ALLOCATOR = {**ALLOCATOR, "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}

# KV states of all sizes come and go. glibc would put them on the heap as soon as one was freed (it raises its threshold
# to the largest one), where the holes between them never go back to the system. In bytes.
ENGINE_ALLOCATOR = {**ALLOCATOR, "MALLOC_MMAP_THRESHOLD_": str(1 << 20), "MALLOC_TRIM_THRESHOLD_": str(4 << 20)}

_M_ARENA_MAX = -8  # of <malloc.h>


def have_few_arenas() -> None:
    """The same for this process, which others have started, and for those that it forks."""
    is_set = "MALLOC_ARENA_MAX" in os.environ or "malloc.arena_max" in os.environ.get("GLIBC_TUNABLES", "")
    if not is_set:
        with contextlib.suppress(AttributeError):  # not glibc
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)
