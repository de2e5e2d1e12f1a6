"""Answers that are not stored: they are asked for and given without anything on the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from janflask.errors import InvalidRequestError
from janflask.inference.backend import Counted
from janflask.inference.backends import Backends
from janflask.inference.deltas import Events
from janflask.inference.requests import ChatRequest, TemplateRequest
from janflask.inference.tries import Tries
from janflask.inference.waiting import Waiter
from janflask.inference.window import conversation
from janflask.services.answers import AnswerService
from janflask.services.compacted import LEADING, shown
from janflask.services.compaction import Compaction, Compactions, told_of
from janflask.services.models import ModelService
from janflask.services.prompts import Begun, Prompts, RunPrompt, uncounted
from janflask.storage.answers import AnswerDraft
from janflask.storage.records import Message, Run


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be answered. ``run`` is like one that is stored, but of no thread."""

    run: Run
    messages: Sequence[Message]
    keep_state: bool


class UnstoredAnswers:
    """Has conversations answered that may go on with stored ones, and are not stored themselves. Thread-safe."""

    def __init__(
        self, answers: AnswerService, backends: Backends, models: ModelService, compactions: Compactions
    ) -> None:
        self._answers = answers
        self._models = models
        self._backends = backends
        self._compactions = compactions

    def asked(self, draft: AnswerDraft) -> Asked:
        """Raises what ``AnswerService.create`` does for what is wrong with ``draft``."""
        run, messages = self._answers.drafted(draft)
        return Asked(run, messages, draft.keep_state)

    def compacted(self, asked: Asked, waiter: Waiter) -> Asked:
        """With a summary of what is older, if the prompt is longer than the run has it. Raises as ``Compactions.of``.

        Its client hears nothing until it is made.
        """
        run = asked.run
        if run.compact_threshold is None:
            return asked
        summary = self._compactions.of(run, asked.messages, waiter)
        if summary is None:
            return asked
        return replace(asked, run=replace(run, compaction=told_of(summary)), messages=(*asked.messages, summary))

    def summed_up(self, asked: Asked, waiter: Waiter) -> tuple[Compaction, Sequence[Message]]:
        """All of a conversation, and its messages. Raises InvalidRequestError for an empty one, and as ``whole``."""
        messages = conversation(shown(asked.messages))
        if all(message.role in LEADING for message in messages):
            raise InvalidRequestError("there is nothing that could be summed up: send input", param="input")
        run = asked.run
        return self._compactions.whole(run.model, messages, waiter, Tries(), run.instructions), messages

    def prompt(self, asked: Asked, waiter: Waiter) -> RunPrompt:
        """What the model is shown. Raises what ``Prompts.of`` does.

        The model is waited for only where the oldest turns may have to be left out.
        """
        if asked.run.truncates:
            prompts = Prompts(self._backends, self._models, Tries())
            prompt = prompts.of(asked.run, asked.messages, Begun(), waiter)
        else:
            prompt = RunPrompt(uncounted(asked.run, asked.messages), (), 0, 0)
        request = replace(prompt.request, conversation=None, keep_state=asked.keep_state)
        return replace(prompt, request=request)

    def events(self, request: ChatRequest, waiter: Waiter, beat: float) -> Events:
        """The answer, as ``Backend.chat`` has it."""
        return self._backends.of(request.model).chat(request, waiter, beat)

    def count(self, asked: Asked, waiter: Waiter) -> Counted:
        """How many tokens the whole prompt has."""
        request = uncounted(asked.run, asked.messages)
        return self._backends.of(request.model).count(TemplateRequest.of(request), waiter)
