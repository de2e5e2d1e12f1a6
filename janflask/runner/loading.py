"""The runner's own code, imported a moment after the server's start: the process listens long before.

A start is mostly imports, and whoever waits for a first answer needs none of these. Who asks for a run does: then they
come at once. What delivers webhooks comes with them.

A data folder has one runner at a time: two would answer the same thread twice, and deliver in no order. While another
server's has it (an upgrade with SIGUSR2, a second start by mistake) its work is left to it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from janflask.errors import UnavailableError
from janflask.files.disk import opened_root
from janflask.files.locks import try_lock
from janflask.settings import Settings

if TYPE_CHECKING:
    from janflask.deliveries.deliverer import Deliverer
    from janflask.runner.runner import Runner

CLOSING = "the server is shutting down; the run goes on after its start"
TAKEN = (
    "another server works on the same data folder, and carries out its runs: ask that one, or end it; "
    "runs that are written down go on there"
)
TURN_PAUSE = 1.0  # seconds between two looks whether it has ended
DELAY = 1.0  # seconds in which a first answer is more urgent than what an earlier runner left

log = logging.getLogger(__name__)


class Loading:
    """A ``Runner`` over ``settings``' data folder that is made when it is needed. Thread-safe.

    Args:
        delay: seconds until it is made although nobody has asked for it.
    """

    def __init__(self, settings: Settings, delay: float = DELAY) -> None:
        self._settings = settings
        self._delay = delay
        self._closing = threading.Event()
        self._lock = threading.Lock()  # guards what follows
        self._runner: Runner | None = None
        self._deliverer: Deliverer | None = None
        self._turn = ExitStack()  # holds the data folder's runs, as long as there is a runner

    def start(self) -> None:
        """Begins to wait; then goes on, in a thread of its own, with every run that was left in the middle."""
        threading.Thread(target=self._recover, name="recovery", daemon=True).start()

    def runner(self) -> Runner:
        """The runner. Raises what making it does; UnavailableError while this process ends or another has the runs."""
        with self._lock:
            if self._runner is None:
                if self._closing.is_set():
                    raise UnavailableError(CLOSING, retry_after=1)
                with self._in_turn() as turn:
                    runner, deliverer = _made(self._settings)
                    deliverer.start()
                    self._turn = turn.pop_all()
                self._runner, self._deliverer = runner, deliverer
            return self._runner

    def made(self) -> Runner | None:
        """The runner if there is one already."""
        return self._runner

    def close(self) -> None:
        """See ``Runner.close``."""
        self._closing.set()
        with self._lock:
            runner, deliverer = self._runner, self._deliverer
        if runner is not None:
            runner.close()
        if deliverer is not None:
            deliverer.close()
        self._turn.close()

    @contextmanager
    def _in_turn(self) -> Iterator[ExitStack]:
        """While nobody else has the runs; for longer if what it gives is kept.

        The lock is the kernel's, on the folder of the open runs: a killed runner holds nothing up.
        """
        with ExitStack() as turn:
            if not try_lock(turn.enter_context(opened_root(self._settings.runs_dir, make=True))):
                raise UnavailableError(TAKEN, retry_after=2)
            yield turn

    def _recover(self) -> None:
        pause, told = self._delay, False
        while not self._closing.wait(pause):
            try:
                runner = self.runner()
            except UnavailableError as error:
                if not told and not self._closing.is_set():
                    log.warning("%s", error.message)
                pause, told = TURN_PAUSE, True
            except Exception:
                log.exception("the runner cannot do its work: it ends, to be started again")
                os._exit(1)
            else:
                runner.recover()
                return


def _made(settings: Settings) -> tuple[Runner, Deliverer]:
    from janflask.container import Services
    from janflask.deliveries.deliverer import Deliverer
    from janflask.models.catalog import ModelCatalog
    from janflask.runner.happened import Happened
    from janflask.runner.runner import Runner
    from janflask.storage import open_repository

    repository = open_repository(settings)
    deliverer = Deliverer(settings, Happened(repository, ModelCatalog(settings.models_dir)))
    return Runner(settings, Services.of(settings, repository), repository), deliverer
