"""A prompt's tokens, also where some of its words must not be taken for special tokens."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import pairwise

from janflask.engine.spelling import Tokenizer
from janflask.engine.vocabulary import check_tokens
from janflask.errors import ContextLengthExceededError, InvalidRequestError
from janflask.ipc.messages.generation import GenerateRequest

LEADS = ("\n", "\U00020000")  # in front of a piece; one of them is no part of a token with what comes behind it


def prompt_tokens(model: Tokenizer, request: GenerateRequest, capacity: int) -> array[int]:
    """A request's prompt. Raises ContextLengthExceededError naming both lengths, InvalidRequestError."""
    if isinstance(request.prompt, str):
        tokens = tokenized(
            model, request.prompt, request.cuts, add_special=request.add_special, parse_special=request.parse_special
        )
    else:
        check_tokens(request.prompt, model.n_vocab, request.prompt_name)
        tokens = array("i", request.prompt)
    if not tokens:
        raise InvalidRequestError("the prompt is empty: it must hold at least one token", param=request.prompt_name)
    if len(tokens) + (request.max_tokens != 0) > capacity:
        raise ContextLengthExceededError.of(
            len(tokens),
            capacity,
            "The answer has to fit, too: shorten the prompt, or start the model with a larger ctx_len",
            param=request.prompt_name,
        )
    return tokens


def predicted_tokens(model: Tokenizer, request: GenerateRequest) -> array[int]:
    """What the answer is expected to say; none where nothing is. Raises what ``model.tokenize`` does."""
    if not request.prediction:
        return array("i")
    return model.tokenize(request.prediction, add_special=False, parse_special=False)


def tokenized(
    model: Tokenizer, text: str, cuts: Sequence[int] = (), *, add_special: bool, parse_special: bool
) -> array[int]:
    """The tokens of ``text``, none of which stretches over one of ``cuts`` (places in it, in order).

    llama.cpp makes a token of a special token's text wherever it stands, and of a user-defined one even when it is told
    not to: only a text that is cut in the middle of it stays a text. Raises what ``model.tokenize`` does.
    """
    if not cuts:
        return model.tokenize(text, add_special=add_special, parse_special=parse_special)
    first, *others = [text[start:end] for start, end in pairwise((0, *cuts, len(text)))]
    tokens = model.tokenize(first, add_special=False, parse_special=parse_special)
    if add_special:
        whole = model.tokenize(first, add_special=True, parse_special=parse_special)
        n_before = 1 if whole[1 : 1 + len(tokens)] == tokens else 0
        before, behind = whole[:n_before], whole[n_before + len(tokens) :]
    else:
        before = behind = array("i")
    adds_blank = _text(model, model.tokenize("a", add_special=False, parse_special=False)) != b"a"
    for piece in others:
        tokens += _behind(model, piece, parse_special) if adds_blank else _alone(model, piece, parse_special)
    return before + tokens + behind


def _alone(model: Tokenizer, piece: str, parse_special: bool) -> array[int]:
    return model.tokenize(piece, add_special=False, parse_special=parse_special)


def _behind(model: Tokenizer, piece: str, parse_special: bool) -> array[int]:
    """The tokens of a piece that goes on with a text: SentencePiece puts a blank in front of all it begins with."""
    for lead in LEADS:
        before = _alone(model, lead, parse_special)
        tokens = _alone(model, lead + piece, parse_special)
        if tokens[: len(before)] == before:
            return tokens[len(before) :]
    return _alone(model, piece, parse_special)


def _text(model: Tokenizer, tokens: Sequence[int]) -> bytes:
    return b"".join(map(model.piece, tokens))
