"""The engine's sockets: requests in, frames out. One thread runs ``serve``; the loop's thread writes through the sinks.

A connection is one generation (or asks for stats). Output goes straight from the loop's thread into the socket; what
the socket does not take is kept and written by this thread when there is room, so a client that reads slowly holds
nobody up. One that falls ``MAX_BUFFER`` behind is cut off.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import selectors
import socket
import threading
import time
from array import array
from pathlib import Path
from typing import Protocol

from janflask.engine.connection import Connection
from janflask.engine.loop import Loop
from janflask.engine.sequence import Sampler, Sequence, TextStream
from janflask.errors import (
    ContextLengthExceededError,
    EngineError,
    InvalidRequestError,
    JanflaskError,
    ProtocolError,
    QueueFullError,
)
from janflask.ipc.protocol import (
    Detokenize,
    Done,
    ErrorReply,
    Finished,
    Generate,
    GetStats,
    Message,
    Started,
    Stats,
    Text,
    Tokenize,
    Tokens,
)
from janflask.types import FinishReason, GenerateRequest, SamplingParams, Timings, Usage

log = logging.getLogger(__name__)

MAX_BUFFER = 32 * 1024 * 1024  # bytes a client may fall behind: more than any context's worth of tokens
RECEIVE_SIZE = 256 * 1024
ACCEPT_PAUSE = 0.05  # seconds; a connection that waits would otherwise wake this thread again at once
FLUSH_TIME = 1.0  # seconds that last words may take when the engine stops


class TextModel(Protocol):
    """What a request needs of a model before the loop sees it; ``backend.Model``, or a fake in tests."""

    @property
    def n_vocab(self) -> int: ...
    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> array[int]: ...
    def piece(self, token: int) -> bytes: ...
    def make_sampler(self, params: SamplingParams, seed: int, prompt: array[int], n_ctx: int) -> Sampler: ...
    def make_text(self, stop: tuple[str, ...]) -> TextStream: ...


class EngineServer:
    """Listens on the engine's socket.

    Args:
        model: tokenizes and makes samplers.
        loop: generates.
        path: where to listen; the folder is private.
        queue_limit: requests that may wait beyond the slots.
    """

    def __init__(self, model: TextModel, loop: Loop, path: Path, queue_limit: int) -> None:
        self.model = model
        self.loop = loop
        self.path = path
        self.queue_limit = queue_limit
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(1024)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._connections: set[Connection] = set()
        self._attention: set[Connection] = set()
        self._stopping = threading.Event()

    # --- from other threads -------------------------------------------------------------------------------------

    def wants_attention(self, connection: Connection) -> None:
        """There is output that its socket did not take."""
        self._attention.add(connection)
        self._wake()

    def stop(self) -> None:
        """Lets ``serve`` return once last words are written, after ``FLUSH_TIME`` at the latest."""
        self._stopping.set()
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: it is awake already
            os.write(self._wake_write, b"!")

    # --- the server's thread ------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Accepts, reads and writes until ``stop``."""
        while not self._stopping.is_set():
            self._turn(None)
        deadline = time.monotonic() + FLUSH_TIME
        while any(not c.flush() for c in self._connections) and time.monotonic() < deadline:
            self._turn(0.05)
        self._listener.close()
        for connection in list(self._connections):
            self._drop(connection)

    def _turn(self, timeout: float | None) -> None:
        for key, events in self._selector.select(timeout):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj == self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
            else:
                connection: Connection = key.data
                if events & selectors.EVENT_READ:
                    self._read(connection)
                if events & selectors.EVENT_WRITE and connection in self._connections:
                    self._attention.add(connection)
        while self._attention:
            self._attend(self._attention.pop())

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # out of descriptors: those in use go on, the client tries again
            log.error("a connection could not be accepted: %s", error)
            time.sleep(ACCEPT_PAUSE)
            return
        sock.setblocking(False)
        connection = Connection(sock, self.loop, self.wants_attention)
        self._connections.add(connection)
        self._selector.register(sock, selectors.EVENT_READ, connection)

    def _attend(self, connection: Connection) -> None:
        """Writes what waits and watches for room as long as something is left."""
        if connection not in self._connections:
            return
        done = connection.flush()
        if connection.behind > MAX_BUFFER:
            log.warning("a client fell %d bytes behind and was cut off", connection.behind)
            self._drop(connection)
            return
        events = selectors.EVENT_READ if done else selectors.EVENT_READ | selectors.EVENT_WRITE
        self._selector.modify(connection.sock, events, connection)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        connection.reader.feed(data)
        try:
            while (message := connection.reader.next()) is not None:
                self._handle(connection, message)
        except ProtocolError as error:
            log.error("a client sent a bad frame: %s", error)
            connection.send(ErrorReply.of(error))
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        """Closes; what it still waited for is cancelled."""
        self._connections.discard(connection)
        self._selector.unregister(connection.sock)
        connection.close()
        if connection.unfinished > 0:
            self.loop.cancel(connection.sequences)

    # --- requests -----------------------------------------------------------------------------------------------

    def _handle(self, connection: Connection, message: Message) -> None:
        if isinstance(message, GetStats):
            connection.send(Stats(self.loop.stats()))
        elif isinstance(message, Generate):
            if connection.sequences:
                raise ProtocolError("a connection is one generation; open another for the next")
            self._answer(connection, message)
        elif isinstance(message, Tokenize | Detokenize):
            self._answer(connection, message)
        else:
            raise ProtocolError(f"an engine takes no {type(message).__name__}")

    def _answer(self, connection: Connection, message: Generate | Tokenize | Detokenize) -> None:
        """Whatever goes wrong with a request is its answer."""
        try:
            if isinstance(message, Generate):
                self._generate(connection, message.request)
            elif isinstance(message, Tokenize):
                connection.send(self._tokens(message))
            else:
                connection.send(self._text(message))
        except JanflaskError as error:
            connection.send(ErrorReply.of(error))
        except Exception:
            log.exception("a request could not be taken")
            connection.send(ErrorReply.of(EngineError("the engine failed on this request; its log says why")))

    def _tokens(self, message: Tokenize) -> Tokens:
        ids = self.model.tokenize(message.text, add_special=message.add_special, parse_special=message.parse_special)
        return Tokens(ids.tolist(), [self.model.piece(token) for token in ids] if message.pieces else None)

    def _text(self, message: Detokenize) -> Text:
        self._check_tokens(message.tokens, "tokens")
        return Text(b"".join(map(self.model.piece, message.tokens)).decode("utf-8", "replace"))

    def _check_tokens(self, tokens: tuple[int, ...], param: str) -> None:
        for token in tokens:
            if not 0 <= token < self.model.n_vocab:
                raise InvalidRequestError(
                    f"token {token} is not in the vocabulary of {self.model.n_vocab} tokens", param=param
                )

    def _generate(self, connection: Connection, request: GenerateRequest) -> None:
        if request.n < 1:
            raise InvalidRequestError("n must be at least 1", param="n")
        self._check_queue(request.n)
        prompt = self._prompt(request)
        if request.max_tokens == 0:
            self._answer_nothing(connection, request, len(prompt))
            return
        sequences = [self._sequence(connection, request, prompt, i) for i in range(request.n)]
        connection.sequences = sequences
        connection.unfinished = request.n
        connection.send(Started(len(prompt)))
        self.loop.submit(sequences)

    def _check_queue(self, n: int) -> None:
        active = sum(connection.unfinished for connection in self._connections)
        room = len(self.loop.scheduler.cache.slots) + self.queue_limit
        if active + n > room:
            raise QueueFullError(
                f"{active} requests are running or waiting for this model, the most is {room}: try again later, "
                "or raise JANFLASK_QUEUE_LIMIT",
                retry_after=2,
            )

    def _prompt(self, request: GenerateRequest) -> array[int]:
        """The prompt's tokens. Raises ContextLengthExceededError naming both lengths, InvalidRequestError."""
        if isinstance(request.prompt, str):
            tokens = self.model.tokenize(
                request.prompt, add_special=request.add_special, parse_special=request.parse_special
            )
        else:
            self._check_tokens(request.prompt, "prompt")
            tokens = array("i", request.prompt)
        if not tokens:
            raise InvalidRequestError("the prompt is empty: it must hold at least one token", param="prompt")
        if len(tokens) >= self.loop.capacity:
            raise ContextLengthExceededError(
                f"the prompt has {len(tokens)} tokens, the model's context holds {self.loop.capacity}, one of them for "
                "the answer: shorten the prompt or start the model with a larger ctx_len",
                param="prompt",
            )
        return tokens

    def _sequence(self, connection: Connection, request: GenerateRequest, prompt: array[int], index: int) -> Sequence:
        params = request.sampling
        for token, _ in params.logit_bias:
            if not 0 <= token < self.model.n_vocab:
                raise InvalidRequestError(
                    f"logit_bias names token {token}; the vocabulary has {self.model.n_vocab}", param="logit_bias"
                )
        return Sequence(
            tokens=array("i", prompt),
            n_prompt=len(prompt),
            index=index,
            max_tokens=request.max_tokens,
            sampler=self.model.make_sampler(params, _seed(params, index), prompt, self.loop.capacity),
            text=self.model.make_text(request.stop),
            sink=connection,
            cache_prompt=request.cache_prompt,
            wants_logprobs=params.top_logprobs is not None,
            arrived=self.loop.clock(),
        )

    @staticmethod
    def _answer_nothing(connection: Connection, request: GenerateRequest, prompt_tokens: int) -> None:
        """``max_tokens`` 0: valid, and nothing to compute."""
        connection.send(Started(prompt_tokens))
        for index in range(request.n):
            connection.send(Finished(index, FinishReason.LENGTH))
        nothing = Timings(cache_n=0, prompt_n=0, prompt_ms=0.0, predicted_n=0, predicted_ms=0.0, queue_ms=0.0)
        connection.send(Done(Usage(prompt_tokens=prompt_tokens, completion_tokens=0, cached_tokens=0), nothing))


def _seed(params: SamplingParams, index: int) -> int:
    """Each choice draws from a stream of its own; without a seed, from one nobody can guess."""
    return secrets.randbits(63) if params.seed is None else (params.seed + index) % 2**64
