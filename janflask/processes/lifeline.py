"""No process of ours outlives the one that started it. Standard library only.

A child is told its parent's process id in ``JANFLASK_PARENT_PID`` and holds on to it in two ways:

* a thread asks ``getppid`` every 0.25 s. It works on every Unix, and lets a last clean-up run;
* on Linux the kernel can send a signal at the parent's death (``PR_SET_PDEATHSIG``). That also ends a child whose
  native code hangs with the GIL held, where no Python thread runs. The kernel means the parent's *thread* that made the
  child: that thread has to live as long as the child is wanted.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

PARENT_VARIABLE = "JANFLASK_PARENT_PID"
INTERVAL = 0.25  # seconds
EXIT_CODE = 70  # EX_SOFTWARE

_PR_SET_PDEATHSIG = 1

log = logging.getLogger(__name__)


def hold_from_env(last: Callable[[], None] | None = None, *, kill: bool = False) -> bool:
    """``hold`` with the parent that ``JANFLASK_PARENT_PID`` names; False when there is no such variable (run by hand).

    Raises ValueError when the variable is no number.
    """
    text = os.environ.get(PARENT_VARIABLE)
    if text is None:
        return False
    hold(int(text), last, kill=kill)
    return True


def hold(parent_pid: int, last: Callable[[], None] | None = None, *, kill: bool = False) -> None:
    """From now on this process ends when ``parent_pid`` is no longer its parent, at once if it is not now.

    ``last`` runs before, in the watching thread. With ``kill`` the kernel may end the process without it: right for a
    process that has nothing to tidy up. Call it from the main thread.
    """
    if kill and sys.platform == "linux":
        _die_with_parent()
    threading.Thread(target=_watch, args=(parent_pid, last), name="lifeline", daemon=True).start()


def _die_with_parent() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        log.warning("no signal at the parent's death (%s); polling alone", os.strerror(ctypes.get_errno()))


def _watch(parent_pid: int, last: Callable[[], None] | None) -> None:
    while os.getppid() == parent_pid:
        time.sleep(INTERVAL)
    try:
        log.warning("process %d, which started this one, is gone: ending", parent_pid)
        if last is not None:
            last()
    finally:
        os._exit(EXIT_CODE)
