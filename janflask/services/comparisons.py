"""A response is compared with a stored one that its prompt should have begun like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from janflask.errors import NotFoundError
from janflask.inference.leftovers import NO_TOOLS
from janflask.inference.window import conversation
from janflask.services.answers import AnswerService
from janflask.services.cache_diagnostics import CacheDiagnostics, Fingerprint, compared
from janflask.services.compacted import as_json, shown
from janflask.services.inherited import run_parameters
from janflask.storage.answers import AnswerDraft
from janflask.storage.base import Repository
from janflask.storage.items import ItemKind, is_summary, readable_items
from janflask.storage.records import Message, Run, RunKind

COMPARISON = "prompt_cache_comparison"  # of what is kept of a request: what ``compared`` gave


class Comparisons:
    """Makes comparisons. Thread-safe."""

    def __init__(self, repository: Repository, answers: AnswerService, diagnostics: CacheDiagnostics) -> None:
        self._threads = repository.threads
        self._answers = answers
        self._diagnostics = diagnostics

    def made(self, draft: AnswerDraft) -> AnswerDraft:
        """``draft``, which keeps the comparison that it asks for. Raises what ``AnswerService.create`` does."""
        named = (draft.asked.get("prompt_cache_options") or {}).get("comparison_response_id")
        if not named:
            return draft
        run, messages = self._answers.drafted(draft)
        now = self._fingerprint(run, messages)
        before, is_new_summary = self._stored(named, messages)
        kept = compared(before, now, is_compacted=is_new_summary)
        return replace(draft, asked={**draft.asked, COMPARISON: kept})

    def _stored(self, name: str, messages: Sequence[Message]) -> tuple[Fingerprint | None, bool]:
        """The fingerprint of a stored response, and whether ``messages`` have a summary that it did not have."""
        try:
            run = self._answers.get(name, RunKind.RESPONSE)
            before = self._before(run)
        except NotFoundError:
            return None, False
        summaries = {message.id for message in before if is_summary(message)}
        is_new = any(is_summary(message) and message.id not in summaries for message in messages)
        return self._fingerprint(run, before), is_new

    def _before(self, run: Run) -> list[Message]:
        """The thread up to the response's own words."""
        messages = list(self._threads.all_messages(run.thread_id))
        own = {*run.input_ids, run.compaction.get("message_id")}
        ends = [number for number, message in enumerate(messages) if message.id in own]
        first = next((number for number, item in enumerate(messages) if item.id == run.message_id), len(messages))
        return messages[: ends[-1] + 1 if ends else first]

    def _fingerprint(self, run: Run, messages: Sequence[Message]) -> Fingerprint:
        items = [item for message in conversation(shown(messages)) for item in readable_items(message)]
        return self._diagnostics.fingerprint(
            model=run.model,
            tools=() if run.tool_choice == NO_TOOLS else run.tools,
            instructions=run.instructions,
            settings=run_parameters(run)["chat_template_kwargs"],
            # What was thought is shown for a while only.
            messages=[as_json(item) for item in items if item.kind is not ItemKind.REASONING],
            tokens=run.prompt_tokens or 0,
        )
