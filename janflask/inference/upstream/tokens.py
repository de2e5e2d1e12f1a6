"""Tokens and prompts, by the routes that each kind of server has for them."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec

from janflask.decoding import json_decoder
from janflask.errors import InvalidRequestError, JanflaskError, UpstreamSetupError
from janflask.inference.backend import Counted
from janflask.inference.requests import DetokenizeRequest, LaidOut, Segment, TemplateRequest, TokenizeRequest
from janflask.inference.tries import Tries
from janflask.inference.upstream import estimate
from janflask.inference.upstream.bodies import Bodies, encode
from janflask.inference.upstream.call import Call
from janflask.inference.upstream.calls import ask
from janflask.inference.upstream.kinds import TRAITS
from janflask.inference.upstream.pool import UpstreamPool
from janflask.inference.upstream.problems import NO_ROUTE, nonsense
from janflask.inference.upstream.reading import WholeReader
from janflask.inference.waiting import Waiter
from janflask.ipc.messages.engine import Tokens
from janflask.models.upstream import ServerKind

BEAT = 60.0  # seconds; nobody is told of a silence here

T = TypeVar("T")


class _Piece(msgspec.Struct, frozen=True):
    id: int
    piece: str | list[Annotated[int, msgspec.Meta(ge=0, le=255)]]


class _Tokenized(msgspec.Struct, frozen=True):
    """The tokens, by whichever server."""

    tokens: list[int]


class _WithPieces(msgspec.Struct, frozen=True):
    tokens: list[_Piece]


class _Detokenized(msgspec.Struct, frozen=True):
    content: str | None = None  # llama-server, janflask
    prompt: str | None = None  # vLLM
    text: str | None = None  # llama-cpp-python

    def __post_init__(self) -> None:
        """An answer without any of them is refused where it is decoded."""
        if self.content is self.prompt is self.text is None:
            raise ValueError("no text")


class _Prompt(msgspec.Struct, frozen=True):
    prompt: str
    tokens: list[int] | None = None
    segments: tuple[Segment, ...] = ()


class TokenRoutes:
    """Asks one model's upstream. Raises what ``ask`` does, and InvalidRequestError for what its kind cannot do."""

    def __init__(self, pool: UpstreamPool, bodies: Bodies) -> None:
        self._pool = pool
        self._bodies = bodies
        self._kind = pool.upstream.kind

    def tokenize(self, request: TokenizeRequest, waiter: Waiter, tries: Tries | None) -> Tokens:
        """The tokens of a text."""
        found: _Tokenized | _WithPieces
        match self._kind:
            case ServerKind.JANFLASK | ServerKind.LLAMA_SERVER:
                expected: type[_Tokenized | _WithPieces] = _WithPieces if request.with_pieces else _Tokenized
                found = self._told(
                    "/tokenize",
                    expected,
                    waiter,
                    tries,
                    content=request.content,
                    add_special=request.add_special,
                    parse_special=request.parse_special,
                    with_pieces=request.with_pieces,
                )
            case ServerKind.VLLM:
                self._check_plain(request)
                found = self._told(
                    "/tokenize",
                    _Tokenized,
                    waiter,
                    tries,
                    prompt=request.content,
                    add_special_tokens=request.add_special,
                )
            case ServerKind.LLAMA_CPP_PYTHON:
                self._check_plain(request)
                found = self._told("/extras/tokenize", _Tokenized, waiter, tries, input=request.content)
                if not request.add_special:  # it adds them always
                    added = self._told("/extras/tokenize", _Tokenized, waiter, tries, input="").tokens
                    if added and found.tokens[: len(added)] == added:
                        found = _Tokenized(found.tokens[len(added) :])
            case _:
                raise self._none("tokenize texts")
        if isinstance(found, _Tokenized):
            return Tokens(found.tokens)
        pieces = [token.piece for token in found.tokens]
        return Tokens(
            [token.id for token in found.tokens],
            [piece.encode() if isinstance(piece, str) else bytes(piece) for piece in pieces],
        )

    def detokenize(self, request: DetokenizeRequest, waiter: Waiter) -> str:
        """The text of tokens."""
        path = {
            ServerKind.JANFLASK: "/detokenize",
            ServerKind.LLAMA_SERVER: "/detokenize",
            ServerKind.VLLM: "/detokenize",
            ServerKind.LLAMA_CPP_PYTHON: "/extras/detokenize",
        }.get(self._kind)
        if path is None:
            raise self._none("make text of tokens")
        found = self._told(path, _Detokenized, waiter, None, tokens=request.tokens)
        return found.content or found.prompt or found.text or ""

    def lay_out(self, request: TemplateRequest, waiter: Waiter, tries: Tries | None) -> LaidOut:
        """The prompt of a conversation."""
        fields = self._bodies.conversation(request)
        match self._kind:
            case ServerKind.JANFLASK:
                fields["tokenize"] = request.tokenize
                if request.with_segments:
                    fields["with_segments"] = True
                prompt = self._told("/apply-template", _Prompt, waiter, tries, **fields)
                tokens = prompt.tokens
            case ServerKind.LLAMA_SERVER:
                prompt = self._told("/apply-template", _Prompt, waiter, tries, **fields)
                tokens = self._tokens_of(prompt.prompt, waiter, tries) if request.tokenize else None
            case ServerKind.VLLM:
                tokens = self._vllm_tokens(fields, waiter, tries)
                text = self.detokenize(DetokenizeRequest(model=request.model, tokens=tuple(tokens)), waiter)
                prompt = _Prompt(text)
            case _:
                raise self._none("show the prompt of a conversation")
        told = tuple(tokens) if request.tokenize and tokens is not None else None
        return LaidOut(prompt.prompt, tokens=told, segments=prompt.segments)

    def count(self, request: TemplateRequest | TokenizeRequest, waiter: Waiter, tries: Tries | None) -> Counted:
        """How many tokens a text, or a conversation's prompt, has; an estimate where the server does not tell."""
        if isinstance(request, TokenizeRequest):
            return self._count_text(request, waiter, tries)
        fields = self._bodies.conversation(request)
        try:
            match self._kind:
                case ServerKind.JANFLASK:
                    prompt = self._told("/apply-template", _Prompt, waiter, tries, **fields, tokenize=True)
                    return Counted(len(prompt.tokens or ()))
                case ServerKind.LLAMA_SERVER:
                    prompt = self._told("/apply-template", _Prompt, waiter, tries, **fields)
                    return Counted(len(self._tokens_of(prompt.prompt, waiter, tries)))
                case ServerKind.VLLM:
                    return Counted(len(self._vllm_tokens(fields, waiter, tries)))
                case ServerKind.LLAMA_CPP_PYTHON:
                    text = "\n".join(map(estimate.words_of, request.messages))
                    found = self._told("/extras/tokenize", _Tokenized, waiter, tries, input=text)
                    return _about(len(found.tokens) + estimate.tokens_around(request.messages, request.tools))
        except UpstreamSetupError as error:
            if error.code != NO_ROUTE:  # a proxy in between may pass OpenAI's routes only
                raise
        return _about(estimate.tokens_of_messages(request.messages, request.tools))

    def _count_text(self, request: TokenizeRequest, waiter: Waiter, tries: Tries | None) -> Counted:
        try:
            return Counted(len(self.tokenize(request, waiter, tries).ids))
        except InvalidRequestError:  # it cannot do that
            pass
        except UpstreamSetupError as error:
            if error.code != NO_ROUTE:
                raise
        return _about(estimate.tokens_of(request.content))

    def _tokens_of(self, prompt: str, waiter: Waiter, tries: Tries | None) -> list[int]:
        found = self._told("/tokenize", _Tokenized, waiter, tries, content=prompt, add_special=True, parse_special=True)
        return found.tokens

    def _vllm_tokens(self, fields: dict[str, Any], waiter: Waiter, tries: Tries | None) -> list[int]:
        return self._told("/tokenize", _Tokenized, waiter, tries, **fields).tokens

    def _told(self, path: str, expected: type[T], waiter: Waiter, tries: Tries | None, **body: Any) -> T:
        call = Call(
            path=path,
            body=encode({"model": self._pool.upstream.model, **body}),
            at_root=self._kind is not ServerKind.JANFLASK,
            counted=TRAITS[self._kind].one_at_a_time,
        )
        return decoded(ask(self._pool, call, waiter, BEAT, tries), expected, path)

    def _check_plain(self, request: TokenizeRequest) -> None:
        if request.with_pieces:
            raise self._none("give tokens with their bytes", "with_pieces")
        if not request.parse_special and any(sign in request.content for sign in "<["):
            raise self._none("take the text of special tokens as plain text", "parse_special")

    def _none(self, what: str, param: str | None = None) -> JanflaskError:
        return InvalidRequestError(
            f"the server that runs {self._pool.model_id} (kind {self._kind}) cannot {what}", param=param
        )


def _about(tokens: int) -> Counted:
    return Counted(tokens, is_estimate=True)


def decoded(answer: WholeReader, expected: type[T], path: str) -> T:
    """An answer as what it should be. Raises UpstreamError."""
    try:
        return json_decoder(expected).decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise nonsense(f"what {path} should give", bytes(answer.body), answer.where) from None
