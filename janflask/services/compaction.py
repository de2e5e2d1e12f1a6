"""Compaction: the model sums up the older part of a conversation, and the summary stands for it from then on.

The summary is written by the model that answers, by a request of its own: no tools, no thoughts, a bounded length. What
is longer than the model's context is summed up in parts, each together with the summary of those before it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from janflask.errors import ContextLengthExceededError, EngineError, TemplateGivenUpError
from janflask.files import ids
from janflask.inference.backend import Backend
from janflask.inference.backends import Backends
from janflask.inference.deltas import Done, TextDelta
from janflask.inference.requests import ChatMessage, ChatRequest, TemplateRequest, TokenizeRequest
from janflask.inference.totals import total
from janflask.inference.tries import Tries
from janflask.inference.waiting import Waiter
from janflask.inference.window import conversation
from janflask.ipc.messages.engine import MAX_TEXT
from janflask.ipc.messages.generation import Usage
from janflask.services.compacted import Parts, all_but_instructions, carried, drafts_of, in_two, shown, texts
from janflask.services.prompts import is_too_long, pieces, uncounted
from janflask.services.seals import Seals
from janflask.storage.items import ItemDraft, SealedDraft, sealed_of, summary_field
from janflask.storage.records import Message, Run, text_part

KIND = "compaction"  # of its seals
LONGEST = 1024  # tokens of a summary, or an eighth of the context if that is less
SHORTEST = 32
_PIECE = MAX_TEXT // 2  # characters that are sent at once
_BEAT = 1.0  # seconds between two looks at a silent model; nobody is told of them

_SYSTEM = (
    "You sum up conversations between a user and an assistant, so that they can go on from your summary alone. "
    "Keep what the user wants and has decided; facts, names, numbers, paths and commands that may be needed again; "
    "what was done and what came of it; what is still to be done. Leave out what is settled. Write plain text, and "
    "nothing but the summary."
)
_WITH = "\n\nThese are the assistant's instructions:\n"
_END = "\n\nSum up this conversation."
_SO_FAR = "Summary of what was before:\n"
_WORDS = "The user's own words:\n\n"
_SUMMARY = "\n\nWhat was said and done:\n\n"


@dataclass(frozen=True, slots=True)
class Compaction:
    """A summary, what it keeps beside itself, and what making it took."""

    text: str
    encrypted_content: str
    kept: tuple[str, ...]  # ids of messages
    usage: Usage

    def message(self, run: Run) -> Message:
        """The line of the run's thread that stands for what is before it."""
        now = ids.now_ms()
        return Message(
            id=ids.new_id(ids.MESSAGE),
            thread_id=run.thread_id,
            created_ms=now,
            completed_ms=now,
            role="assistant",
            content=(text_part(self.text),),
            run_id=run.id,
            extra=summary_field(self.kept, self.encrypted_content),
        )


def told_of(summary: Message) -> dict[str, Any]:
    """What a run keeps of a summary that was made for it."""
    return {"message_id": summary.id, "encrypted_content": sealed_of(summary), "at": summary.created_ms}


class Compactions:
    """Makes compactions, and reads those that clients bring back. Thread-safe."""

    def __init__(self, backends: Backends, seals: Seals) -> None:
        self._backends = backends
        self._seals = seals

    def unsealed(
        self, drafts: Sequence[ItemDraft], places: Sequence[str]
    ) -> tuple[tuple[ItemDraft, ...], tuple[str, ...]]:
        """An input with what its compactions stand for in their places. Raises InvalidEncryptedContentError."""
        found: list[tuple[ItemDraft, str]] = []
        for draft, place in zip(drafts, places, strict=True):
            if isinstance(draft, SealedDraft) and draft.kind == KIND:
                text = self._seals.opened(KIND, draft.sealed, param=f"{place}.encrypted_content")
                found += [(each, place) for each in drafts_of(text, draft.sealed)]
            else:
                found.append((draft, place))
        return tuple(draft for draft, _ in found), tuple(place for _, place in found)

    def due(self, prompt: TemplateRequest, threshold: int, waiter: Waiter, tries: Tries) -> bool:
        """Whether the prompt is longer than ``threshold`` tokens, or than three quarters of the context."""
        if is_too_long(prompt.messages):
            return True
        backend = self._backends.of(prompt.model)
        try:
            tokens = backend.count(prompt, waiter, tries).tokens
        except TemplateGivenUpError:
            return True
        return tokens > _within(threshold, backend.info(waiter).ctx_len)

    def of(self, run: Run, messages: Sequence[Message], waiter: Waiter) -> Message | None:
        """A summary of the older part of ``messages`` if they are too long a prompt for ``run``, not yet stored.

        None where that is not so, or where nothing is older. Raises as ``whole``.
        """
        tries = Tries()
        self._backends.of(run.model).info(waiter, overrides=run.settings)  # one that does not run is started with them
        threshold = run.compact_threshold or sys.maxsize
        if not self.due(TemplateRequest.of(uncounted(run, messages)), threshold, waiter, tries):
            return None
        made = self.older(run.model, conversation(shown(messages)), threshold, waiter, tries)
        return None if made is None else made.message(run)

    def older(
        self, model: str, messages: Sequence[Message], threshold: int, waiter: Waiter, tries: Tries
    ) -> Compaction | None:
        """The older part of what a model would be shown is summed up: the newest quarter of ``threshold`` stays.

        None where there is nothing older. Raises as ``whole``.
        """
        ask = _Asking(self._backends.of(model), model, "", waiter, tries)
        quarter = _within(threshold, ask.context) // 4
        ask.room = min(ask.room, max(SHORTEST, quarter))
        parts = in_two(messages, lambda step: ask.tokens(texts(step)), quarter)
        if not any(texts(parts.older)):
            return None
        summary = ask.summary(tuple(texts(parts.older)))
        return self._compaction(summary, parts, ask)

    def whole(
        self, model: str, messages: Sequence[Message], waiter: Waiter, tries: Tries, instructions: str = ""
    ) -> Compaction:
        """All of a conversation is summed up; the user's newest words, as many as fit, stand in it as they are.

        The model is told ``instructions`` that are no longer than a summary.

        Raises ContextLengthExceededError for a context that has no room for a summary, EngineError when the model says
        nothing, and what a backend does.
        """
        ask = _Asking(self._backends.of(model), model, instructions, waiter, tries)
        parts = all_but_instructions(messages)
        summary = ask.summary(tuple(texts(parts.older)))
        return self._compaction(_quoting(parts.older, summary, ask), parts, ask)

    def _compaction(self, summary: str, parts: Parts, ask: _Asking) -> Compaction:
        sealed = self._seals.sealed(KIND, carried(summary, parts.kept))
        return Compaction(summary, sealed, tuple(message.id for message in parts.kept), ask.usage)


def _within(threshold: int, context: int | None) -> int:
    """Tokens above which a prompt is too long: some room is left to answer it."""
    return threshold if context is None else min(threshold, context - context // 4)


class _Asking:
    """Asks one model for one summary."""

    def __init__(self, backend: Backend, model: str, instructions: str, waiter: Waiter, tries: Tries) -> None:
        self._backend = backend
        self._waiter, self._tries = waiter, tries
        self._request = ChatRequest(
            model=model,
            messages=(ChatMessage.of("system", _SYSTEM),),
            stream=True,
            sampling={"temperature": 0.0},
            thought_tokens=0,
            keep_state=False,
        )
        self._done: list[Done] = []
        self.context = backend.info(waiter).ctx_len
        self.room = min(LONGEST, self.context // 8 if self.context else LONGEST)  # tokens of a summary
        if instructions and self.tokens([instructions]) <= self.room:  # an agent's are longer than many a conversation
            system = ChatMessage.of("system", _SYSTEM + _WITH + instructions)
            self._request = replace(self._request, messages=(system,))

    @property
    def usage(self) -> Usage:
        """Of all that was asked so far."""
        return total(self._done).usage if self._done else Usage(prompt_tokens=0, completion_tokens=0, cached_tokens=0)

    def tokens(self, parts: Iterator[str] | Sequence[str]) -> int:
        """Of texts, about: one by one, each in pieces that are not too long for a backend."""
        return sum(self._length(piece) for text in parts for piece in pieces(text, _PIECE))

    def summary(self, told: Sequence[str]) -> str:
        """Of what is told, in order."""
        summary = ""
        for part in self._parts(told):
            so_far = _SO_FAR + summary + "\n\n" if summary else ""
            summary = self._said(so_far + part + _END)
        return summary

    def _parts(self, told: Sequence[str]) -> Iterator[str]:
        """What is told, in as few parts as fit the context beside a summary and the one before it."""
        room = self._room()
        joined = "\n\n".join(told)
        if len(joined) <= _PIECE and (room is None or self._length(joined) <= room):
            yield joined
            return
        gathered: list[str] = []
        left = room
        for text in told:
            for piece, length in self._fitting(text, room):
                if gathered and left is not None and length > left:
                    yield "\n\n".join(gathered)
                    gathered, left = [], room
                gathered.append(piece)
                left = None if left is None else left - length - 2  # the line breaks between them
        yield "\n\n".join(gathered)

    def _room(self) -> int | None:
        """Tokens of the conversation that one request has room for; None: nobody can tell."""
        if self.context is None:
            return None
        empty = self._with(_SO_FAR + "\n\n" + _END)
        counted = self._backend.count(TemplateRequest.of(empty), self._waiter, self._tries)
        room = self.context - counted.tokens - 2 * self.room - 8  # tokens that cutting texts in other places makes
        if room < self.room:
            raise ContextLengthExceededError.of(
                self.context - room + self.room,
                self.context,
                "It has no room to sum up a conversation: start the model with a larger ctx_len, or shorten the "
                "instructions",
            )
        return room

    def _fitting(self, text: str, room: int | None) -> Iterator[tuple[str, int]]:
        """A text in pieces that have ``room``, with their tokens."""
        length = self._length(text) if len(text) <= _PIECE else _PIECE
        if len(text) <= _PIECE and (room is None or length <= room):
            yield text, length
            return
        middle = len(text) // 2
        for half in (text[:middle], text[middle:]):
            yield from self._fitting(half, room)

    def _length(self, text: str) -> int:
        request = TokenizeRequest(model=self._request.model, content=text, parse_special=False)
        return self._backend.count(request, self._waiter, self._tries).tokens

    def _with(self, text: str) -> ChatRequest:
        return replace(self._request, messages=(*self._request.messages, ChatMessage.of("user", text)))

    def _said(self, text: str) -> str:
        said = ""
        request = replace(self._with(text), max_tokens=self.room)
        with closing(self._backend.chat(request, self._waiter, _BEAT, self._tries)) as events:
            for batch in events:
                said += "".join(event.text for event in batch if isinstance(event, TextDelta))
                self._done += [event for event in batch if isinstance(event, Done)]
        if not said.strip():
            raise EngineError(f"{self._request.model} gave no summary of the conversation", code="compaction_failed")
        return said.strip()


def _quoting(messages: Sequence[Message], summary: str, ask: _Asking) -> str:
    """The summary behind the user's newest words, as many messages of these as are no longer than a summary may be."""
    quoted: list[str] = []
    left = ask.room
    for message in reversed(messages):
        if message.role == "user" and message.text:
            left -= ask.tokens([message.text])
            if left < 0:
                break
            quoted.insert(0, message.text)
    return _WORDS + "\n\n".join(quoted) + _SUMMARY + summary if quoted else summary
