"""How many files and sockets the processes of a server may have open: an open stream takes two of a worker's."""

from __future__ import annotations

import resource
from contextlib import suppress

USUAL = 65536  # as the unit for systemd says
OTHERS = 200  # of a process, beside those of streams


def allow_many() -> int:
    """Raises this process's limit, and that of all that it will start, as far as it may. Gives the limit.

    A shell's own is often 1,024, which 500 streams use up.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = USUAL if hard == resource.RLIM_INFINITY else min(USUAL, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # some systems have a lower one that they do not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return USUAL if soft == resource.RLIM_INFINITY else soft


def needed(workers: int, threads: int) -> int:
    """By the process that has most open when every thread of every worker has an open stream."""
    return max(2 * threads, workers * threads) + OTHERS
