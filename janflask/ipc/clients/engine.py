"""Asking an engine: one connection is one generation, or one question."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TypeVar

from janflask.errors import EngineCrashedError, JanflaskError, ProtocolError
from janflask.ipc.channel import SEND_TIMEOUT, Channel, Waitable, expected_reply, wait_readable
from janflask.ipc.frames import Message
from janflask.ipc.messages.engine import (
    Chunk,
    Detokenize,
    Done,
    Echo,
    Embed,
    Embeddings,
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
from janflask.ipc.messages.generation import GenerateRequest
from janflask.ipc.request_id import CURRENT
from janflask.models.engine_info import EngineStats

LEAST_TIME = 0.01  # seconds to connect, for the last of many: a socket that listens takes microseconds

T = TypeVar("T")

GenerationMessage = Started | Echo | Chunk | Finished | Done


class Generation(Waitable):
    """One generation under way in an engine. Closing it cancels what is left of it.

    Use: wait until ``fileno()`` is readable (or ``wait``), then ``receive``, until a ``Done`` comes. Not thread-safe.
    """

    def __init__(self, connection: Channel) -> None:
        super().__init__(connection)
        self._failure: JanflaskError | None = None
        self._done = False

    @property
    def done(self) -> bool:
        """The ``Done`` was handed out: nothing comes after it."""
        return self._done

    def buffered(self) -> bool:
        """``receive`` has something to tell without waiting for the socket."""
        return self._failure is not None

    def wait(self, timeout: float) -> bool:
        """True when ``receive`` has something to do, False after ``timeout`` seconds of silence."""
        return self.buffered() or wait_readable(self.fileno(), timeout)

    def receive(self) -> list[GenerationMessage]:
        """What one recv brings: all messages that are complete. Empty when only a part of a frame (or nothing) came.

        Raises EngineCrashedError when the engine is gone before ``Done``, ProtocolError on a malformed or misplaced
        frame, and an ``ErrorReply`` as the error it carries. Messages that came before the failure are handed out
        first; then ``buffered`` is true and the next call raises.
        """
        messages: list[GenerationMessage] = []
        if self._done:
            return messages
        if self._failure is None:
            try:
                self._collect(messages)
            except EOFError:
                self._failure = EngineCrashedError(
                    "the engine ended in the middle of the request; it is being started again, try once more",
                    retry_after=1,
                )
            except JanflaskError as error:
                self._failure = error
        if self._failure is not None and not messages:
            raise self._failure
        return messages

    def _collect(self, messages: list[GenerationMessage]) -> None:
        if not self._connection.receive():
            return
        while not self._done and (message := self._connection.next()) is not None:
            if isinstance(message, ErrorReply):
                raise message.to_error()
            if not isinstance(message, GenerationMessage):
                raise ProtocolError(f"an engine sent a {type(message).__name__} into a generation")
            messages.append(message)
            self._done = isinstance(message, Done)


def open_generation(socket_path: str, request: GenerateRequest) -> Generation:
    """Hands ``request`` to the engine at ``socket_path``.

    Raises EngineCrashedError when nobody listens there, TimeoutExceededError when the engine takes no request,
    ProtocolError when the request is too long for a frame.
    """
    try:
        return Generation(Channel.connected(socket_path, "the engine", Generate(request, CURRENT.get())))
    except OSError as error:
        raise _no_engine(error) from error


def engine_stats(socket_path: str, timeout: float) -> EngineStats:
    """The engine's load. Raises EngineCrashedError, TimeoutExceededError, ProtocolError."""
    return _ask_engine(socket_path, GetStats(), Stats, timeout).stats


def engines_metrics(sockets: Mapping[str, str], timeout: float) -> dict[str, Metrics | JanflaskError]:
    """What the engines at these sockets count; see ``_ask_engines``."""
    return _ask_engines(sockets, GetMetrics(), Metrics, timeout)


def engines_loads(sockets: Mapping[str, str], timeout: float) -> dict[str, Load | JanflaskError]:
    """What the engines at these sockets have to do; see ``_ask_engines``."""
    return _ask_engines(sockets, GetLoad(), Load, timeout)


def engine_specials(socket_path: str, timeout: float) -> Specials:
    """The vocabulary's special tokens. Raises EngineCrashedError, TimeoutExceededError, ProtocolError."""
    return _ask_engine(socket_path, GetSpecials(), Specials, timeout)


def engine_tokens(socket_path: str, question: Tokenize, timeout: float) -> Tokens:
    """A text's tokens. Raises what the engine answers, EngineCrashedError, TimeoutExceededError, ProtocolError."""
    return _ask_engine(socket_path, question, Tokens, timeout)


def engine_text(socket_path: str, tokens: tuple[int, ...], timeout: float) -> str:
    """The text of tokens. Raises what the engine answers, EngineCrashedError, TimeoutExceededError, ProtocolError."""
    return _ask_engine(socket_path, Detokenize(tokens), Text, timeout).text


class PendingEmbeddings(Waitable):
    """Embeddings that were asked for; ``fileno()`` becomes readable when the engine answers. Closing it cancels."""

    def receive(self) -> Embeddings | None:
        """The embeddings, or None while they are not whole. Raises what the engine answers, EngineCrashedError."""
        try:
            self._connection.receive()
        except EOFError as error:
            raise _no_engine(error) from error
        message = self._connection.next()
        return None if message is None else expected_reply(message, Embeddings)


def ask_embeddings(socket_path: str, question: Embed) -> PendingEmbeddings:
    """Hands ``question`` to the engine at ``socket_path``.

    Raises EngineCrashedError when nobody listens there, TimeoutExceededError when the engine takes no request,
    ProtocolError when the question is too long for a frame.
    """
    try:
        return PendingEmbeddings(Channel.connected(socket_path, "the engine", question))
    except OSError as error:
        raise _no_engine(error) from error


def _ask_engines(
    sockets: Mapping[str, str], question: Message, expected: type[T], timeout: float
) -> dict[str, T | JanflaskError]:
    """What the engines at these sockets answer, by the same names, asked all at once; ``timeout`` is for all together.

    One that does not answer has its error there.
    """
    deadline = time.monotonic() + timeout
    answers: dict[str, T | JanflaskError] = {}
    with ExitStack() as opened:
        asked: dict[str, Channel] = {}
        for name, path in sockets.items():
            try:
                left = max(LEAST_TIME, deadline - time.monotonic())
                asked[name] = Channel.connected(path, "the engine", question, left)
                opened.callback(asked[name].close)
            except OSError as error:
                answers[name] = _no_engine(error)
            except JanflaskError as error:
                answers[name] = error
        for name, connection in asked.items():
            try:
                answers[name] = expected_reply(connection.reply(max(0.0, deadline - time.monotonic())), expected)
            except EOFError as error:
                answers[name] = _no_engine(error)
            except JanflaskError as error:
                answers[name] = error
    return answers


def _ask_engine(socket_path: str, question: Message, expected: type[T], timeout: float) -> T:
    try:
        connection = Channel.connected(socket_path, "the engine", question, min(timeout, SEND_TIMEOUT))
    except OSError as error:
        raise _no_engine(error) from error
    try:
        return expected_reply(connection.reply(timeout), expected)
    except EOFError as error:
        raise _no_engine(error) from error
    finally:
        connection.close()


def _no_engine(error: Exception) -> EngineCrashedError:
    reason = str(error) or "it closed the connection"
    return EngineCrashedError(
        f"the model's engine cannot be reached ({reason}); it is being started again, try once more", retry_after=1
    )
