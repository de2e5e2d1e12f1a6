"""A process that is about to end tells what waits in it, and only in it."""

from __future__ import annotations

import os
import select

from janflask.ipc.shutdown import Shutdown


def has_begun(shutdown: Shutdown) -> bool:
    poll = select.poll()
    poll.register(shutdown.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def test_a_forked_process_has_an_end_of_its_own() -> None:
    shutdown = Shutdown()
    child = os.fork()
    if child == 0:
        before = has_begun(shutdown)
        shutdown.begin()
        os._exit(0 if has_begun(shutdown) and not before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not has_begun(shutdown)
    shutdown.begin()
    shutdown.begin()
    assert has_begun(shutdown)
