"""What runs and answers have in common when they are made: their model, and that the runner hears of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from janflask.errors import InvalidRequestError, NotFoundError, UnavailableError
from janflask.ipc.clients.runner import RunnerClient
from janflask.services.models import ModelService
from janflask.storage.base import RunStore
from janflask.storage.records import Run

ANY_MODEL = "*"
TIMEOUT = 10.0  # seconds the runner may take to answer

log = logging.getLogger(__name__)


def chosen_model(models: ModelService, names: Iterable[object], who: str) -> str:
    """The first of ``names`` that is one, else the only model there is.

    Raises ModelNotFoundError, and InvalidRequestError, which says that ``who`` names none, when there is a choice.
    """
    for name in names:
        if isinstance(name, str) and name not in ("", ANY_MODEL):
            return models.card(name).id
    usable = models.usable()
    if len(usable) != 1:
        known = ", ".join(usable[:8]) or "none; POST /v1/models fetches one"
        raise InvalidRequestError(f"{who} names a model: set model (there are: {known})", param="model")
    return usable[0]


def begun(runner: RunnerClient, run: Run) -> Run:
    """The run, which is on disk, as the runner has it; one that is not there goes on with it later."""
    try:
        return runner.begin(run.thread_id, run.id, TIMEOUT)
    except UnavailableError as error:
        log.warning("run %s begins when the runner is back: %s", run.id, error.message)
        return run


def answering(runs: RunStore, runner: RunnerClient, thread_id: str) -> str | None:
    """The thread's run that is under way, after the runner has looked whether it still is."""
    run_id = runs.open_run(thread_id)
    if run_id is None:
        return None
    revive(runner, thread_id, run_id)
    return runs.open_run(thread_id)


def revive(runner: RunnerClient, thread_id: str, run_id: str) -> None:
    """A process that died between writing a run down and saying so leaves one that nobody has heard of."""
    try:
        runner.begin(thread_id, run_id, TIMEOUT)
    except (UnavailableError, NotFoundError) as error:
        log.info("run %s could not be asked for: %s", run_id, error.message)
