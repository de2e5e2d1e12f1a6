"""What the runner answers on its socket."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from janflask.errors import ProtocolError
from janflask.ipc.channel import Channel
from janflask.ipc.frames import Message
from janflask.ipc.outbox import Outbox
from janflask.ipc.request_id import CURRENT
from janflask.processes.looks import Looks
from janflask.processes.questions import QUESTION_TIMEOUT, QuestionServer

if TYPE_CHECKING:
    from janflask.runner.live import Change
    from janflask.runner.runner import Runner

_LOOKS = Looks()  # at whether watchers are still there


def runner_server(
    path: Path, made: Callable[[], Runner], told: Callable[[], Runner | None] | None = None
) -> QuestionServer:
    """Answers for what ``made`` gives when somebody asks. Raises what QuestionServer does.

    ``told`` is the runner if there is one already: how many runs there are is no reason to make it.
    """
    return QuestionServer(path, "runner", lambda question, channel: _answer(made, told or made, question, channel))


def _answer(
    made: Callable[[], Runner], told: Callable[[], Runner | None], question: Message, channel: Channel
) -> Iterator[Message | None]:
    from janflask.ipc.messages.runner import GetOpenRuns, GetRunnerStats, OpenRuns, RunnerStats  # see ``loading``

    match question:
        case GetRunnerStats():
            runner = told()
            yield RunnerStats(0, 0, 0, {}, os.getpid()) if runner is None else runner.stats()
        case GetOpenRuns():
            runner = told()
            yield OpenRuns([] if runner is None else runner.open_runs(), os.getpid())
        case _:
            yield from _carried_out(made(), question, channel)


def _carried_out(runner: Runner, question: Message, channel: Channel) -> Iterator[Message | None]:
    from janflask.ipc.messages.runner import BeginRun, CancelRun, RunChanged, WatchRun

    match question:
        case BeginRun(thread_id, run_id, request_id):
            CURRENT.set(request_id)  # of this question's thread, and of the one that the run gets
            yield RunChanged(runner.begin(thread_id, run_id))
        case CancelRun(thread_id, run_id):
            yield RunChanged(runner.cancel(thread_id, run_id))
        case WatchRun(thread_id, run_id):
            outbox = Outbox(channel)
            with runner.watched(thread_id, run_id, lambda change: _tell(outbox, change)), _LOOKS.one() as pause:
                yield from outbox.sending(pause, QUESTION_TIMEOUT)
        case _:
            raise ProtocolError(f"the runner answers no {type(question).__name__}")


def _tell(outbox: Outbox, change: Change | None) -> None:
    from janflask.ipc.messages.runner import RunChanged, RunSaid

    if change is None:
        outbox.end()
    else:
        outbox.put(RunSaid(*change) if isinstance(change, tuple) else RunChanged(change))
