"""A response's events, as the SDK's stream helper wants them: the same ones, in the same order, whoever asks and when.

They are numbered from 0 as they are made out of what an answer says, piece by piece, so that one that is replayed has
the same numbers as one that grows, and a client goes on behind any of them::

    response.created, response.queued (in the background), response.in_progress
    output_item.added, output_item.done                                                 a summary of what is older
    output_item.added, content_part.added, reasoning_text.delta... and their ends       what it thinks
    output_item.added, content_part.added, output_text.delta... and their ends          its words, or a refusal
    output_item.added, function_call_arguments.delta... and their ends                  each of its calls
    response.completed, response.incomplete or response.failed

An item ends when another one begins, calls when all is said. One that goes on all the same has its ends once more.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from janflask.api.answers.chunks import encode_json
from janflask.api.answers.response_objects import (
    Logprobs,
    View,
    begun_object,
    output_object,
    response_object,
    summary_of,
)
from janflask.services.replies import reply_message
from janflask.services.seals import Seals
from janflask.storage.items import Item, ItemKind, call_id, items_of, reasoning_id
from janflask.storage.records import Run, RunStatus
from janflask.storage.rounds import Call

Data = dict[str, Any]
NOWHERE = -1  # the number behind which all events come
EVERYTHING = sys.maxsize  # behind which none does


class _OpenItem:
    """An item of the output that was begun."""

    def __init__(self, item_id: str, index: int, start: bytes = b"") -> None:
        self.id = item_id
        self.index = index
        self.start = start  # of each delta of its words
        self.pieces: list[str] = []
        self.is_open = True

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class _OpenCall(_OpenItem):
    """One that is a call; its text are the arguments."""

    def __init__(self, item_id: str, index: int, called_id: str, name: str) -> None:
        super().__init__(item_id, index)
        self.called_id = called_id
        self.name = name

    @property
    def call(self) -> Call:
        return Call(id=self.called_id, name=self.name, arguments=self.text)


class ResponseEventWriter:
    """Bytes for the events behind number ``after``. ``run`` is the answer's, as it is now; it may be replaced."""

    def __init__(self, run: Run, seals: Seals | None, after: int = NOWHERE) -> None:
        self.run = run
        self.number = NOWHERE  # of the newest event
        self._after = after
        self._view = View.of(run, seals)
        self._is_background = bool(run.asked.get("background"))
        self._thoughts: _OpenItem | None = None
        self._words: _OpenItem | None = None
        self._calls: dict[int, _OpenCall] = {}  # by number
        self._count = 0  # of items
        self._logprobs: list[Mapping[str, Any]] = []
        self.refused = ""  # why it is not what was asked for

    @property
    def has_spoken(self) -> bool:
        """Whether anything came of the answer yet."""
        return self._count > 0

    @property
    def newest(self) -> int:
        """The number of the newest event that its client has, also from an earlier stream."""
        return max(self.number, self._after)

    # --- beginnings -------------------------------------------------------------------------------------------------

    def created(self) -> bytes:
        """The first event."""
        return self._lifecycle("created", begun_object(self.run, "queued" if self._is_background else "in_progress"))

    def queued(self) -> bytes:
        """It waits to be carried out; told of one in the background only."""
        return self._lifecycle("queued", begun_object(self.run, "queued")) if self._is_background else b""

    def in_progress(self) -> bytes:
        """It is carried out."""
        return self._lifecycle("in_progress", begun_object(self.run, "in_progress"))

    def silence(self) -> bytes:
        """What fills a silence, where nothing is stored: ``response.in_progress`` again, numbered as the newest event.

        A comment would do for most clients, but Codex counts events only, and gives up after five minutes without one.
        """
        return _event_bytes("in_progress", self.number, {"response": begun_object(self.run, "in_progress")})

    def compacted(self) -> bytes:
        """What is older was summed up: the first item, which is whole at once; nothing if it was not."""
        if not self.run.compaction:
            return b""
        item = output_object(next(items_of(summary_of(self.run)[0])), self._view)
        index = self._next_index()
        return b"".join(
            self._event(f"output_item.{change}", output_index=index, item=item) for change in ("added", "done")
        )

    # --- what it says -----------------------------------------------------------------------------------------------

    def text(self, text: str, logprobs: Logprobs = ()) -> bytes:
        """Words. The API's hot path, once a token and client: only number, words and log-probabilities are new."""
        lines = b""
        if self._words is None:
            lines = self._close(self._thoughts)
            self._words = self._new(self.run.message_id, b"output_text.delta")
            lines += self._added(self._words) + self._part("added", self._words, 0, _text_part(""))
        words = self._words
        words.is_open = True
        words.pieces.append(text)
        self.number += 1
        if logprobs:
            self._logprobs += logprobs
        if self.number <= self._after:
            return lines
        told = encode_json(logprobs) if logprobs else b"[]"
        return b'%s%s%d,"delta":%s,"logprobs":%s}\n\n' % (lines, words.start, self.number, encode_json(text), told)

    def thought(self, text: str) -> bytes:
        """A piece of what is thought."""
        lines = b""
        if self._thoughts is None:
            self._thoughts = self._new(reasoning_id(self.run.message_id), b"reasoning_text.delta")
            lines = self._added(self._thoughts) + self._part("added", self._thoughts, 0, _thought_part(""))
        thoughts = self._thoughts
        thoughts.is_open = True
        thoughts.pieces.append(text)
        self.number += 1
        if self.number <= self._after:
            return lines
        return b'%s%s%d,"delta":%s}\n\n' % (lines, thoughts.start, self.number, encode_json(text))

    def call(self, number: int, called_id: str, name: str, arguments: str) -> bytes:
        """A piece of a call; the first one has its id and its name."""
        lines = b""
        if number not in self._calls:
            lines = self._close(self._thoughts) + self._close(self._words)
            item_id = call_id(self.run.message_id, number)
            self._calls[number] = _OpenCall(item_id, self._next_index(), called_id, name)
            lines += self._added(self._calls[number])
        item = self._calls[number]
        item.pieces.append(arguments)
        if self._is_custom(item.name) or not arguments:  # the input of a custom tool can be read when it is whole
            return lines
        return lines + self._of(item, "function_call_arguments.delta", delta=arguments)

    def refusal(self, text: str) -> bytes:
        """Why the answer is not what was asked for."""
        self.refused += text
        return b""

    # --- its end ----------------------------------------------------------------------------------------------------

    def ended(self, run: Run) -> bytes:
        """What ends all that was begun, and the answer; ``run`` is final."""
        self.run = run
        lines = b""
        if self._words is None and (self.refused or self._is_empty):
            lines = self._close(self._thoughts)
            self._words = self._new(run.message_id, b"output_text.delta")
            lines += self._added(self._words)
            lines += b"" if self.refused else self._part("added", self._words, 0, _text_part(""))
        for item in sorted(self._items, key=lambda item: item.index):
            lines += self._close(item)
        # There is no event for one that was cancelled: it is not whole, and its status says why.
        name = {RunStatus.COMPLETED: "completed", RunStatus.FAILED: "failed", RunStatus.EXPIRED: "failed"}
        return lines + self._lifecycle(name.get(run.status, "incomplete"), self.response())

    def response(self) -> Data:
        """The response as far as it has come."""
        thoughts, words = (item.text if item is not None else "" for item in (self._thoughts, self._words))
        run = replace(self.run, wanted=self.calls, refusal=self.refused)
        said = [*summary_of(run), reply_message(run, words, thoughts)]
        return response_object(run, said, self._view, self._logprobs)

    @property
    def _is_misshapen(self) -> bool:
        """Its words are not, or not wholly, in the form that was asked for."""
        has_form = bool(self.run.response_format or self.run.form)
        return bool(self.refused) or (
            has_form and self.run.status.is_final and self.run.status is not RunStatus.COMPLETED
        )

    @property
    def _is_empty(self) -> bool:
        return self.run.status is RunStatus.COMPLETED and not self._calls

    @property
    def _items(self) -> list[_OpenItem]:
        begun = [self._thoughts, self._words, *self._calls.values()]
        return [item for item in begun if item is not None]

    @property
    def calls(self) -> tuple[Call, ...]:
        """Those of the answer, as far as they have come."""
        return tuple(item.call for _, item in sorted(self._calls.items()))

    def _close(self, item: _OpenItem | None) -> bytes:
        if item is None or not item.is_open:
            return b""
        item.is_open = False
        if item is self._thoughts:
            lines = self._of(item, "reasoning_text.done", content_index=0, text=item.text)
            lines += self._part("done", item, 0, _thought_part(item.text))
        elif item is self._words:
            lines = self._close_words(item)
        else:
            lines = self._close_call(item)
        return lines + self._event("output_item.done", output_index=item.index, item=self._object(item, is_done=True))

    def _close_words(self, item: _OpenItem) -> bytes:
        lines, place = b"", 0
        if item.pieces or not self.refused:
            # Of words that are not what was asked for the helper would read what they ought to have been.
            if not self._is_misshapen:
                lines = self._of(item, "output_text.done", content_index=0, text=item.text, logprobs=self._logprobs)
            lines += self._part("done", item, 0, _text_part(item.text, self._logprobs))
            place = 1
        if self.refused:
            part = {"type": "refusal", "refusal": self.refused}
            lines += self._part("added", item, place, {**part, "refusal": ""})
            lines += self._of(item, "refusal.delta", content_index=place, delta=self.refused)
            lines += self._of(item, "refusal.done", content_index=place, refusal=self.refused)
            lines += self._part("done", item, place, part)
        return lines

    def _close_call(self, item: _OpenItem) -> bytes:
        told = self._object(item, is_done=True)
        if told["type"] == "function_call":
            return self._of(item, "function_call_arguments.done", arguments=item.text, name=told["name"])
        lines = self._of(item, "custom_tool_call_input.delta", delta=told["input"])
        return lines + self._of(item, "custom_tool_call_input.done", input=told["input"])

    # --- events -----------------------------------------------------------------------------------------------------

    def _next_index(self) -> int:
        self._count += 1
        return self._count - 1

    def _new(self, item_id: str, delta: bytes) -> _OpenItem:
        index = self._next_index()
        about = {"item_id": item_id, "output_index": index, "content_index": 0}
        head = b'event: response.%s\ndata: {"type":"response.%s",' % (delta, delta)
        return _OpenItem(item_id, index, head + encode_json(about)[1:-1] + b',"sequence_number":')

    def _added(self, item: _OpenItem) -> bytes:
        return self._event("output_item.added", output_index=item.index, item=self._object(item, is_done=False))

    def _object(self, item: _OpenItem, *, is_done: bool) -> Data:
        """The item as it is told: empty when it begins, and not whole where the answer ended in the middle of it."""
        status = RunStatus.IN_PROGRESS
        if is_done:
            status = self.run.status if self.run.status.is_final else RunStatus.COMPLETED
        text = item.text if is_done else ""
        run = replace(self.run, status=status)
        call, kind, words, refusal = None, ItemKind.CALL, "", ""
        if item is self._thoughts:
            kind = ItemKind.REASONING
        elif isinstance(item, _OpenCall):
            call = replace(item.call, arguments=text)
        else:
            kind, words, refusal = ItemKind.MESSAGE, text, self.refused if is_done else ""
        message = reply_message(replace(run, refusal=refusal, wanted=()), words)
        told = output_object(Item(item.id, kind, message, text, call), self._view, self._logprobs if is_done else ())
        return told if is_done or kind is not ItemKind.REASONING else {**told, "content": []}

    def _is_custom(self, name: str) -> bool:
        return name in self._view.known and self._view.known[name].is_custom

    def _part(self, change: str, item: _OpenItem, place: int, part: Data) -> bytes:
        return self._of(item, f"content_part.{change}", content_index=place, part=part)

    def _of(self, item: _OpenItem, name: str, /, **data: Any) -> bytes:
        return self._event(name, item_id=item.id, output_index=item.index, **data)

    def _lifecycle(self, name: str, response: Data) -> bytes:
        return self._event(name, response=response)

    def _event(self, name: str, /, **data: Any) -> bytes:
        self.number += 1
        if self.number <= self._after:
            return b""
        return _event_bytes(name, self.number, data)


def _event_bytes(name: str, number: int, data: Data) -> bytes:
    told = {"type": f"response.{name}", "sequence_number": number, **data}
    return b"event: response.%s\ndata: %s\n\n" % (name.encode(), encode_json(told))


def _text_part(text: str, logprobs: Logprobs = ()) -> Data:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _thought_part(text: str) -> Data:
    return {"type": "reasoning_text", "text": text}
