"""What the runner answers on its socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from janflask.errors import ProtocolError
from janflask.ipc.channel import Channel
from janflask.ipc.frames import Message
from janflask.ipc.messages.runner import BeginRun, CancelRun, RunChanged, RunSaid, WatchRun
from janflask.ipc.outbox import Outbox
from janflask.processes.questions import QUESTION_TIMEOUT, QuestionServer
from janflask.runner.live import Change
from janflask.runner.runner import Runner
from janflask.storage.records import Run

WATCH_PAUSE = 0.25  # seconds between two looks at whether a watcher is still there


def runner_server(path: Path, runner: Runner) -> QuestionServer:
    """Answers for ``runner``. Raises what QuestionServer does."""
    return QuestionServer(path, "runner", lambda question, channel: _answer(runner, question, channel))


def _answer(runner: Runner, question: Message, channel: Channel) -> Iterator[Message | None]:
    match question:
        case BeginRun(thread_id, run_id):
            yield RunChanged(runner.begin(thread_id, run_id))
        case CancelRun(thread_id, run_id):
            yield RunChanged(runner.cancel(thread_id, run_id))
        case WatchRun(thread_id, run_id):
            outbox = Outbox(channel)
            with runner.watched(thread_id, run_id, lambda change: _tell(outbox, change)):
                yield from outbox.sending(WATCH_PAUSE, QUESTION_TIMEOUT)
        case _:
            raise ProtocolError(f"the runner answers no {type(question).__name__}")


def _tell(outbox: Outbox, change: Change | None) -> None:
    if change is None:
        outbox.end()
    else:
        outbox.put(RunChanged(change) if isinstance(change, Run) else RunSaid(*change))
