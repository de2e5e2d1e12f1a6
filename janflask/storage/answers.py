"""What a client wants of an answer that is asked for by itself: a response, or a chat completion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from janflask.storage.items import ItemDraft, ItemReference
from janflask.storage.records import CallPlan, RunKind

BRANCHED_FROM = "branched_from"  # fields of a thread: where its older messages were said
MADE_FOR = "made_for"  # and the answer that it was made for
INPUT_OF = "input_of"  # a field of a message: the answer that it came with


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerDraft:
    """It is answered behind ``previous`` (a response's id), in ``conversation`` (a thread's), or in a new thread.

    ``input`` is what is new, in order, and ``places`` says for errors where in the request each of it came from.
    ``tools`` are functions in the form of chat completions; ``asked`` is what is told back of the request.
    """

    kind: RunKind = RunKind.RESPONSE
    model: str | None = None
    input: tuple[ItemDraft, ...] = ()
    places: tuple[str, ...] = ()
    instructions: str | None = None
    previous: str | None = None
    conversation: str | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: Any = None
    calls: CallPlan = field(default_factory=CallPlan)
    parallel_tool_calls: bool = True
    response_format: Any = None
    form: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)  # as ``models.parameters`` has them
    max_tokens: int | None = None
    top_logprobs: int | None = None
    truncates: bool = False
    compact_threshold: int | None = None
    keep_state: bool = True  # its KV state may go to the disk, though it is not stored itself
    metadata: Mapping[str, Any] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)
    store: bool = True
    background: bool = False
    stream: bool = False

    @property
    def reads_store(self) -> bool:
        """Whether it takes something that is stored already to answer it."""
        compared = (self.asked.get("prompt_cache_options") or {}).get("comparison_response_id")
        named = (self.previous, self.conversation, compared)
        return any(name is not None for name in named) or any(isinstance(item, ItemReference) for item in self.input)
