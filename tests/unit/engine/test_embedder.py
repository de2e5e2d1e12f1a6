"""The embedder over a fake model: everybody's turn, order, names of what is wrong, and every way a request ends."""

from __future__ import annotations

import threading

import pytest

from janflask.engine.embedder import PREPARE_CHARACTERS, Embedder, EmbeddingTask, shortened
from janflask.errors import EngineError, JanflaskError, ModelLoadError
from janflask.ipc.frames import MAX_PAYLOAD, Message, encode
from janflask.ipc.messages.engine import Embed, Embeddings
from janflask.ipc.messages.error import ErrorReply
from tests.fakes.fake_embedding import N_VOCAB, WIDTH, FakeEmbedding, numbers, vector_of

LIMIT = 20.0


class Bench:
    """An embedder whose steps a test takes, and the answers that came."""

    def __init__(self, *, n_inputs: int = 4, pack_tokens: int = 40, capacity: int = 64) -> None:
        self.context = FakeEmbedding(capacity)
        self.now = 100.0
        self.opened = 0
        self.embedder = Embedder(self._open, WIDTH, n_inputs, pack_tokens, N_VOCAB, clock=lambda: self.now)
        self.answers: dict[EmbeddingTask, Message] = {}

    def _open(self) -> FakeEmbedding:
        self.opened += 1
        return self.context

    def ask(self, *inputs: str | tuple[int, ...], dimensions: int | None = None, first: int = 0) -> EmbeddingTask:
        task = EmbeddingTask(Embed(inputs, dimensions, first), self._answered)
        self.embedder.submit(task)
        return task

    def _answered(self, task: EmbeddingTask, message: Message) -> None:
        assert task not in self.answers
        encode(message)  # as a connection does: it may be too long for a frame
        self.answers[task] = message

    def drain(self) -> None:
        for _ in range(5000):
            if not self.embedder.step():
                return
        raise AssertionError("the embedder does not come to an end")

    def error(self, task: EmbeddingTask) -> ErrorReply:
        answer = self.answers[task]
        assert isinstance(answer, ErrorReply)
        return answer


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_each_input_has_its_vector_in_order(bench: Bench) -> None:
    texts = ["abc", "a", "zzz", "longer than others", "b"]
    task = bench.ask(*texts)
    bench.drain()
    assert bench.answers[task] == Embeddings(
        [vector_of([ord(x) for x in text]) for text in texts], sum(map(len, texts))
    )


def test_tokens_are_taken_as_they_are(bench: Bench) -> None:
    task = bench.ask((1, 2, 3), "ab", (7,))
    bench.drain()
    assert bench.answers[task] == Embeddings([vector_of((1, 2, 3)), vector_of((97, 98)), vector_of((7,))], 6)
    assert bench.context.tokenized == ["ab"]


def test_inputs_of_several_requests_share_a_decode(bench: Bench) -> None:
    tasks = [bench.ask(letter * 3) for letter in "abc"]
    assert bench.embedder.step()
    assert bench.context.batches == [["aaa", "bbb", "ccc"]]
    assert set(bench.answers) == set(tasks)
    assert not bench.embedder.step()


def test_a_large_request_holds_nobody_up(bench: Bench) -> None:
    large = bench.ask(*["x" * 10] * 40)
    bench.embedder.step()
    small = bench.ask("y")
    bench.embedder.step()
    assert small in bench.answers
    assert large not in bench.answers
    bench.drain()
    assert len(bench.answers[large].vectors) == 40


def test_requests_are_taken_in_turn(bench: Bench) -> None:
    bench.ask(*["a" * 10] * 4)
    bench.ask(*["b" * 10] * 4)
    bench.drain()
    assert ["".join(text[0] for text in batch) for batch in bench.context.batches] == ["abab", "abab"]


def test_a_decode_holds_no_more_than_it_may(bench: Bench) -> None:
    bench.ask(*["a" * 15] * 3, *["b"] * 9)
    bench.drain()
    assert all(len(batch) <= 4 and sum(map(len, batch)) <= 40 for batch in bench.context.batches)


def test_a_long_input_is_computed_by_itself_and_soon(bench: Bench) -> None:
    bench.ask(*["a"] * 6)
    long = bench.ask("x" * 60)
    bench.ask(*["b"] * 6)
    bench.drain()
    assert ["x" * 60] in bench.context.batches[:2]
    assert long in bench.answers


# --- what is wrong with an input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "code", "says"),
    [
        ("y" * 65, "context_length_exceeded", "prompt is too long: 65 tokens > 64 maximum"),
        ((1,) * 70, "context_length_exceeded", "70 tokens"),
        ("", "invalid_request", "it is empty"),
        ((), "invalid_request", "it is empty"),
        ((5, N_VOCAB), "invalid_request", f"{N_VOCAB} is no token of this model, its ids go from 0 to {N_VOCAB - 1}"),
        ((-1,), "invalid_request", "-1 is no token"),
        ("\udc00", "invalid_request", "lone surrogate"),
    ],
)
def test_a_bad_input_is_named_before_anything_is_computed(
    bench: Bench, bad: str | tuple[int, ...], code: str, says: str
) -> None:
    task = bench.ask("good", "fine", bad, "well")
    other = bench.ask("unharmed")
    bench.drain()
    error = bench.error(task)
    assert (error.status, error.code, error.param) == (400, code, "input.2")
    assert says in error.message
    assert bench.context.batches == [["unharmed"]]
    assert isinstance(bench.answers[other], Embeddings)


def test_a_single_input_has_no_number_and_a_later_part_goes_on_counting(bench: Bench) -> None:
    tasks = [bench.ask(""), bench.ask("", first=100), bench.ask("a", "", first=100)]
    bench.drain()
    assert [bench.error(task).param for task in tasks] == ["input", "input.100", "input.101"]


def test_an_input_of_exactly_the_context_is_taken(bench: Bench) -> None:
    task = bench.ask("x" * 64)
    bench.drain()
    assert isinstance(bench.answers[task], Embeddings)


def test_many_texts_are_made_tokens_between_decodes(bench: Bench) -> None:
    """A client that is there already does not wait until a large request is all tokens."""
    size = bench.context.capacity
    count = 2 * PREPARE_CHARACTERS // size
    bench.ask(*["x" * size] * count)
    bench.embedder.step()
    assert len(bench.context.tokenized) == count // 2
    small = bench.ask("y")
    bench.embedder.step()
    assert small in bench.answers


# --- how a request ends ---------------------------------------------------------------------------------------------


def test_shorter_vectors_have_length_1_again(bench: Bench) -> None:
    task, whole = bench.ask("abcdefgh", dimensions=4), bench.ask("abcdefgh", dimensions=WIDTH)
    bench.drain()
    assert numbers(bench.answers[task].vectors[0]) == (0.5,) * 4
    assert len(bench.answers[whole].vectors[0]) == 4 * WIDTH


def test_a_vector_whose_beginning_is_nothing_stays_so() -> None:
    vector = vector_of((7,))
    assert numbers(vector)[:7] == (0.0,) * 7
    assert numbers(shortened(vector, 3)) == (0.0,) * 3
    assert shortened(vector, None) == shortened(vector, 99) == vector


def test_a_cancelled_request_is_not_computed(bench: Bench) -> None:
    waiting, ready = bench.ask("gone"), bench.ask(*["a" * 20] * 9)
    bench.embedder.cancel(waiting)
    bench.embedder.step()
    bench.embedder.cancel(ready)
    done = bench.ask("z")
    bench.drain()
    bench.embedder.cancel(done)
    bench.drain()
    assert set(bench.answers) == {done}
    assert sum(map(len, bench.context.batches)) == 3  # two of the cancelled one, before it was
    assert bench.embedder.stats().cancelled == 2


def test_a_refused_decode_fails_those_in_it_only(bench: Bench) -> None:
    bench.context.failure = EngineError("llama.cpp could not compute these inputs")
    tasks = [bench.ask(letter) for letter in "abcd"]
    later = bench.ask("e")
    bench.embedder.step()
    bench.context.failure = None
    bench.drain()
    assert all("could not compute" in bench.error(task).message for task in tasks)
    assert isinstance(bench.answers[later], Embeddings)


def test_an_input_without_a_vector_fails_its_request_only(bench: Bench) -> None:
    bad, good = bench.ask((666,), (666, 1), "a"), bench.ask("b")
    bench.drain()
    assert "computed no numbers" in bench.error(bad).message
    assert isinstance(bench.answers[good], Embeddings)


def test_an_answer_too_long_for_a_frame_is_an_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fakes.fake_embedding.vector_of", lambda tokens: bytes(MAX_PAYLOAD))
    task = bench.ask("a")
    bench.drain()
    assert "cannot be sent" in bench.error(task).message


def test_a_model_that_opens_late_fails_who_waits_and_is_tried_again(bench: Bench) -> None:
    reasons: list[JanflaskError] = [ModelLoadError("no memory for a context")]

    def open_context() -> FakeEmbedding:
        if reasons:
            raise reasons.pop()
        return bench.context

    bench.embedder._open_context = open_context
    tasks = [bench.ask("a"), bench.ask("b")]
    bench.drain()
    assert [bench.error(task).message for task in tasks] == ["no memory for a context"] * 2
    later = bench.ask("c")
    bench.drain()
    assert isinstance(bench.answers[later], Embeddings)


def test_it_is_opened_once_and_only_when_needed(bench: Bench) -> None:
    bench.drain()
    assert bench.opened == 0
    for _ in range(2):
        bench.ask("a")
        bench.drain()
    assert bench.opened == 1


# --- its thread -----------------------------------------------------------------------------------------------------


def test_it_rests_between_requests_and_ends_them_when_stopped() -> None:
    bench = Bench(n_inputs=1)
    bench.context.gate.clear()
    thread = threading.Thread(target=bench.embedder.run)
    thread.start()
    task = bench.ask(*"abcdef")
    assert bench.context.entered.wait(LIMIT)
    assert not bench.embedder.is_resting()
    assert bench.embedder.idle_seconds == 0
    bench.embedder.stop()
    late = bench.ask("late")
    bench.context.gate.set()
    thread.join(LIMIT)
    assert not thread.is_alive()
    assert {bench.error(task).code, bench.error(late).code} == {"model_stopped"}


def test_it_tells_how_long_it_has_been_idle() -> None:
    bench = Bench()
    thread = threading.Thread(target=bench.embedder.run)
    thread.start()
    try:
        done = threading.Event()
        bench.embedder.submit(EmbeddingTask(Embed(("a",)), lambda task, message: done.set()))
        assert done.wait(LIMIT)
        while not bench.embedder.is_resting():
            pass
        bench.now += 7
        assert bench.embedder.stats().idle_seconds == 7
        bench.embedder.touch()
        assert bench.embedder.idle_seconds == 0
    finally:
        bench.embedder.stop()
        thread.join(LIMIT)


def test_it_counts(bench: Bench) -> None:
    bench.ask("abc", "de")
    bench.ask("f")
    assert bench.embedder.stats().requests == 0
    bench.drain()
    stats = bench.embedder.stats()
    assert (stats.slots, stats.requests, stats.prompt_tokens, stats.steps, stats.busy, stats.waiting) == (
        4,
        2,
        6,
        1,
        0,
        0,
    )
