"""What a generation is: what is asked of an engine, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from janflask.ipc.messages.constraint import Constraint
from janflask.models.sampling import SamplingParams
from janflask.parsing.rules import AnswerRules


class FinishReason(StrEnum):
    """Why a choice ended, in OpenAI's words."""

    STOP = "stop"  # end-of-generation token or a stop string
    LENGTH = "length"  # max_tokens reached, or the context is full
    TOOL_CALLS = "tool_calls"  # it stopped, and has called tools; whoever reads the answer says so


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What an engine has to see in an answer while it grows: it reads it as whoever asked does.

    The answer goes on behind a prompt that ends with ``prompt_end``, and behind ``begun`` of the answer itself.
    ``answer`` holds from where thoughts are over: from the first token where nothing may be thought. ``calls`` holds
    from the first marker of a call on, that of one of ``tools``; with it nothing comes behind the calls. Thoughts of
    more than ``thought_tokens`` are ended with the model's own words.
    """

    rules: AnswerRules
    prompt_end: str = ""
    begun: str = ""
    tools: tuple[str, ...] = ()
    calls: Constraint | None = None
    answer: Constraint | None = None
    may_think: bool = True  # false: an answer that does not begin inside of thoughts has none
    thought_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """One generation: a prompt, and ``n`` continuations of it.

    ``prompt`` is text, or token ids that are taken as they are. ``add_special`` lets the tokenizer add BOS where the
    model wants one; ``parse_special`` turns text like ``<|im_end|>`` into its control token (true for a rendered chat
    template, false for a user's plain text). ``cuts`` are places in a text, in order: no token stretches over one,
    so that what a client wrote stays text there. ``markers`` are looked for in the answer: where one of them is made of
    control tokens, these are text of it. Errors call the prompt and the biases what whoever asks calls them.
    """

    prompt: str | tuple[int, ...]
    n: int = 1
    max_tokens: int | None = None  # None: until the context is full
    stop: tuple[str, ...] = ()
    sampling: SamplingParams = field(default_factory=SamplingParams)
    add_special: bool = True
    parse_special: bool = True
    cuts: tuple[int, ...] = ()
    markers: tuple[str, ...] = ()
    cache_prompt: bool = True  # false: compute the whole prompt, use no cached prefix
    owner: str | None = (
        None  # who it is for: nothing is shared with what others ask for; None: where no key is asked for
    )
    conversation: str | None = None  # whose prompt it is: its KV state is kept on disk under this name
    keep_state: bool = True  # false: its KV state stays in memory, unless it is a conversation's
    echo: bool = False  # the prompt comes before its answer, with log-probabilities where ``sampling`` asks for them
    prompt_name: str = "prompt"  # the field that it was made of
    bias_name: str = "logit_bias"  # whose they are, where they are not the request's own
    constraint: Constraint | None = None  # what each answer must look like, from its first token on
    prediction: str = ""  # what each answer is expected to say, or much of it: it comes sooner where it does
    watch: Watch | None = None  # what has to be seen in each answer; there is no ``constraint`` then


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one generation; ``completion_tokens`` counts all its choices, and what they thought."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int  # of the prompt, taken from the prefix cache
    reasoning_tokens: int = 0  # of the completion; whoever reads the answer counts them
    accepted_prediction_tokens: int | None = None  # of the completion: guessed ahead; None: nobody knows
    rejected_prediction_tokens: int | None = None  # guessed ahead, and no part of it

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Where a generation's time went. Milliseconds; ``prompt_n`` counts computed (not cached) prompt tokens."""

    cache_n: int
    prompt_n: int
    prompt_ms: float
    predicted_n: int
    predicted_ms: float
    queue_ms: float

    @property
    def prompt_per_second(self) -> float:
        return 1000.0 * self.prompt_n / self.prompt_ms if self.prompt_ms > 0 else 0.0

    @property
    def predicted_per_second(self) -> float:
        return 1000.0 * self.predicted_n / self.predicted_ms if self.predicted_ms > 0 else 0.0
