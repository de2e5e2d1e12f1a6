"""A runner on the memory repository, whose model says what a test wants it to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, cast

from janflask.container import Services
from janflask.errors import JanflaskError
from janflask.files import ids
from janflask.inference.backend import BackendInfo, Counted
from janflask.inference.deltas import Done, Event, Events, Finished, ReasoningDelta, Started, TextDelta, ToolCallDelta
from janflask.inference.requests import ChatRequest, LaidOut, TemplateRequest, TokenizeRequest
from janflask.inference.tries import Tries
from janflask.inference.waiting import Waiter
from janflask.ipc.messages.generation import Timings, Usage
from janflask.models.card import ModelCard
from janflask.runner.live import Change
from janflask.runner.runner import Runner
from janflask.services.compaction import Compactions
from janflask.services.run_calls import answered
from janflask.settings import Settings
from janflask.storage.memory import memory_repository
from janflask.storage.records import Message, Run, RunKind, Thread
from janflask.storage.run_log import texts_of
from tests.fakes.crossing import crossing

CONTEXT = 64  # tokens; a token is a word
LIMIT = 60.0  # seconds that nothing happens to a run
TIMINGS = Timings(cache_n=0, prompt_n=0, prompt_ms=0, predicted_n=0, predicted_ms=0, queue_ms=0)
Script = Callable[[ChatRequest, Waiter], Iterator[list[Event]]]


def saying(*pieces: str, reason: str = "stop") -> Script:
    """A model that says this, and ends."""

    def script(request: ChatRequest, waiter: Waiter) -> Iterator[list[Event]]:
        yield []
        yield [Started(7)]
        for piece in pieces:
            yield [TextDelta(0, piece)]
        yield [Finished(0, reason)]
        yield [Done(Usage(prompt_tokens=7, completion_tokens=len(pieces), cached_tokens=2), TIMINGS)]

    return script


def calling(*calls: tuple[str, str, str], text: str = "", thought: str = "") -> Script:
    """A model that says ``text`` and calls functions: id, name, arguments."""

    def script(request: ChatRequest, waiter: Waiter) -> Iterator[list[Event]]:
        yield [Started(7)]
        if thought:
            yield [ReasoningDelta(0, thought)]
        if text:
            yield [TextDelta(0, text)]
        for number, (call_id, name, arguments) in enumerate(calls):
            yield [ToolCallDelta(0, number, call_id, name)]
            for piece in (arguments[:3], arguments[3:]):
                yield [ToolCallDelta(0, number, arguments=piece)]
        yield [Finished(0, "tool_calls")]
        yield [Done(Usage(prompt_tokens=10, completion_tokens=4, cached_tokens=1), TIMINGS)]

    return script


def failing(error: JanflaskError, *pieces: str) -> Script:
    """A model that says this, and fails, in a process of its own."""

    def script(request: ChatRequest, waiter: Waiter) -> Iterator[list[Event]]:
        if pieces:
            yield [Started(7), *[TextDelta(0, piece) for piece in pieces]]
        raise crossing(error)

    return script


def hanging(*pieces: str) -> Script:
    """A model that says this, and nothing more for ever."""

    def script(request: ChatRequest, waiter: Waiter) -> Iterator[list[Event]]:
        yield [Started(7), *[TextDelta(0, piece) for piece in pieces]]
        while True:
            waiter.wait(60)
            yield []

    return script


@dataclass
class FakeModel:
    """Plays one script for each request, the last one again and again."""

    scripts: list[Script] = field(default_factory=list)
    requests: list[ChatRequest] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)  # what it was asked, in order

    def of(self, model_id: str) -> FakeModel:
        return self

    def chat(self, request: ChatRequest, waiter: Waiter, beat: float, tries: Tries) -> Events:
        self.calls.append("chat")
        self.requests.append(request)
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        yield from script(request, waiter)

    def count(self, request: TemplateRequest | TokenizeRequest, waiter: Waiter, tries: Tries) -> Counted:
        self.calls.append("count")
        if isinstance(request, TokenizeRequest):
            return Counted(len(request.content.split()))
        tokens = (0,) * sum(len(message.text.split()) for message in request.messages)
        return Counted(len(tokens), LaidOut("", (), tokens))

    def info(self, waiter: Waiter, overrides: Mapping[str, Any] | None = None) -> BackendInfo:
        self.calls.append("info")
        return BackendInfo(CONTEXT)

    def card(self, model_id: str) -> ModelCard:
        return ModelCard(
            id=model_id,
            name=model_id,
            path=None,
            size_bytes=0,
            created=0,
            settings={},
            parameters={},
            metadata={},
            raw={},
        )


class RunWorld:
    """Threads and what answers them."""

    def __init__(self, *scripts: Script, most: int = 4) -> None:
        self.model = FakeModel(list(scripts))
        self.repository = memory_repository()
        self.settings = Settings()
        self._most = most
        self.compactions: Compactions | None = None  # for runs that have a threshold
        self.runner = self.new_runner()

    def new_runner(self) -> Runner:
        """Another process, as it were."""
        model = self.model
        services = SimpleNamespace(settings=self.settings, backends=model, models=model, compactions=self.compactions)
        self.runner = Runner(self.settings, cast(Services, services), self.repository, self._most)
        return self.runner

    def thread(self, *texts: str, title: str = "") -> str:
        """A thread in which the user says these."""
        now, thread_id = ids.now_ms(), ids.new_id(ids.THREAD)
        messages = [message(thread_id, text) for text in texts]
        self.repository.threads.create(Thread(id=thread_id, created_ms=now, updated_ms=now, title=title), messages)
        return thread_id

    def run(self, thread_id: str, lasts: float = 60, **fields: Any) -> Run:
        """A new run, not begun; it expires after ``lasts`` seconds."""
        now = ids.now_ms()
        is_response = fields.get("kind") is RunKind.RESPONSE
        run = Run(
            id=ids.new_answer_id(ids.RESPONSE, thread_id) if is_response else ids.new_id(ids.RUN),
            thread_id=thread_id,
            assistant_id="jan",
            message_id=ids.new_id(ids.MESSAGE),
            step_id=ids.new_id("step_"),
            created_ms=now,
            expires_ms=now + int(lasts * 1000),
            model="m",
            **fields,
        )
        assert self.repository.runs.create(run)
        return run

    def done(self, run: Run) -> Run:
        """The run once it is over."""
        for _ in watch(self.runner, run):
            pass
        return self.repository.runs.get(run.thread_id, run.id)

    def waiting(self, run: Run) -> Run:
        """The run once it waits for the outputs of calls, or is over."""
        return self.done(run)

    def submit(self, run: Run, **outputs: str) -> Run:
        """The run, on disk with the outputs by the ids of its calls, and about to go on."""
        given = list(outputs.items())
        submitted = self.repository.runs.update(
            run.thread_id, run.id, lambda run: answered(run, given, self.settings.max_message_mb << 20)
        )
        self.runner.begin(run.thread_id, run.id)
        return submitted

    def saying(self, run: Run, text: str) -> None:
        """Returns when the run under way has said ``text``."""
        said = ""
        for change in watch(self.runner, run):
            if isinstance(change, tuple):
                said += "".join(texts_of(change[1]))
            if said == text:
                return
        raise RuntimeError(f"it said {said!r}")

    def messages(self, run: Run) -> list[Message]:
        """The replies that are stored."""
        return [message for message in self.repository.threads.all_messages(run.thread_id) if message.run_id == run.id]


def watch(runner: Runner, run: Run) -> Iterator[Change]:
    """The run now, its events, and every change until it is final or the runner ends."""
    heard: SimpleQueue[Change | None] = SimpleQueue()
    with runner.watched(run.thread_id, run.id, heard.put):
        while (change := heard.get(timeout=LIMIT)) is not None:
            yield change


def message(thread_id: str, text: str, role: str = "user") -> Message:
    """One that says ``text``."""
    content = ({"type": "text", "text": {"value": text, "annotations": []}},)
    return Message(id=ids.new_id(ids.MESSAGE), thread_id=thread_id, created_ms=ids.now_ms(), role=role, content=content)
