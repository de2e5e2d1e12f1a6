"""An embedding engine's sockets for real, over a fake model; alone, and beside a loop that generates."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from janflask.engine.embedder import Embedder
from janflask.engine.loop import Loop
from janflask.engine.prefix_cache import PrefixCache
from janflask.engine.server import EngineServer
from janflask.engine.slices import Limits
from janflask.errors import EngineCrashedError, JanflaskError
from janflask.ipc.channel import wait_readable
from janflask.ipc.clients.engine import (
    PendingEmbeddings,
    ask_embeddings,
    engine_stats,
    engine_tokens,
    open_generation,
)
from janflask.ipc.frames import encode
from janflask.ipc.messages.engine import Embed, Embeddings, Tokenize
from janflask.ipc.messages.generation import GenerateRequest
from tests.fakes.fake_context import FakeContext, FakeSampler, FakeText
from tests.fakes.fake_embedding import N_VOCAB, WIDTH, FakeEmbedding, vector_of

LIMIT = 20.0


class FakeModel(FakeEmbedding):
    """The model's other half: what the server asks it beside embeddings."""

    n_vocab = N_VOCAB

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = False):
        return super().tokenize(text)

    def piece(self, token: int) -> bytes:
        return chr(token).encode()

    def make_sampler(self, params, seed: int, prompt, n_ctx: int) -> FakeSampler:
        return FakeSampler(0)

    def make_text(self, stop: tuple[str, ...], markers: tuple[str, ...] = ()) -> FakeText:
        return FakeText(stop)


@dataclass
class Engine:
    path: str
    model: FakeModel
    embedder: Embedder
    server: EngineServer

    def ask(self, *inputs: str | tuple[int, ...], dimensions: int | None = None, first: int = 0) -> PendingEmbeddings:
        return ask_embeddings(self.path, Embed(inputs, dimensions, first))

    def embed(self, *inputs: str | tuple[int, ...], **options: int) -> Embeddings:
        with self.ask(*inputs, **options) as pending:
            return answer(pending)

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + LIMIT
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} did not happen")
            time.sleep(0.005)


def answer(pending: PendingEmbeddings) -> Embeddings:
    while wait_readable(pending.fileno(), LIMIT):
        if (message := pending.receive()) is not None:
            return message
    raise AssertionError("no answer")


@pytest.fixture
def with_text() -> bool:
    return False


@pytest.fixture
def engine(tmp_path: Path, with_text: bool) -> Iterator[Engine]:
    model = FakeModel()
    embedder = Embedder(lambda: model, WIDTH, n_inputs=2, pack_tokens=64, n_vocab=N_VOCAB)
    loop = None
    if with_text:
        limits = Limits(kv_cells=256, shared_cells=False, chunk_size=64, slice_size=16)
        loop = Loop(FakeContext(slots=2, ctx_len=128, capacity=66), PrefixCache(2, enabled=True, can_trim=True), limits)
    server = EngineServer(model, loop, tmp_path / "engine.sock", 3, embedder)
    workers = [worker for worker in (embedder, loop) if worker is not None]
    threads = [threading.Thread(target=run) for run in (server.serve, *(worker.run for worker in workers))]
    for thread in threads:
        thread.start()
    yield Engine(str(tmp_path / "engine.sock"), model, embedder, server)
    model.gate.set()
    for worker in workers:
        worker.stop()
    for thread in threads[1:]:
        thread.join(LIMIT)
    server.stop()
    threads[0].join(LIMIT)


def test_vectors_come_in_order(engine: Engine) -> None:
    assert engine.embed("ab", (1, 2), "c") == Embeddings([vector_of((97, 98)), vector_of((1, 2)), vector_of((99,))], 5)


def test_many_clients_get_their_own(engine: Engine) -> None:
    pending = [engine.ask(letter * 3, letter) for letter in "abcde"]
    for letter, waiting in zip("abcde", pending, strict=True):
        with waiting:
            assert answer(waiting).vectors == [vector_of([ord(letter)])] * 2


def test_a_connection_may_ask_again_and_again(engine: Engine) -> None:
    with engine.ask("a") as pending:
        assert answer(pending).prompt_tokens == 1
        pending._connection._socket.sendall(encode(Embed(("bcd",))))
        assert answer(pending).prompt_tokens == 3


@pytest.mark.parametrize(
    ("inputs", "options", "param", "says"),
    [
        (("a", "b" * 65), {}, "input.1", "65 tokens"),
        (("a", "b" * 65), {"first": 2000}, "input.2001", "65 tokens"),
        ((), {}, "input", "at least one"),
        (("a",), {"dimensions": WIDTH + 1}, "dimensions", f"the model's vectors have {WIDTH}"),
    ],
)
def test_a_bad_question_is_refused(engine: Engine, inputs, options: dict[str, int], param: str, says: str) -> None:
    with pytest.raises(JanflaskError, match=says) as caught:
        engine.embed(*inputs, **options)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_a_full_queue_refuses_the_next(engine: Engine) -> None:
    engine.model.gate.clear()
    waiting = [engine.ask("a") for _ in range(5)]  # two at once, three that wait
    engine.wait_for(lambda: sum(len(c.tasks) for c in engine.server._connections) == 5, "queueing")
    with pytest.raises(JanflaskError) as caught:
        engine.embed("b")
    assert (caught.value.status, caught.value.code) == (429, "queue_full")
    engine.model.gate.set()
    for pending in waiting:
        with pending:
            assert answer(pending).prompt_tokens == 1


def test_a_client_that_goes_is_not_computed(engine: Engine) -> None:
    engine.model.gate.clear()
    with engine.ask(*["x" * 40] * 20):
        assert engine.model.entered.wait(LIMIT)
    engine.wait_for(lambda: not engine.server._connections, "the end of the connection")
    engine.model.gate.set()
    assert engine.embed("y").prompt_tokens == 1
    assert sum(text.startswith("x") for batch in engine.model.batches for text in batch) <= 2
    assert engine_stats(engine.path, LIMIT).cancelled == 1


def test_what_a_client_that_goes_had_asked_is_freed(engine: Engine) -> None:
    """Not when Python looks for rings the next time."""
    engine.model.gate.clear()
    first, second, pending = (engine.ask(text) for text in ("one", "two", "three"))
    engine.wait_for(lambda: sum(len(each.tasks) for each in engine.server._connections) == 3, "asking")
    tasks = [weakref.ref(task) for each in engine.server._connections for task in each.tasks]
    cancelled = threading.Event()
    gc.collect()
    gc.disable()
    try:
        pending.close()
        engine.wait_for(lambda: len(engine.server._connections) == 2, "the end of the connection")
        engine.server.call(cancelled.set)  # by the thread that ends it
        assert cancelled.wait(LIMIT)
        engine.model.gate.set()
        for kept in (first, second):
            with kept:
                answer(kept)
        engine.wait_for(lambda: [task() for task in tasks] == [None] * 3, "freeing them")
    finally:
        gc.enable()


def test_text_is_refused_but_tokens_are_counted(engine: Engine) -> None:
    with open_generation(engine.path, GenerateRequest(prompt="hello")) as generation:
        assert generation.wait(LIMIT)
        with pytest.raises(JanflaskError, match="serves embeddings, not text") as caught:
            generation.receive()
    assert caught.value.status == 400
    assert engine_tokens(engine.path, Tokenize("abc", False, False), LIMIT).ids == [97, 98, 99]


def test_it_retires_only_when_nothing_is_under_way(engine: Engine) -> None:
    engine.model.gate.clear()
    with engine.ask("a") as pending:
        assert engine.model.entered.wait(LIMIT)
        assert engine.server.retire() is False
        engine.model.gate.set()
        assert answer(pending).prompt_tokens == 1
    engine.wait_for(engine.embedder.is_resting, "rest")
    assert engine.server.retire() is True
    with pytest.raises(EngineCrashedError):
        engine.embed("b")


@pytest.mark.parametrize("with_text", [True])
def test_a_model_that_generates_embeds_at_the_same_time(engine: Engine) -> None:
    engine.model.gate.clear()
    with engine.ask("abc") as pending, open_generation(engine.path, GenerateRequest(prompt="hi", max_tokens=5)) as text:
        while not text.done:
            assert text.wait(LIMIT)
            text.receive()
        assert not wait_readable(pending.fileno(), 0)
        engine.model.gate.set()
        assert answer(pending).prompt_tokens == 3
    engine.wait_for(lambda: engine_stats(engine.path, LIMIT).idle_seconds > 0, "rest")
    stats = engine_stats(engine.path, LIMIT)
    assert (stats.requests, stats.prompt_tokens, stats.generated_tokens, stats.slots) == (2, 5, 5, 2)
