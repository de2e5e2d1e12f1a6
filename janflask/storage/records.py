"""What the store keeps: threads, messages, assistants, uploaded files and runs, as frozen dataclasses.

Times are whole milliseconds since the epoch, as Jan keeps them on disk; the API tells seconds. ``extra`` holds the
fields of an object on disk that we don't know: they are written back whenever the object is.

``owner`` is the id of the key that an object belongs to; None: nobody's. What becomes of a thread, its messages and
runs among it, is its owner's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from janflask.storage.rounds import Call, Round

DEFAULT_ASSISTANT = "jan"  # always exists


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadAssistant:
    """An assistant as a thread has it; ``model`` is Jan's ``{id, settings, parameters, engine}``, each optional."""

    assistant_id: str
    assistant_name: str = ""
    instructions: str = ""
    model: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """A conversation without its messages.

    ``updated_ms`` is the later of the thread's own last change and its last message.
    """

    id: str
    created_ms: int
    updated_ms: int
    title: str = ""
    summary: str = ""
    assistants: tuple[ThreadAssistant, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    model_id: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tool_resources: Mapping[str, Any] | None = None
    owner: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def text_part(text: str) -> dict[str, Any]:
    """Words, as a message's content has them."""
    return {"type": "text", "text": {"value": text, "annotations": []}}


def words_of(content: object) -> str:
    """What a message says in words, wherever they stand in its content: what a model, a search or a reader is given.

    Besides text parts these are refusals, and the words that Jan 0.4 and 0.5 kept inside a picture's or a document's
    own part (``{"type": "pdf", "text": {"value": "..."}}``). What a model thought before it spoke is not among them.
    """
    parts = [content] if isinstance(content, str) else content if isinstance(content, list | tuple) else ()
    words = (part if isinstance(part, str) else _words_in(part) for part in parts)
    return "\n".join(text for text in words if text is not None)


def _words_in(part: object) -> str | None:
    if not isinstance(part, Mapping) or part.get("type") == "reasoning":
        return None
    value = part.get("refusal") if part.get("type") == "refusal" else part.get("text")
    text = value.get("value") if isinstance(value, Mapping) else value
    return text if isinstance(text, str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message. ``content`` are OpenAI's parts: ``{"type": "text", "text": {"value", "annotations"}}`` and others.

    ``status`` is ``completed``, ``in_progress`` or ``incomplete``.
    """

    id: str
    thread_id: str
    created_ms: int
    role: str = "user"
    content: tuple[Mapping[str, Any], ...] = ()
    file_ids: tuple[str, ...] = ()
    attachments: tuple[Mapping[str, Any], ...] = ()
    assistant_id: str | None = None
    run_id: str | None = None
    status: str = "completed"
    incomplete_details: Mapping[str, Any] | None = None
    completed_ms: int | None = None
    incomplete_ms: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Its words: see ``words_of``."""
        return words_of(self.content)

    @property
    def is_error(self) -> bool:
        """It tells why there was no answer, as Jan keeps it in a conversation; nobody said it.

        Jan marks it by its status, later versions by ``metadata.error``, which then repeats its text.
        """
        if self.status == "incomplete" and (self.incomplete_details or {}).get("reason") == "error":
            return True
        error = self.metadata.get("error")
        return self.role == "assistant" and isinstance(error, str) and error != "" and error == self.text

    @property
    def files(self) -> tuple[str, ...]:
        """The id of every uploaded file that it holds, once each: ``file_ids``, attachments, image parts."""
        found: list[Any] = [*self.file_ids, *[item.get("file_id") for item in self.attachments]]
        for part in self.content:
            image = part.get("image_file") if part.get("type") == "image_file" else None
            if isinstance(image, Mapping):
                found.append(image.get("file_id"))
        return tuple(dict.fromkeys([name for name in found if isinstance(name, str)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Assistant:
    """Who answers: a model, instructions and sampling. ``model`` ``"*"`` is any."""

    id: str
    created_ms: int
    name: str = ""
    description: str = ""
    avatar: str = ""
    model: str = "*"
    models: tuple[Mapping[str, Any], ...] = ()
    instructions: str = ""
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_resources: Mapping[str, Any] | None = None
    file_ids: tuple[str, ...] = ()
    events: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    temperature: float | None = None
    top_p: float | None = None
    reasoning_effort: str | None = None
    response_format: Any = None
    version: str = "1.0"
    owner: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """An uploaded file. ``filename`` is what its sender called it, never a path here."""

    id: str
    created_ms: int
    filename: str
    purpose: str
    bytes: int
    sha256: str  # hexadecimal
    owner: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ThreadFile:
    """A file in a thread's own ``files/`` folder, where Jan puts what is attached there."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDraft:
    """A message that a client wants stored. ``content`` is as in ``Message``; ``id`` may name one that it replaces."""

    role: str
    content: tuple[Mapping[str, Any], ...]
    file_ids: tuple[str, ...] = ()
    attachments: tuple[Mapping[str, Any], ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)  # further fields of its line


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadDraft:
    """What a client gives of a thread, new or not; None is what it does not give.

    ``fields`` are those of ``Thread`` by name. An assistant or a message may be named by its id alone.
    """

    id: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    assistants: tuple[str | ThreadAssistant, ...] | None = None
    messages: tuple[str | MessageDraft, ...] | None = None


class RunKind(StrEnum):
    """What asked for a run, and so what it tells of itself and where."""

    RUN = "run"  # of the assistants API: waits for the outputs of its calls
    RESPONSE = "response"  # ends with its calls; found by its id alone
    CHAT = "chat"  # a stored chat completion; the same


class RunStatus(StrEnum):
    """How far a run is, in OpenAI's words."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    REQUIRES_ACTION = "requires_action"  # it waits for the outputs of calls, and nobody carries it out
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    FAILED = "failed"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        """Nothing comes after it."""
        return self not in (
            RunStatus.QUEUED,
            RunStatus.IN_PROGRESS,
            RunStatus.REQUIRES_ACTION,
            RunStatus.CANCELLING,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlan:
    """What ``tool_choice`` asks for. ``names`` are the functions that may be called, None: all of the run's.

    Calls that are ``required`` are so until there is one: then the model may answer. With ``is_one`` it is one function
    that is called once, and after it all may be.
    """

    required: bool = False
    names: tuple[str, ...] | None = None
    is_one: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Continued:
    """The message that a run goes on with, as it was when the run was made; its lengths are in characters."""

    message_id: str
    created_ms: int
    text: int
    reasoning: int = 0  # what was thought before it


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A thread that is made to answer: what was asked for, and what came of it.

    The reply is the message ``message_id``, whether it is stored yet or not. ``instructions`` are whole, those of the
    assistant or those in their place, and the additional ones. ``parameters`` are the fields of an inference request
    that the run itself sets. ``rounds`` are those that ended with calls; ``message_id``, ``step_id``, ``resumed_ms``
    and ``replied_ms`` are of the round behind them, tokens of all rounds.
    """

    id: str
    thread_id: str
    assistant_id: str
    message_id: str
    step_id: str
    created_ms: int
    expires_ms: int
    model: str
    instructions: str = ""
    status: RunStatus = RunStatus.QUEUED
    settings: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    temperature: float | None = None
    top_p: float | None = None
    max_prompt_tokens: int | None = None
    max_completion_tokens: int | None = None
    last_messages: int | None = None  # truncation_strategy: None is auto
    response_format: Any = None
    form: Mapping[str, Any] = field(default_factory=dict)  # of the answer, by a field other than that, as it was sent
    tools: tuple[Mapping[str, Any], ...] = ()  # functions, as they were sent
    tool_choice: Any = None
    calls: CallPlan = field(default_factory=CallPlan)
    parallel_tool_calls: bool = True
    metadata: Mapping[str, Any] = field(default_factory=dict)
    ends_with_client: bool = False  # a stream whose client leaves cancels the run
    continued: Continued | None = None  # its first message is there already, and gets more words
    problem: str | None = None  # why it cannot be carried out, found when it was made in what it takes over
    rounds: tuple[Round, ...] = ()
    started_ms: int | None = None
    resumed_ms: int | None = None  # when it went on behind ``rounds``
    replied_ms: int | None = None  # when the reply was begun, though it may not have a word yet
    cancelled_ms: int | None = None
    failed_ms: int | None = None
    completed_ms: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    incomplete_reason: str | None = None
    left_out: tuple[str, ...] = ()  # ids of messages that the model was not shown
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    timings: Mapping[str, Any] = field(default_factory=dict)  # of all its generations, where they are known
    first_token_ms: int | None = None  # from when it was made to its first word, thought or call
    context_tokens: int | None = None  # that the model has in all
    kind: RunKind = RunKind.RUN
    key_id: str | None = None  # of the key that asked for it, and that its tokens count for
    # Of the other kinds:
    asked: Mapping[str, Any] = field(default_factory=dict)  # what is told back of the request, field by field
    input: tuple[Mapping[str, Any], ...] = ()  # messages, as on disk, that are to be added to the thread when it begins
    input_ids: tuple[str, ...] = ()  # of the thread's messages that came with the request, in order
    in_conversation: bool = False  # its client named the thread: it is no place for answers behind this one
    wanted: tuple[Call, ...] = ()  # the calls that the answer ended with
    refusal: str = ""  # why the answer is not what was asked for
    stop: str | None = None  # the stop string that ended the answer, where that is known
    failure: Mapping[str, Any] = field(default_factory=dict)  # the error that ended it, as processes tell it
    truncates: bool = True  # leaves out the oldest turns where not all fit; else it fails
    top_logprobs: int | None = None  # log-probabilities are in its log, with so many of the likeliest tokens
    compact_threshold: int | None = None  # tokens of a prompt above which what is older is summed up first
    # The summary that was made of it: ``message_id``, ``encrypted_content``, and ``at``, in milliseconds.
    compaction: Mapping[str, Any] = field(default_factory=dict)

    @property
    def waiting(self) -> Round | None:
        """The round whose calls nobody has answered; a run that ended while it waited has one, too."""
        return self.rounds[-1] if self.rounds and self.rounds[-1].answered_ms is None else None

    @property
    def begins_with(self) -> Continued | None:
        """What the message of this round was before the run; only the first round goes on with one."""
        return None if self.rounds else self.continued


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDraft:
    """A run that a client wants. None is what it does not give: thread, assistant and model decide then.

    ``thread`` is there when the run makes its thread, too.
    """

    assistant_id: str | None = None
    model: str | None = None
    instructions: str | None = None
    additional_instructions: str | None = None
    additional_messages: tuple[MessageDraft, ...] = ()
    temperature: float | None = None
    top_p: float | None = None
    max_prompt_tokens: int | None = None
    max_completion_tokens: int | None = None
    last_messages: int | None = None
    tools: tuple[Mapping[str, Any], ...] | None = None
    tool_choice: Any = None
    calls: CallPlan = field(default_factory=CallPlan)
    response_format: Any = None
    form: Mapping[str, Any] = field(default_factory=dict)
    parallel_tool_calls: bool = True
    continue_last: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = False
    ends_with_client: bool = False
    thread: ThreadDraft | None = None
