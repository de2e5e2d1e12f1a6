"""What an engine answers: it generates, makes embeddings, cuts texts into tokens and tells how busy it is.

Requests come over the sockets of ``sockets.py``; a connection is one generation, or any number of other questions.
"""

from __future__ import annotations

import logging
import secrets
import socket
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from janflask.engine.answers import failed_here
from janflask.engine.connection import Connection
from janflask.engine.constraint import Compiler
from janflask.engine.draft import Draft
from janflask.engine.echo import PromptEcho
from janflask.engine.embedder import Embedder, EmbeddingTask
from janflask.engine.guides import Guides, Sources, compile_all, constraints
from janflask.engine.loop import Loop
from janflask.engine.prompts import predicted_tokens, prompt_tokens, tokenized
from janflask.engine.sequence import Sampler, Sequence, TextStream, tell_prompt
from janflask.engine.sockets import SocketServer
from janflask.engine.vocabulary import check_tokens
from janflask.errors import (
    InvalidRequestError,
    JanflaskError,
    ProtocolError,
    QueueFullError,
)
from janflask.ipc.frames import Message
from janflask.ipc.messages.engine import (
    Detokenize,
    Done,
    Echo,
    Embed,
    Finished,
    Generate,
    GetLoad,
    GetMetrics,
    GetSpecials,
    GetStats,
    Load,
    Metrics,
    Specials,
    Started,
    Stats,
    Text,
    Tokenize,
    Tokens,
)
from janflask.ipc.messages.error import ErrorReply
from janflask.ipc.messages.generation import FinishReason, GenerateRequest, Timings, Usage
from janflask.models.engine_info import EngineStats
from janflask.models.sampling import SamplingParams

log = logging.getLogger(__name__)


class TextModel(Protocol):
    """What a request needs of a model before the loop sees it; ``model.Model``, or a fake in tests."""

    @property
    def n_vocab(self) -> int: ...
    @property
    def specials(self) -> Specials: ...
    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> array[int]: ...
    def piece(self, token: int) -> bytes: ...
    def make_sampler(self, params: SamplingParams, seed: int, prompt: array[int], n_ctx: int) -> Sampler: ...
    def make_text(self, stop: tuple[str, ...], markers: tuple[str, ...] = ()) -> TextStream: ...


class EngineServer(SocketServer):
    """Takes requests to the loop, or to the embedder, or both; one of them is there.

    Args:
        model: tokenizes and makes samplers.
        loop: generates; None: the model serves no text.
        path: where to listen; the folder is private.
        queue_limit: requests that may wait beyond those that are computed at once.
        embedder: makes embeddings; None: the model serves none.
        compiler: of constraints; None: answers cannot be constrained.
        guesses_freely: tokens are guessed ahead even where that may change a bit of what is computed; None: for who
            sends a prediction.
    """

    def __init__(
        self,
        model: TextModel,
        loop: Loop | None,
        path: Path,
        queue_limit: int,
        embedder: Embedder | None = None,
        compiler: Compiler | None = None,
        *,
        guesses_freely: bool | None = None,
    ) -> None:
        super().__init__(path)
        self.guesses_freely = guesses_freely
        self.model = model
        self.loop = loop
        self.compiler = compiler
        self.embedder = embedder
        self.queue_limit = queue_limit
        self._guides = Guides(model)
        if loop is not None:
            self._guides.get_ready()
        self._workers = [worker for worker in (loop, embedder) if worker is not None]

    def connection(self, sock: socket.socket) -> Connection:
        """See SocketServer."""
        return Connection(sock, self.loop, self.wants_attention)

    def dropped(self, connection: Connection) -> None:
        """Cancels what the client still waited for."""
        if self.loop is not None and (sequences := connection.let_go()):
            self.loop.cancel(sequences)
        if self.embedder is not None:
            for task in list(connection.tasks):
                self.embedder.cancel(task)
            connection.tasks.clear()

    def is_busy(self) -> bool:
        """A request is under way, or its client has not left yet and may be about to make the next."""
        resting = all(worker.is_resting() for worker in self._workers)
        return not resting or any(
            connection.has_begun or connection.tasks or connection.is_preparing for connection in self._connections
        )

    def _stats(self) -> EngineStats:
        """Of loop and embedder together."""
        first, *others = [worker.stats() for worker in self._workers]
        for other in others:
            first = replace(
                first,
                busy=first.busy + other.busy,
                waiting=first.waiting + other.waiting,
                requests=first.requests + other.requests,
                prompt_tokens=first.prompt_tokens + other.prompt_tokens,
                asked_tokens=first.asked_tokens + other.asked_tokens,
                cancelled=first.cancelled + other.cancelled,
                steps=first.steps + other.steps,
                idle_seconds=min(first.idle_seconds, other.idle_seconds),
                stalled_seconds=max(first.stalled_seconds, other.stalled_seconds),
            )
        return first

    def _metrics(self) -> Metrics:
        if self.loop is None:
            return Metrics(self._stats(), {}, {})
        return Metrics(self._stats(), self.loop.answers.latencies.counted(), self.loop.answers.latencies.ends())

    # --- requests -----------------------------------------------------------------------------------------------

    def handle(self, connection: Connection, message: Message) -> None:
        """See SocketServer."""
        if isinstance(message, GetStats):
            connection.send(Stats(self._stats()))
        elif isinstance(message, GetMetrics):
            connection.send(self._metrics())
        elif isinstance(message, GetLoad):
            connection.send(Load(self._stats(), [] if self.loop is None else self.loop.open_answers()))
        elif isinstance(message, GetSpecials):
            connection.send(self.model.specials)
        elif isinstance(message, Generate):
            if connection.has_begun or connection.is_preparing:
                raise ProtocolError("a connection is one generation; open another for the next")
            self._answer(connection, message)
        elif isinstance(message, Tokenize | Detokenize | Embed):
            self._answer(connection, message)
        else:
            raise ProtocolError(f"an engine takes no {type(message).__name__}")

    def _answer(self, connection: Connection, message: Generate | Tokenize | Detokenize | Embed) -> None:
        """Whatever goes wrong with a request is its answer."""
        with self._told(connection):
            if isinstance(message, Generate):
                connection.request_id = message.request_id
                self._generate(connection, message.request)
            elif isinstance(message, Embed):
                self._embed(connection, message)
            else:
                for worker in self._workers:
                    worker.touch()
                connection.send(self._tokens(message) if isinstance(message, Tokenize) else self._text(message))

    @contextmanager
    def _told(self, connection: Connection) -> Iterator[None]:
        """Tells the client what goes wrong."""
        try:
            yield
        except JanflaskError as error:
            connection.send(ErrorReply.of(error))
        except Exception:
            log.exception("a request could not be taken", extra={"fields": {"request_id": connection.request_id}})
            connection.send(ErrorReply.of(failed_here()))

    def _tokens(self, message: Tokenize) -> Tokens:
        ids = tokenized(
            self.model,
            message.text,
            message.cuts,
            add_special=message.add_special,
            parse_special=message.parse_special,
        )
        return Tokens(ids.tolist(), [self.model.piece(token) for token in ids] if message.pieces else None)

    def _text(self, message: Detokenize) -> Text:
        check_tokens(message.tokens, self.model.n_vocab, "tokens.{}")
        return Text(b"".join(map(self.model.piece, message.tokens)).decode("utf-8", "replace"))

    def _embed(self, connection: Connection, question: Embed) -> None:
        if self.embedder is None:
            raise InvalidRequestError(
                "this model makes no embeddings: use an embedding model, or set settings.embedding to true and start "
                "it again",
                param="model",
            )
        if not question.inputs:
            raise InvalidRequestError("there is no input: it must hold at least one", param="input")
        if question.dimensions is not None and question.dimensions > self.embedder.width:
            raise InvalidRequestError(
                f"dimensions is {question.dimensions}: the model's vectors have {self.embedder.width}",
                param="dimensions",
            )
        active = sum(len(connection.tasks) for connection in self._connections)
        self._check_queue(active, 1, self.embedder.n_inputs)
        task = EmbeddingTask(question, lambda task, message: self._embedded(connection, task, message))
        connection.tasks.add(task)
        self.embedder.submit(task)

    @staticmethod
    def _embedded(connection: Connection, task: EmbeddingTask, message: Message) -> None:
        connection.tasks.discard(task)
        connection.send(message)

    def _generate(self, connection: Connection, request: GenerateRequest) -> None:
        loop = self.loop
        if loop is None:
            raise InvalidRequestError("this model serves embeddings, not text: POST /v1/embeddings", param="model")
        if request.n < 1:
            raise InvalidRequestError("n must be at least 1", param="n")
        active = sum(connection.unfinished for connection in self._connections)
        self._check_queue(active, request.n, len(loop.scheduler.cache.slots))
        wanted = constraints(request)
        if not wanted:
            self._begin(connection, loop, request, {})
            return
        if self.compiler is None:
            raise InvalidRequestError("answers cannot be constrained here", param=wanted[0].name)
        connection.is_preparing = True
        connection.unfinished = request.n
        compile_all(
            self.compiler,
            wanted,
            lambda result: self.call(lambda: self._prepared(connection, loop, request, result)),
            request.owner,
        )

    def _prepared(
        self, connection: Connection, loop: Loop, request: GenerateRequest, result: Sources | JanflaskError
    ) -> None:
        """Goes on with a request whose constraints are compiled, unless its client has left meanwhile."""
        connection.is_preparing = False
        connection.unfinished = 0
        if connection.closed:
            return
        with self._told(connection):
            if isinstance(result, JanflaskError):
                raise result
            self._begin(connection, loop, request, result)

    def _begin(self, connection: Connection, loop: Loop, request: GenerateRequest, compiled: Sources) -> None:
        prompt = prompt_tokens(self.model, request, loop.capacity)
        biased = (token for token, _ in request.sampling.logit_bias)
        check_tokens(biased, self.model.n_vocab, request.bias_name, param="logit_bias")
        prediction = predicted_tokens(self.model, request)
        sequences = [self._sequence(connection, loop, request, prompt, i) for i in range(request.n)]
        is_free = bool(prediction) if self.guesses_freely is None else self.guesses_freely
        is_exact = not is_free or _is_pinned(request.sampling)
        for sequence in sequences:
            sequence.draft = Draft(prompt, prediction, is_exact=is_exact)
            sequence.guide = self._guides.make(request, compiled)
        scored = request.echo and request.sampling.top_logprobs is not None
        if scored:
            tell_prompt(sequences, PromptEcho(request.prompt, prompt, self.model.piece))
        connection.send(Started(len(prompt)))
        if request.echo and not scored:
            connection.send(Echo(PromptEcho(request.prompt, prompt, self.model.piece).whole_text()))
        if request.max_tokens == 0 and not scored:
            self._answer_nothing(connection, request, len(prompt))
            return
        connection.has_begun = True
        connection.sequences = sequences
        connection.unfinished = request.n
        loop.submit(sequences)

    def _check_queue(self, active: int, n: int, at_once: int) -> None:
        room = at_once + self.queue_limit
        if active + n > room:
            raise QueueFullError(
                f"{active} requests are running or waiting for this model, the most is {room}: try again later, "
                "or raise JANFLASK_QUEUE_LIMIT",
                retry_after=2,
            )

    def _sequence(
        self, connection: Connection, loop: Loop, request: GenerateRequest, prompt: array[int], index: int
    ) -> Sequence:
        params = request.sampling
        return Sequence(
            tokens=array("i", prompt),
            n_prompt=len(prompt),
            index=index,
            max_tokens=request.max_tokens,
            sampler=self.model.make_sampler(params, _seed(params, index), prompt, loop.capacity),
            text=self.model.make_text(request.stop, request.markers),
            sink=connection,
            cache_prompt=request.cache_prompt,
            wants_logprobs=params.top_logprobs is not None,
            owner=request.owner,
            conversation=request.conversation if request.n == 1 else None,
            is_lasting=_is_lasting(request),
            arrived=loop.clock(),
            request_id=connection.request_id,
        )

    @staticmethod
    def _answer_nothing(connection: Connection, request: GenerateRequest, prompt_tokens: int) -> None:
        """``max_tokens`` 0: valid, and nothing to compute."""
        for index in range(request.n):
            connection.send(Finished(index, FinishReason.LENGTH))
        nothing = Timings(cache_n=0, prompt_n=0, prompt_ms=0.0, predicted_n=0, predicted_ms=0.0, queue_ms=0.0)
        connection.send(Done(Usage(prompt_tokens=prompt_tokens, completion_tokens=0, cached_tokens=0), nothing))


def _is_lasting(request: GenerateRequest) -> bool:
    """Whether the answer's KV state may outlive its slot. Several answers would be several states of one prompt."""
    return request.n == 1 and (request.conversation is not None or (request.keep_state and request.cache_prompt))


def _is_pinned(params: SamplingParams) -> bool:
    """Whether the answer's words hang on the last bit of each logit, and are to be the same every time.

    Beside other rows llama.cpp may compute a row to other bits than alone.
    """
    return params.seed is not None and (params.temperature > 0 or params.dynatemp_range > 0)


def _seed(params: SamplingParams, index: int) -> int:
    """Each choice draws from a stream of its own; without a seed, from one nobody can guess."""
    return secrets.randbits(63) if params.seed is None else (params.seed + index) % 2**64
