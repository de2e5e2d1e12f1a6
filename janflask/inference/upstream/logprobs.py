"""Log-probabilities as upstreams tell them, in our form.

The ids of tokens are unknown (llama-server's are told): those of one place get numbers below zero that tell them apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from janflask.inference.upstream.answers import Chosen, Logprobs
from janflask.parsing.deltas import TokenLogprob, TopLogprob

_ESCAPED = re.compile(rb"\\x([0-9a-fA-F]{2})")


def token_logprobs(found: Logprobs | None) -> tuple[TokenLogprob, ...]:
    """Those of a piece, of either form. Raises ValueError when the lists don't fit together."""
    if found is None:
        return ()
    if found.content is not None:
        return tuple(_chosen(item) for item in found.content)
    if not found.tokens:
        return ()
    return tuple(_legacy(found))


def _chosen(item: Chosen) -> TokenLogprob:
    tops = [
        (top.token, _raw(top.token, top.bytes), _number(top.logprob), top.id) for top in item.top_logprobs or ()
    ]  # fmt: skip
    return _made(item.token, _raw(item.token, item.bytes), item.logprob, item.id, tops, None)


def _legacy(found: Logprobs) -> Iterable[TokenLogprob]:
    tokens = found.tokens or []
    numbers = found.token_logprobs or [None] * len(tokens)
    tops = found.top_logprobs or [None] * len(tokens)
    offsets = found.text_offset or []
    if len(numbers) != len(tokens) or len(tops) != len(tokens):
        raise ValueError("the lists of its logprobs have different lengths")
    for place, (token, number, top) in enumerate(zip(tokens, numbers, tops, strict=True)):
        listed = [(name, _raw(name, None), _number(value), None) for name, value in (top or {}).items()]
        width = offsets[place + 1] - offsets[place] if place + 1 < len(offsets) else None
        yield _made(token, _raw(token, None), number, None, listed, width if width is None or width >= 0 else None)


def _made(
    token: str,
    raw: bytes,
    logprob: float | None,
    known: int | None,
    listed: Sequence[tuple[str, bytes, float, int | None]],
    width: int | None,
) -> TokenLogprob:
    top = tuple(
        TopLogprob(token=name, raw=its, logprob=number, id=-1 - rank if number_of is None else number_of)
        for rank, (name, its, number, number_of) in enumerate(listed)
    )
    own = known
    if own is None:
        own = next((each.id for each in top if each.raw == raw), -1 - len(top))
    return TokenLogprob(token=_text(token, raw), raw=raw, logprob=logprob, id=own, top=top, width=width)


def _raw(token: str, told: list[int] | None) -> bytes:
    r"""A token's bytes: told, or by its text, which is ``bytes:\xf0`` where OpenAI's way is followed."""
    if told is not None:
        return bytes(told)  # ValueError beyond 255
    name = token.encode("utf-8", "replace")
    if name.startswith(b"bytes:\\x"):
        return _ESCAPED.sub(lambda found: bytes([int(found.group(1), 16)]), name[len(b"bytes:") :])
    return name


def _text(token: str, raw: bytes) -> str:
    return raw.decode("utf-8", "replace") if token.startswith("bytes:\\x") else token


def _number(logprob: float | None) -> float:
    return float("-inf") if logprob is None else logprob
