"""Comparing greedy answers that were computed in different ways.

A greedy answer is a function of the prompt, but only up to rounding: how many rows are computed together decides which
kernels run and in which order they add, and llama.cpp rounds activations to 8 bits on the way. Where the two likeliest
tokens are almost equally likely the rounding chooses, and from there on the answers are about different things.

How much is rounding? Measured with llama-cpp-python alone, on 60 tokens of one text: computing them one by one instead
of as one batch moves the likeliest token's log-probability by 0.036 on average, and its lead over the second by 0.085
on average and 0.38 at most; flash attention instead of the plain one moves them as much. Over the sixteen answers that
``test_greedy`` compares, 0.54 was seen. So ``same_or_tie`` wants

* before the answers part, the same tokens with almost the same log-probabilities (``SHIFT``, on average): a cache that
  gave back something else would show here even if the words happened to be the same,
* at the first difference a tie: each side tells its lead over the other's token, and the two leads together, which are
  what rounding must have moved, stay within ``TIE``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import openai

from tests.e2e.server import MODEL

SHIFT = 0.15  # natural logarithm
TIE = 1.0  # natural logarithm
END = "<|im_end|>"  # the starter model's end-of-turn token; it is in no answer


@dataclass(frozen=True, slots=True)
class Step:
    """One token of an answer, and the log-probabilities of the likeliest ones there."""

    token: str
    logprob: float
    top: Mapping[str, float]

    def lead_over(self, other: str) -> float:
        """By how much the chosen token is likelier than ``other``."""
        return self.logprob - self.top.get(other, -inf)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole greedy answer."""

    text: str
    steps: Sequence[Step]
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int = 0


def greedy(sdk: openai.OpenAI, messages: Any, max_tokens: int, *, cache: bool = True) -> Answer:
    """The server's greedy answer, by one unstreamed request."""
    given = sdk.chat.completions.create(
        model=MODEL,
        messages=messages,
        max_tokens=max_tokens,
        temperature=0,
        logprobs=True,
        top_logprobs=5,
        extra_body={"cache_prompt": cache},
    )
    choice = given.choices[0]
    assert given.usage is not None
    assert given.usage.prompt_tokens_details is not None
    return Answer(
        text=choice.message.content or "",
        steps=steps_of([choice]),
        finish_reason=choice.finish_reason,
        prompt_tokens=given.usage.prompt_tokens,
        cached_tokens=given.usage.prompt_tokens_details.cached_tokens or 0,
    )


def greedy_streamed(sdk: openai.OpenAI, messages: Any, max_tokens: int, *, cache: bool = True) -> Answer:
    """The same by a streamed request, put together from its chunks."""
    chunks = list(
        sdk.chat.completions.create(
            model=MODEL,
            messages=messages,
            max_tokens=max_tokens,
            temperature=0,
            logprobs=True,
            top_logprobs=5,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"cache_prompt": cache},
        )
    )
    usage = chunks[-1].usage
    choices = [chunk.choices[0] for chunk in chunks[:-1]]
    assert usage is not None
    return Answer(
        text="".join(choice.delta.content or "" for choice in choices),
        steps=steps_of(choices),
        finish_reason=choices[-1].finish_reason or "",
        prompt_tokens=usage.prompt_tokens,
    )


def steps_of(choices: Sequence[Any]) -> list[Step]:
    """The tokens of a choice, or of a stream's choices one after the other."""
    found = []
    for choice in choices:
        for entry in (choice.logprobs and choice.logprobs.content) or ():
            # Two tokens may have the same text; the likelier one comes first and stays.
            top = {candidate.token: candidate.logprob for candidate in reversed(entry.top_logprobs)}
            assert entry.logprob >= max(top.values()), "a greedy answer takes the likeliest token"
            found.append(Step(entry.token, entry.logprob, top))
    return found


def same_or_tie(first: Answer, second: Answer) -> int | None:
    """None for equal answers; else where the tie is at which they part. AssertionError when it is no tie."""
    both = f"\n{first.text!r}\n{second.text!r}"
    place = _first_difference(first.steps, second.steps)
    shifts = [abs(a.logprob - b.logprob) for a, b in zip(first.steps[:place], second.steps[:place], strict=True)]
    assert sum(shifts) <= SHIFT * len(shifts), f"the same tokens, but other log-probabilities: {shifts}{both}"
    ours, theirs = _token(first, place), _token(second, place)
    if ours == theirs:
        assert (first.text, first.finish_reason) == (second.text, second.finish_reason)
        return None
    leads = [
        answer.steps[place].lead_over(other)
        for answer, other in ((first, theirs), (second, ours))
        if place < len(answer.steps)  # where one ended there is no step to ask
    ]
    assert sum(leads) < TIE, f"token {place} is {ours!r} or {theirs!r}, and that is no tie: leads {leads}{both}"
    return place


def _first_difference(first: Sequence[Step], second: Sequence[Step]) -> int:
    for place, (a, b) in enumerate(zip(first, second, strict=False)):
        if a.token != b.token:
            return place
    return min(len(first), len(second))


def _token(answer: Answer, place: int) -> str:
    return answer.steps[place].token if place < len(answer.steps) else END
