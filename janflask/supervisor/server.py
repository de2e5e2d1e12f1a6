"""What the supervisor answers on its socket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from janflask.errors import ProtocolError
from janflask.ipc.frames import Message
from janflask.ipc.messages.supervisor import (
    AwaitedModels,
    CancelDownload,
    GetAwaited,
    GetBudget,
    GetStates,
    StartDownload,
    StartModel,
    State,
    States,
    StopModel,
    WatchModel,
)
from janflask.processes.questions import QuestionServer
from janflask.supervisor.supervisor import Supervisor


def supervisor_server(path: Path, supervisor: Supervisor) -> QuestionServer:
    """Answers for ``supervisor``. Raises what QuestionServer does."""
    return QuestionServer(path, "supervisor", lambda question, channel: _answer(supervisor, question))


def _answer(supervisor: Supervisor, question: Message) -> Iterator[Message | None]:
    match question:
        case StartModel(model_id, settings):
            yield State(supervisor.start(model_id, settings))
        case StopModel(model_id):
            yield State(supervisor.stop(model_id))
        case GetStates():
            yield States(supervisor.states(), os.getpid())
        case GetBudget():
            yield supervisor.budget()
        case GetAwaited():
            yield AwaitedModels(supervisor.awaited())
        case WatchModel(model_id):
            for state in supervisor.watch(model_id):
                yield None if state is None else State(state)
        case StartDownload(request):
            yield State(supervisor.download(request))
        case CancelDownload(model_id):
            yield State(supervisor.cancel_download(model_id))
        case _:
            raise ProtocolError(f"the supervisor answers no {type(question).__name__}")
