"""How the server leaves at SIGTERM: no longer ready, then no longer listening, then what is under way ends.

gunicorn's master closes its port at SIGTERM and waits for its workers. What knows only by asking (a load balancer, the
other machines of a cluster) goes on sending requests for a moment, so that may wait for ``drain_delay``. A second
SIGTERM hurries, as a Ctrl-C does. Light on imports.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from janflask.ipc.shutdown import DRAINING_NAME, THIS_PROCESS, TIME_IS_UP

LAST_WORDS = 2.0  # seconds between the end of a worker's time and gunicorn's SIGKILL


class Drain:
    """Takes SIGTERM's place in gunicorn's master. All is called by its main loop.

    Args:
        server: gunicorn's arbiter.
        runtime_dir: where the workers see that it has begun.
        delay: seconds in which new requests are still answered.
        hopeless: says that nobody can be answered; then nothing waits.
    """

    def __init__(self, server: Any, runtime_dir: Path, delay: float, hopeless: Callable[[], bool]) -> None:
        self._server = server
        self._mark = runtime_dir / DRAINING_NAME
        self._delay = delay
        self._hopeless = hopeless
        self._begun = False
        self._over = False  # the delay is
        self._leave: Callable[[], None] = server.handle_term
        server.handle_term = self.on_term  # gunicorn finds its handlers by their names

    def on_term(self) -> None:
        """Raises StopIteration, gunicorn's way to end, now or at the SIGTERM that comes when the delay is over."""
        if self._begun and not self._over:
            self._server.log.info("A second SIGTERM: leaving now")
            self._server.handle_quit()
        self._begun = True
        self._mark.touch(mode=0o600)
        if self._delay > 0 and not (self._over or self._hopeless()):
            self._server.log.info("Draining: new requests are answered for %g s more", self._delay)
            timer = threading.Timer(self._delay, self._end_delay)
            timer.daemon = True
            timer.start()
            return
        signal.signal(signal.SIGTERM, self._hurry)
        self._leave()

    def _end_delay(self) -> None:
        self._over = True
        self._server.SIG_QUEUE.put_nowait(signal.SIGTERM)

    def _hurry(self, number: int, frame: FrameType | None) -> None:
        """gunicorn itself hears no second SIGTERM while it waits for its workers."""
        self._server.SIG_QUEUE.put_nowait(signal.SIGQUIT)


def has_connected(listener: socket.socket) -> bool:
    """Whether somebody has, whom nobody has accepted yet."""
    poll = select.poll()  # light, and right for descriptors above 1023
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))


def follow_in_worker(seconds: float) -> None:
    """What a worker has under way ends at SIGTERM within so many seconds, at SIGQUIT now. From its main thread.

    What only tells of something that goes on without it ends as soon as the worker is told to end. At SIGQUIT who hears
    of nothing (it reads a body that does not come) has a moment, too, then the process ends without it.
    """
    for number in (signal.SIGTERM, signal.SIGQUIT):
        THIS_PROCESS.begins_at(number)
    TIME_IS_UP.begins_at(signal.SIGQUIT)
    _with_timer(signal.SIGTERM, seconds)
    _with_timer(signal.SIGQUIT, LAST_WORDS)
    signal.signal(signal.SIGALRM, _on_timer)  # which interrupts: the main thread may be waiting for the others by then
    signal.siginterrupt(signal.SIGTERM, False)  # as gunicorn has it: an answer under way is not to be disturbed


def _with_timer(number: int, seconds: float) -> None:
    """The signal also sets the timer, before what it does so far."""
    before: Any = signal.getsignal(number)

    def handle(number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        before(number, frame)

    signal.signal(number, handle)


def _on_timer(number: int, frame: FrameType | None) -> None:
    if TIME_IS_UP.begun:
        os._exit(0)
    TIME_IS_UP.begin()
