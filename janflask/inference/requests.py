"""What clients ask of models: a schema turns each body into one of these, and below it nobody sees a raw one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from janflask.inference.forms.constrained import Constrained
from janflask.inference.parts import Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart

COMPLETION_MAX_TOKENS = 16  # OpenAI's default for the legacy completions


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One turn of a conversation; ``role`` is system, developer, user, assistant or tool."""

    role: str
    parts: tuple[Part, ...]
    name: str | None = None

    @classmethod
    def of(
        cls,
        role: str,
        text: str,
        *,
        name: str | None = None,
        tool_call_id: str | None = None,
        reasoning: str | None = None,
    ) -> Self:
        """One of words alone; a tool's are its result, and an assistant's may come after what it thought."""
        thoughts = () if reasoning is None else (ReasoningPart(reasoning),)
        is_result = role == "tool" or tool_call_id is not None
        words = ToolResultPart(text, tool_call_id) if is_result else TextPart(text)
        return cls(role=role, parts=(*thoughts, words), name=name)

    @property
    def text(self) -> str:
        """Its words, or a tool's result."""
        return "\n".join(part.text for part in self.parts if isinstance(part, TextPart | ToolResultPart))

    @property
    def reasoning(self) -> str | None:
        """What an assistant thought before it answered."""
        return next((part.text for part in self.parts if isinstance(part, ReasoningPart)), None)

    @property
    def calls(self) -> tuple[ToolCallPart, ...]:
        """What an assistant wanted to be called."""
        return tuple(part for part in self.parts if isinstance(part, ToolCallPart))

    @property
    def tool_call_id(self) -> str | None:
        """The call that a tool's message answers."""
        return next((part.call_id for part in self.parts if isinstance(part, ToolResultPart)), None)

    def saying(self, text: str) -> Self:
        """The same with other words."""
        others = tuple(part for part in self.parts if not isinstance(part, TextPart | ToolResultPart))
        result = next((part for part in self.parts if isinstance(part, ToolResultPart)), None)
        return replace(self, parts=(*others, TextPart(text) if result is None else replace(result, text=text)))


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceRequest:
    """What a chat and a completion request have in common. None means: the model's own default.

    ``sampling`` holds the fields of ``SamplingParams`` that the request sets, checked against their types and ranges.
    """

    model: str
    stream: bool = False
    include_usage: bool = False
    n: int = 1
    max_tokens: int | None = None  # -1: no limit, whatever the model's own is
    stop: tuple[str, ...] | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    cache_prompt: bool | None = None
    constraint: Constrained | None = None  # what each answer must look like


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call. ``parameters`` is the schema of its arguments: of an object.

    ``number`` is its place in the request's list, for errors. One that is not ``leading`` is told by the conversation,
    not in front of it.
    """

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool = False
    number: int | None = field(default=None, compare=False)
    leading: bool = True

    def as_told(self) -> dict[str, Any]:
        """As chat templates know it."""
        function: dict[str, Any] = {"name": self.name, "description": self.description or ""}
        return {"type": "function", "function": {**function, "parameters": dict(self.parameters)}}


class CallChoice(StrEnum):
    """Whether tools are to be called."""

    AUTO = "auto"  # as the model likes
    REQUIRED = "required"  # one at least, and nothing but calls


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a prompt. ``special``: it is a special token; otherwise it is plain text."""

    text: str
    special: bool


@dataclass(frozen=True, slots=True)
class LaidOut:
    """A conversation's prompt, the strings that end a turn in its layout, and its tokens if they were asked for.

    ``segments`` are its special tokens and the plain text between them, where somebody should know.
    """

    prompt: str
    stop: tuple[str, ...] = ()
    tokens: tuple[int, ...] | None = None
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest(InferenceRequest):
    """``template_kwargs`` are further variables for the model's chat template (``enable_thinking`` and the like).

    ``begun`` is the beginning of the answer, and ``begun_reasoning`` what was thought before it: the model goes on
    behind these, still thinking where there is no answer yet. With ``continue_final_message`` it goes on behind the
    last message's words, without ``add_generation_prompt`` behind the end of the last message. ``splits_reasoning``:
    what it thinks is told apart from what it says, and ends after ``thought_tokens`` (None: the model's own limit, -1:
    none), of which those of ``begun_reasoning`` are a part. ``tools`` are those that it is shown; ``callable_tools``
    are the names of those of them that it may call (None: all), and ``call_choice`` says whether it has to. Without
    ``parallel_calls`` one call at most is made, and ``calls_function`` gives it the name that it had before there were
    tools. ``constraint`` is what its own words must look like, where it does not call. ``conversation`` and
    ``keep_state``: see ``GenerateRequest``. ``laid_out`` is the prompt, if somebody has laid it out and cut it into
    tokens already; nothing was begun then. ``prediction`` is what the answer is expected to say, or much of it.
    """

    messages: tuple[ChatMessage, ...]
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    begun: str = ""
    begun_reasoning: str = ""
    tools: tuple[Tool, ...] = ()
    callable_tools: frozenset[str] | None = None
    call_choice: CallChoice = CallChoice.AUTO
    parallel_calls: bool = True
    calls_function: bool = False
    splits_reasoning: bool = True
    thought_tokens: int | None = None
    conversation: str | None = None
    keep_state: bool = True
    laid_out: LaidOut | None = None
    prediction: str = ""

    @property
    def callables(self) -> tuple[Tool, ...]:
        """The tools that may be called."""
        names = self.callable_tools
        return self.tools if names is None else tuple(tool for tool in self.tools if tool.name in names)

    @property
    def tools_field(self) -> str:
        """The field of the request that the tools came by."""
        return "functions" if self.calls_function else "tools"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizeRequest:
    """``with_pieces`` asks for each token's bytes, too; the other flags are those of ``GenerateRequest``."""

    model: str
    content: str
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """Texts, or token ids, to be made vectors; ``dimensions`` None leaves these whole."""

    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    base64: bool = False  # answer with the bytes of the numbers, not the numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class DetokenizeRequest:
    """Token ids to be made text."""

    model: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateRequest:
    """A conversation to be laid out as in a ``ChatRequest``, and with ``tokenize`` cut into tokens.

    ``with_segments``: special tokens and plain text are told apart, even where it can be seen which is which.
    """

    model: str
    messages: tuple[ChatMessage, ...]
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    tools: tuple[Tool, ...] = ()
    tokenize: bool = False
    with_segments: bool = False

    @classmethod
    def of(cls, chat: ChatRequest) -> Self:
        """To be laid out as that chat is, and cut into tokens."""
        return cls(
            model=chat.model,
            messages=chat.messages,
            template_kwargs=chat.template_kwargs,
            add_generation_prompt=chat.add_generation_prompt,
            continue_final_message=chat.continue_final_message,
            tools=chat.tools,
            tokenize=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest(InferenceRequest):
    """``prompts`` are texts or token ids; each gets ``n`` choices. ``echo`` puts the prompt before its answer."""

    prompts: tuple[str | tuple[int, ...], ...]
    echo: bool = False

    def backend_echoes(self, prompt: str | tuple[int, ...]) -> bool:
        """Whether an echoed prompt comes from the backend: one that is token ids, or has log-probabilities."""
        return self.echo and (not isinstance(prompt, str) or "top_logprobs" in self.sampling)
