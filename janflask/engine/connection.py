"""One client of an engine: the sink of its sequences, and a buffer for what its socket does not take yet."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from janflask.engine.embedder import EmbeddingTask
from janflask.engine.loop import Loop
from janflask.engine.sequence import Sequence
from janflask.errors import JanflaskError
from janflask.ipc.channel import Channel
from janflask.ipc.frames import Message, encode
from janflask.ipc.messages.engine import Chunk, Done, Echo, Finished
from janflask.ipc.messages.error import ErrorReply
from janflask.ipc.messages.generation import FinishReason, Timings, Usage
from janflask.parsing.deltas import TokenLogprob


class Connection:
    """One client. It is the sink of its generation's sequences."""

    def __init__(self, sock: socket.socket, loop: Loop | None, attention: Callable[[Connection], None]) -> None:
        self.sock = sock
        self._loop = loop
        self._attention = attention
        self.channel = Channel(sock, "a client")  # it is read by; what is sent may have to wait, below
        self.sequences: list[Sequence] = []  # under way; let go then: they point here, and such a ring is freed late
        self.unfinished = 0
        self.has_begun = False  # its generation, which is the only one
        self.request_id: str | None = None
        self.is_preparing = False  # its generation's constraint is being compiled
        self.tasks: set[EmbeddingTask] = set()  # embeddings under way
        self.closed = False
        self._out = bytearray()
        self._lock = threading.Lock()

    # --- the loop's thread --------------------------------------------------------------------------------------

    def chunk(self, index: int, text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
        self.send(Chunk(index, text, logprobs))

    def echo(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
        self.send(Echo(text, logprobs))

    def finished(self, sequence: Sequence, reason: FinishReason) -> None:
        self.send(Finished(sequence.index, reason, sequence.text.stop))
        self.unfinished -= 1
        if self.unfinished == 0 and (sequences := self.let_go()):
            self.send(Done(usage(sequences), timings(sequences)))

    def failed(self, sequence: Sequence, error: JanflaskError) -> None:
        """The whole generation fails with its first failing choice."""
        others = [other for other in self.let_go() if other is not sequence]
        if self.unfinished > 0:
            self.unfinished = 0
            self.send(ErrorReply.of(error))
            if self._loop is not None:
                self._loop.cancel(others)

    # --- any thread ---------------------------------------------------------------------------------------------

    def let_go(self) -> list[Sequence]:
        """The sequences that were under way, which are the caller's now; none if another thread was sooner."""
        sequences, self.sequences = self.sequences, []
        return sequences

    def send(self, message: Message) -> None:
        """Writes now what the socket takes; the rest waits for the server's thread."""
        data = encode(message)
        with self._lock:
            if self.closed:
                return
            if not self._out:
                data = data[self._write(data) :]
            self._out += data
            behind = len(self._out)
        if behind:
            self._attention(self)

    def flush(self) -> bool:
        """Writes what waits. True when nothing is left."""
        with self._lock:
            if self._out and not self.closed:
                del self._out[: self._write(self._out)]
            return not self._out

    def _write(self, data: bytes | bytearray) -> int:
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)  # the peer is gone; the server's thread will read the end of stream and cancel

    @property
    def behind(self) -> int:
        return len(self._out)

    def close(self) -> None:
        with self._lock:
            self.closed = True
            self.sock.close()


def usage(sequences: list[Sequence]) -> Usage:
    """Of all choices together; they share one prompt."""
    first = sequences[0]
    return Usage(
        prompt_tokens=first.n_prompt,
        completion_tokens=sum(sequence.n_generated for sequence in sequences),
        cached_tokens=first.n_cached,
        accepted_prediction_tokens=sum(sequence.draft.accepted for sequence in sequences),
        rejected_prediction_tokens=sum(sequence.draft.drafted - sequence.draft.accepted for sequence in sequences),
    )


def timings(sequences: list[Sequence]) -> Timings:
    """Of the first choice's prompt and of everybody's generation."""
    first = sequences[0]
    admitted = first.admitted or first.arrived
    first_token = first.first_token or admitted
    last = max(sequence.last_token or first_token for sequence in sequences)
    return Timings(
        cache_n=first.n_cached,
        prompt_n=first.n_prompt - first.n_cached,
        prompt_ms=(first_token - admitted) * 1e3,
        predicted_n=sum(sequence.n_generated for sequence in sequences),
        predicted_ms=(last - first_token) * 1e3,
        queue_ms=(admitted - first.arrived) * 1e3,
    )
