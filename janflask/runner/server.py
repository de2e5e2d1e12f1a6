"""What the runner answers on its socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from janflask.errors import ProtocolError
from janflask.ipc.frames import Message
from janflask.ipc.messages.runner import BeginRun, CancelRun, RunChanged, RunSaid, WatchRun
from janflask.processes.questions import QuestionServer
from janflask.runner.runner import Runner
from janflask.storage.records import Run


def runner_server(path: Path, runner: Runner) -> QuestionServer:
    """Answers for ``runner``. Raises what QuestionServer does."""
    return QuestionServer(path, "runner", lambda question: _answer(runner, question))


def _answer(runner: Runner, question: Message) -> Iterator[Message | None]:
    match question:
        case BeginRun(thread_id, run_id):
            yield RunChanged(runner.begin(thread_id, run_id))
        case CancelRun(thread_id, run_id):
            yield RunChanged(runner.cancel(thread_id, run_id))
        case WatchRun(thread_id, run_id):
            for change in runner.watch(thread_id, run_id):
                if change is None:
                    yield None
                else:
                    yield RunChanged(change) if isinstance(change, Run) else RunSaid(*change)
        case _:
            raise ProtocolError(f"the runner answers no {type(question).__name__}")
