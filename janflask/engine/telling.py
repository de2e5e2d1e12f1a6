"""What is told of tokens beside an answer's text: their log-probabilities, and a prompt's own tokens with theirs."""

from __future__ import annotations

from array import array
from typing import Protocol

from janflask.engine.sequence import Sampler, Sequence
from janflask.parsing.deltas import TokenLogprob, TopLogprob

Scored = tuple[float, list[tuple[int, float]]]  # a token's log-probability, and the likeliest tokens with theirs


class Vocabulary(Protocol):
    """Token ids to bytes."""

    def piece(self, token: int) -> bytes: ...
    def hides(self, token: int) -> bool: ...


class Scorer(Protocol):
    """What of a context knows of tokens and their scores."""

    @property
    def vocab(self) -> Vocabulary: ...
    def score(self, row: int, tokens: array[int], start: int, count: int, sampler: Sampler) -> list[Scored]: ...
    def is_eog(self, token: int) -> bool: ...


def tell_prompt_part(context: Scorer, sequence: Sequence) -> None:
    """Tells the prompt's tokens that the rows of the last step predict, with their log-probabilities."""
    echo = sequence.echo
    if echo is None:
        raise RuntimeError("a prompt that nobody wants to be told")
    end = min(sequence.n_computed + 1, sequence.n_prompt)  # the row of a token predicts the next one
    start = max(1, echo.done)
    row = sequence.row - (sequence.n_computed - start)
    scores: list[Scored | None] = [None] if echo.done == 0 else []
    scores += context.score(row, sequence.tokens, start, max(0, end - start), sequence.sampler)
    texts: list[str] = []
    told: list[TokenLogprob] = []
    for score in scores:
        token = sequence.tokens[echo.done]
        texts.append(echo.text(token))
        told.append(_with_logprob(context, token, score, len(texts[-1])))
    if told:
        sequence.sink.echo("".join(texts), tuple(told))


def token_logprob(context: Scorer, sequence: Sequence, token: int) -> TokenLogprob:
    """Of the token that was just drawn."""
    hidden = context.is_eog(token) or context.vocab.hides(token)
    return _with_logprob(context, token, sequence.sampler.logprobs(), 0 if hidden else None)


def logprob_of(context: Scorer, sequence: Sequence, token: int) -> TokenLogprob:
    """Of a token that stands where another one was drawn."""
    (score,) = context.score(sequence.row, array("i", (token,)), 0, 1, sequence.sampler)
    return _with_logprob(context, token, score, 0 if context.vocab.hides(token) else None)


def _with_logprob(context: Scorer, token: int, score: Scored | None, width: int | None) -> TokenLogprob:
    """``score`` None: nothing predicts the token."""
    logprob, top = score or (None, [])
    piece = context.vocab.piece
    candidates = []
    for candidate, value in top:
        raw = piece(candidate)
        candidates.append(TopLogprob(raw.decode("utf-8", "replace"), raw, value, candidate))
    raw = piece(token)
    return TokenLogprob(raw.decode("utf-8", "replace"), raw, logprob, token, tuple(candidates), width)
