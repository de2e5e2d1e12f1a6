"""Makes vectors for everybody who asks: requests in turn, several inputs in one decode. One thread runs it.

A request waits in one of two queues: ``_arrived`` until all its texts are tokens (so that a text that is too long
refuses it before anything is computed), ``_ready`` until all its inputs are vectors. Both are taken in turn, an input
each, so that a request of two thousand texts holds nobody up.
"""

from __future__ import annotations

import logging
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from janflask.engine.vocabulary import check_tokens
from janflask.engine.worker import Worker
from janflask.errors import (
    ContextLengthExceededError,
    EngineError,
    InvalidRequestError,
    JanflaskError,
)
from janflask.ipc.frames import Message
from janflask.ipc.messages.engine import Embed, Embeddings
from janflask.ipc.messages.error import ErrorReply
from janflask.models.engine_info import EngineStats

log = logging.getLogger(__name__)

PREPARE_CHARACTERS = 65_536  # to be made tokens between two decodes


class VectorContext(Protocol):
    """What is asked of llama.cpp; ``embedding.EmbeddingContext``, or a fake in tests."""

    capacity: int  # tokens of one input

    def tokenize(self, text: str) -> array[int]: ...
    def embed(self, inputs: Sequence[array[int]]) -> list[bytes | None]: ...


class EmbeddingTask:
    """One request's inputs on their way; ``reply`` is called once, from the embedder's thread."""

    def __init__(self, question: Embed, reply: Callable[[EmbeddingTask, Message], None]) -> None:
        self.question = question
        self.reply = reply
        self.tokens: list[array[int]] = []
        self.packed = 0  # inputs that were handed to a decode
        self.vectors: list[bytes] = []
        self.ended = False

    @property
    def is_prepared(self) -> bool:
        return len(self.tokens) == len(self.question.inputs)

    def name(self, number: int) -> str:
        """What the request calls an input."""
        alone = len(self.question.inputs) == 1 and self.question.first == 0
        return "input" if alone else f"input.{self.question.first + number}"


class Embedder(Worker):
    """Everything but ``submit``, ``cancel``, ``stop``, ``touch`` and what only tells is its thread's.

    Args:
        open_context: called by its thread before the first decode; what it raises fails the requests that wait.
        width: numbers of a vector.
        n_inputs: inputs of a decode, at most.
        pack_tokens: tokens of a decode of several inputs, at most.
        n_vocab: token ids are below it.
        clock: seconds; a test's own.
    """

    def __init__(
        self,
        open_context: Callable[[], VectorContext],
        width: int,
        n_inputs: int,
        pack_tokens: int,
        n_vocab: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock)
        self.width = width
        self.n_inputs = n_inputs
        self._open_context = open_context
        self._pack_tokens = pack_tokens
        self._n_vocab = n_vocab
        self._context: VectorContext | None = None
        self._arrived: deque[EmbeddingTask] = deque()
        self._ready: deque[EmbeddingTask] = deque()
        self._counts = {"requests": 0, "tokens": 0, "cancelled": 0, "steps": 0}

    # --- from other threads -------------------------------------------------------------------------------------

    def submit(self, task: EmbeddingTask) -> None:
        """Queues a request."""
        self._post(lambda: self._accept(task))

    def cancel(self, task: EmbeddingTask) -> None:
        """Forgets a request whose client is gone; one that is done is ignored."""
        self._post(lambda: self._cancel(task))

    def stats(self) -> EngineStats:
        """Counters and load at this moment."""
        return EngineStats(
            slots=self.n_inputs,
            busy=len(self._ready),
            waiting=len(self._arrived),
            kv_cells=0,
            kv_used=0,
            requests=self._counts["requests"],
            prompt_tokens=self._counts["tokens"],
            cached_tokens=0,
            asked_tokens=self._counts["tokens"],
            generated_tokens=0,
            preempted=0,
            cancelled=self._counts["cancelled"],
            steps=self._counts["steps"],
            idle_seconds=self.idle_seconds,
            stalled_seconds=self.stalled_seconds,
        )

    # --- its thread ---------------------------------------------------------------------------------------------

    def _end(self, error: JanflaskError) -> None:
        for task in [*self._arrived, *self._ready]:
            self._fail(task, error)

    def step(self) -> bool:
        """Some texts to tokens, one decode for everybody. False: there is nothing to do."""
        self._take_inbox()
        if not self._arrived and not self._ready:
            return False
        try:
            context = self._opened()
        except JanflaskError as error:
            self._end(error)
            return True
        self._prepare(context)
        self._compute(context, self._pack())
        self._active_at = self.clock()
        return True

    def _opened(self) -> VectorContext:
        if self._context is None:
            self._context = self._open_context()
        return self._context

    def _accept(self, task: EmbeddingTask) -> None:
        self._counts["requests"] += 1
        self._arrived.append(task)

    def _cancel(self, task: EmbeddingTask) -> None:
        if self._forget(task):
            self._counts["cancelled"] += 1

    def _forget(self, task: EmbeddingTask) -> bool:
        for queue in (self._arrived, self._ready):
            if task in queue:
                queue.remove(task)
                return True
        return False

    # --- texts to tokens ----------------------------------------------------------------------------------------

    def _prepare(self, context: VectorContext) -> None:
        """A text of each request in turn, until they have been many characters."""
        room = PREPARE_CHARACTERS
        while self._arrived and room > 0:
            task = self._arrived[0]
            number = len(task.tokens)
            try:
                task.tokens.append(self._tokens(context, task.question.inputs[number]))
            except JanflaskError as error:
                error.param = task.name(number)
                error.message = f"{error.param}: {error.message}"
                self._fail(task, error)
                continue
            room -= len(task.question.inputs[number])
            if task.is_prepared:
                self._arrived.popleft()
                self._ready.append(task)
            else:
                self._arrived.rotate(-1)

    def _tokens(self, context: VectorContext, given: str | tuple[int, ...]) -> array[int]:
        if isinstance(given, str):
            tokens = context.tokenize(given) if given else array("i")
        else:
            check_tokens(given, self._n_vocab, "token {}")
            tokens = array("i", given)
        if not tokens:
            raise InvalidRequestError("it is empty, it must hold at least one token")
        if len(tokens) > context.capacity:
            raise ContextLengthExceededError.of(len(tokens), context.capacity, "Send it in parts")
        return tokens

    # --- tokens to vectors --------------------------------------------------------------------------------------

    def _pack(self) -> list[tuple[EmbeddingTask, array[int]]]:
        """The next decode's inputs: one of each request in turn as long as there is room, or a long one by itself."""
        parts: list[tuple[EmbeddingTask, array[int]]] = []
        room = self._pack_tokens
        while self._ready and len(parts) < self.n_inputs:
            task = self._ready[0]
            tokens = task.tokens[task.packed]
            if parts and len(tokens) > room:
                break
            parts.append((task, tokens))
            room -= len(tokens)
            task.packed += 1
            self._ready.rotate(-1)
            if task.packed == len(task.tokens):
                self._ready.remove(task)
        return parts

    def _compute(self, context: VectorContext, parts: list[tuple[EmbeddingTask, array[int]]]) -> None:
        if not parts:
            return
        try:
            vectors = context.embed([tokens for _, tokens in parts])
        except JanflaskError as error:
            log.error("%s", error.message)
            for task in dict.fromkeys(task for task, _ in parts):
                self._fail(task, error)
            return
        self._counts["steps"] += 1
        self._counts["tokens"] += sum(len(tokens) for _, tokens in parts)
        for (task, _), vector in zip(parts, vectors, strict=True):
            if vector is None:
                self._fail(task, EngineError("the model computed no numbers for an input: its weights may be damaged"))
                continue
            task.vectors.append(shortened(vector, task.question.dimensions))
            if len(task.vectors) == len(task.tokens):
                self._reply(task, Embeddings(task.vectors, sum(map(len, task.tokens))))

    def _fail(self, task: EmbeddingTask, error: JanflaskError) -> None:
        self._forget(task)
        self._reply(task, ErrorReply.of(error))

    @staticmethod
    def _reply(task: EmbeddingTask, message: Message) -> None:
        if task.ended:
            return
        task.ended = True
        try:
            task.reply(task, message)
        except JanflaskError as error:  # the answer is too long for a frame
            task.reply(task, ErrorReply.of(EngineError(f"the embeddings cannot be sent: {error.message}")))


def shortened(vector: bytes, dimensions: int | None) -> bytes:
    """The first ``dimensions`` numbers of a vector, of length 1 again; all zeros stay so."""
    if dimensions is None or 4 * dimensions >= len(vector):
        return vector
    part = np.frombuffer(vector, "<f4", dimensions).astype(np.float64)
    length = float(np.sqrt(part @ part))
    return bytes((part / (length or 1.0)).astype("<f4").tobytes())
