"""The engine's sockets for real, over a loop on the fake model."""

from __future__ import annotations

import gc
import socket
import threading
import time
import weakref
from array import array
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from janflask.engine import server as servers
from janflask.engine.draft import Draft
from janflask.engine.loop import Loop
from janflask.engine.prefix_cache import PrefixCache
from janflask.engine.server import EngineServer
from janflask.engine.slices import Limits
from janflask.errors import InvalidRequestError, JanflaskError
from janflask.ipc.clients.engine import (
    Generation,
    engine_specials,
    engine_stats,
    engine_text,
    engine_tokens,
    engines_loads,
    open_generation,
)
from janflask.ipc.frames import Message
from janflask.ipc.messages.engine import Chunk, Done, Echo, Finished, Load, Specials, Started, Tokenize, Tokens
from janflask.ipc.messages.generation import GenerateRequest
from janflask.models.engine_info import EngineStats
from janflask.models.sampling import SamplingParams
from tests.fakes.fake_context import N_VOCAB, FakeContext, FakeSampler, FakeText, expected_scores, expected_text

LIMIT = 20.0  # seconds any wait may take here


class FakeModel:
    n_vocab = N_VOCAB
    specials = Specials(("<end>",))

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> array:
        return array("i", list(text.encode()))

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b"<end>"

    def make_sampler(self, params: SamplingParams, seed: int, prompt: array, n_ctx: int) -> FakeSampler:
        if params.top_p < 0:
            raise InvalidRequestError("top_p must not be negative", param="top_p")
        return FakeSampler(0 if params.temperature == 0 else seed)

    def make_text(self, stop: tuple[str, ...], markers: tuple[str, ...] = ()) -> FakeText:
        return FakeText(stop)


class SlowBackend(FakeContext):
    """Takes ``pause`` seconds a step, or waits for ``gate`` to open."""

    pause = 0.0

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.gate = threading.Event()
        self.gate.set()

    def decode(self) -> int:
        self.gate.wait(LIMIT)
        time.sleep(self.pause)
        return super().decode()


@dataclass
class Engine:
    path: str
    loop: Loop
    context: SlowBackend
    server: EngineServer

    def stats(self) -> EngineStats:
        return engine_stats(self.path, LIMIT)

    def wait_for(self, condition, what: str) -> None:
        deadline = time.monotonic() + LIMIT
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} did not happen")
            time.sleep(0.005)


@pytest.fixture
def engine(tmp_path: Path):
    context = SlowBackend(slots=2, ctx_len=100_000, capacity=128)
    limits = Limits(kv_cells=200_000, shared_cells=False, chunk_size=64, slice_size=16)
    loop = Loop(context, PrefixCache(2), limits)
    path = tmp_path / "engine.sock"
    server = EngineServer(FakeModel(), loop, path, queue_limit=2)
    threads = [threading.Thread(target=loop.run), threading.Thread(target=server.serve)]
    for thread in threads:
        thread.start()
    yield Engine(str(path), loop, context, server)
    context.gate.set()
    loop.stop()
    server.stop()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()


def greedy(prompt: str | tuple[int, ...], **options: object) -> GenerateRequest:
    return GenerateRequest(prompt=prompt, sampling=SamplingParams(temperature=0), **options)


def collect(generation: Generation) -> list[Message]:
    """Everything until Done."""
    import select

    messages: list[Message] = []
    poll = select.poll()
    poll.register(generation.fileno(), select.POLLIN)
    while not any(isinstance(message, Done) for message in messages):
        assert generation.buffered() or poll.poll(LIMIT * 1000), "nothing came"
        messages += generation.receive()
    return messages


def text_of(messages: list[Message], index: int = 0) -> str:
    return "".join(m.text for m in messages if isinstance(m, Chunk) and m.index == index)


def endless(base: str, tokens: int) -> str:
    """A prompt after which the model does not stop for so many tokens."""
    return next(p for i in range(10**6) if len(expected_text((p := f"{base}{i}").encode(), tokens)) == tokens)


def test_a_generation_from_prompt_to_done(engine):
    with open_generation(engine.path, greedy("hello", max_tokens=12)) as generation:
        messages = collect(generation)
    assert messages[0] == Started(5)
    assert text_of(messages) == expected_text(b"hello", 12)
    assert isinstance(messages[-2], Finished)
    done = messages[-1]
    assert isinstance(done, Done)
    assert done.usage.prompt_tokens == 5
    assert done.usage.completion_tokens >= len(text_of(messages))


def test_which_stop_string_ended_it_is_told(engine):
    prompt = endless("stop", 12)
    text = expected_text(prompt.encode(), 12)
    stop = ("never said", text[5:8])
    with open_generation(engine.path, greedy(prompt, max_tokens=12, stop=stop)) as generation:
        assert Finished(0, "stop", stop[1]) in collect(generation)
    with open_generation(engine.path, greedy(prompt, max_tokens=12)) as generation:
        assert Finished(0, "length") in collect(generation)


def test_token_ids_are_taken_as_they_are(engine):
    with open_generation(engine.path, greedy(tuple(b"hello"), max_tokens=12)) as generation:
        assert text_of(collect(generation)) == expected_text(b"hello", 12)


def test_choices_come_with_their_index_and_one_done(engine):
    request = GenerateRequest(prompt="choose", n=3, max_tokens=8, sampling=SamplingParams(seed=5))
    with open_generation(engine.path, request) as generation:
        messages = collect(generation)
    for index in range(3):
        assert text_of(messages, index) == expected_text(b"choose", 8, seed=5 + index)
    assert sorted(m.index for m in messages if isinstance(m, Finished)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (greedy(""), "invalid_request", "empty"),
        (greedy((1, 2, 999)), "invalid_request", "999"),
        (greedy("x" * 100_001), "context_length_exceeded", "100001 tokens.*100000"),
        (
            GenerateRequest(prompt="x", sampling=SamplingParams(logit_bias=((9999, 1.0),))),
            "invalid_request",
            "logit_bias: 9999 is",
        ),
        (GenerateRequest(prompt="x", sampling=SamplingParams(top_p=-1)), "invalid_request", "top_p"),
        (greedy("x", n=0), "invalid_request", "n must"),
    ],
)
def test_a_bad_request_is_refused_and_the_engine_goes_on(engine, request_, code, words):
    with open_generation(engine.path, request_) as generation, pytest.raises(JanflaskError, match=words) as caught:
        collect(generation)
    assert (caught.value.code, caught.value.status) == (code, 400)
    with open_generation(engine.path, greedy("after", max_tokens=5)) as generation:
        assert text_of(collect(generation)) == expected_text(b"after", 5)


@pytest.mark.parametrize(
    ("request_", "param", "words"),
    [
        (greedy("", prompt_name="messages"), "messages", "empty"),
        (greedy((1, 2, 999), prompt_name="messages"), "messages", "^messages: 999 is no token"),
        (greedy("x" * 100_001, prompt_name="messages"), "messages", "100001 tokens"),
        (
            GenerateRequest(
                prompt="x", sampling=SamplingParams(logit_bias=((9999, 1.0),)), bias_name="logit_bias in a file"
            ),
            "logit_bias",
            "^logit_bias in a file: 9999 is no token",
        ),
    ],
    ids=["empty", "no token", "too long", "bias"],
)
def test_an_error_names_fields_as_whoever_asked_does(engine, request_, param, words):
    with open_generation(engine.path, request_) as generation, pytest.raises(JanflaskError, match=words) as caught:
        collect(generation)
    assert caught.value.param == param


def told(messages: list[Message]) -> list[Echo]:
    """What was told of the prompt; nothing else comes before its end."""
    echoes = [message for message in messages if isinstance(message, Echo)]
    assert messages[1 : 1 + len(echoes)] == echoes
    return echoes


@pytest.mark.parametrize("prompt", ["hello there", tuple(b"hello there")])
@pytest.mark.parametrize("max_tokens", [0, 12])
def test_a_prompt_comes_before_its_answer(engine, prompt, max_tokens):
    with open_generation(engine.path, greedy(prompt, max_tokens=max_tokens, echo=True)) as generation:
        messages = collect(generation)
    assert told(messages) == [Echo("hello there")]
    assert text_of(messages) == expected_text(b"hello there", max_tokens)


@pytest.mark.parametrize("max_tokens", [0, 12])
def test_a_prompt_is_told_once_with_its_scores_and_all_choices_follow(engine, max_tokens):
    prompt = b"the scores of a prompt that comes in more than one step, and before any of its three answers"
    sampling = SamplingParams(temperature=0, top_logprobs=1)
    request = GenerateRequest(prompt=prompt.decode(), n=3, max_tokens=max_tokens, echo=True, sampling=sampling)
    with open_generation(engine.path, request) as generation:
        messages = collect(generation)
    echoes = told(messages)
    assert len(echoes) > 1
    assert "".join(echo.text for echo in echoes) == prompt.decode()
    tokens = [token for echo in echoes for token in echo.logprobs]
    assert [token.logprob for token in tokens] == expected_scores(prompt)
    assert [text_of(messages, index) for index in range(3)] == [expected_text(prompt, max_tokens)] * 3
    assert sorted(message.index for message in messages if isinstance(message, Finished)) == [0, 1, 2]
    done = messages[-1]
    assert isinstance(done, Done)
    assert (done.usage.prompt_tokens, done.usage.cached_tokens) == (len(prompt), 0)


def test_a_prompt_alone_may_fill_the_context(engine):
    prompt = "x" * engine.loop.capacity
    for max_tokens, length in [(0, len(prompt) + 1), (1, len(prompt)), (None, len(prompt))]:
        request = greedy("x" * length, max_tokens=max_tokens)
        with open_generation(engine.path, request) as generation, pytest.raises(JanflaskError) as caught:
            collect(generation)
        assert caught.value.code == "context_length_exceeded"
    with open_generation(engine.path, greedy(prompt, max_tokens=0)) as generation:
        assert collect(generation)[0] == Started(len(prompt))


def test_max_tokens_zero_answers_with_nothing(engine):
    with open_generation(engine.path, greedy("hello", max_tokens=0)) as generation:
        messages = collect(generation)
    assert text_of(messages) == ""
    assert messages[-1].usage.completion_tokens == 0


def test_a_full_queue_is_refused_with_retry_after_and_the_others_are_served(engine):
    engine.context.gate.clear()
    prompts = [f"queue {i}" for i in range(4)]
    generations = [open_generation(engine.path, greedy(prompt, max_tokens=5)) for prompt in prompts]  # 2 slots + 2
    engine.wait_for(lambda: sum(c.unfinished for c in engine.server._connections) == 4, "queueing")
    with open_generation(engine.path, greedy("too many")) as extra, pytest.raises(JanflaskError) as caught:
        collect(extra)
    assert (caught.value.status, caught.value.code) == (429, "queue_full")
    assert caught.value.retry_after
    engine.context.gate.set()
    for prompt, generation in zip(prompts, generations, strict=True):
        assert text_of(collect(generation)) == expected_text(prompt.encode(), 5)
        generation.close()


def test_closing_the_connection_cancels(engine):
    engine.context.pause = 0.002
    generation = open_generation(engine.path, greedy(endless("go on ", 120), max_tokens=None))
    engine.wait_for(lambda: engine.stats().generated_tokens > 3, "generating")
    generation.close()
    engine.wait_for(lambda: engine.stats().busy == 0, "cancelling")
    assert engine.stats().cancelled == 1


def test_a_waiting_request_is_cancelled_too(engine):
    engine.context.gate.clear()
    running = [open_generation(engine.path, greedy(f"{i} runs", max_tokens=3)) for i in range(2)]
    waiting = open_generation(engine.path, greedy("waits", max_tokens=3))
    engine.wait_for(lambda: sum(c.unfinished for c in engine.server._connections) == 3, "queueing")
    load = engines_loads({"tiny": engine.path}, LIMIT)["tiny"]
    assert isinstance(load, Load), "it answers while the loop computes"
    assert len(load.answers) <= 3
    waiting.close()
    engine.context.gate.set()
    for generation in running:
        collect(generation)
        generation.close()
    engine.wait_for(lambda: engine.stats().cancelled == 1, "cancelling")
    assert engine.stats().busy == 0


def test_a_client_that_reads_nothing_does_not_hold_up_the_other(engine):
    lazy_prompt = endless("lazy ", 150)
    lazy = socket.socket(socket.AF_UNIX)
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.connect(engine.path)
    from janflask.ipc.frames import FrameReader, encode
    from janflask.ipc.messages.engine import Generate

    request = GenerateRequest(
        prompt=lazy_prompt, n=2, max_tokens=150, sampling=SamplingParams(temperature=0, top_logprobs=2)
    )
    lazy.sendall(encode(Generate(request)))
    engine.wait_for(lambda: engine.stats().generated_tokens > 20, "generating")
    with open_generation(engine.path, greedy("quick", max_tokens=10)) as generation:
        assert text_of(collect(generation)) == expected_text(b"quick", 10)
    engine.wait_for(lambda: engine.stats().busy == 0, "the lazy one's end")
    reader, messages = FrameReader(), []
    lazy.settimeout(LIMIT)
    while not any(isinstance(message, Done) for message in messages):
        reader.feed(lazy.recv(4096))
        while (message := reader.next()) is not None:
            messages.append(message)
    lazy.close()
    assert text_of(messages) == expected_text(lazy_prompt.encode(), 150)  # late, and whole


def test_garbage_closes_that_connection_only(engine):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(engine.path)
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        sock.settimeout(LIMIT)
        received = b""
        while data := sock.recv(4096):
            received += data
    assert b"protocol_error" in received
    with open_generation(engine.path, greedy("after", max_tokens=5)) as generation:
        assert text_of(collect(generation)) == expected_text(b"after", 5)


def test_stop_ends_running_and_waiting_requests_with_a_reason(engine):
    engine.context.pause = 0.002
    generations = [open_generation(engine.path, greedy(endless(f"{i} ", 150), max_tokens=None)) for i in range(4)]
    engine.wait_for(lambda: engine.stats().generated_tokens > 2, "generating")
    engine.loop.stop()
    for generation in generations:
        with pytest.raises(JanflaskError) as caught:
            collect(generation)
        assert caught.value.code == "model_stopped"
        generation.close()


def test_tokens_are_told_while_the_loop_is_busy(engine: Engine) -> None:
    engine.context.gate.clear()
    with open_generation(engine.path, greedy("busy", max_tokens=1)):
        engine.wait_for(lambda: engine.loop.scheduler.running, "a generation")
        question = Tokenize("é!", add_special=False, parse_special=True, pieces=True)
        assert engine_tokens(engine.path, question, LIMIT) == Tokens([0xC3, 0xA9, 0x21], [b"\xc3", b"\xa9", b"!"])
        assert engine_tokens(engine.path, Tokenize("", False, True), LIMIT) == Tokens([])
        assert engine_text(engine.path, (0xC3, 0xA9, 0xC3, 256), LIMIT) == "é\ufffd<end>"
        assert engine_text(engine.path, (), LIMIT) == ""
        assert engine_specials(engine.path, LIMIT) == Specials(("<end>",))
        engine.context.gate.set()


@pytest.mark.parametrize("token", [-1, N_VOCAB])
def test_a_token_outside_of_the_vocabulary_has_no_text(engine: Engine, token: int) -> None:
    with pytest.raises(JanflaskError, match=rf"tokens\.1: {token} is no token of this model") as caught:
        engine_text(engine.path, (1, token), LIMIT)
    assert (caught.value.status, caught.value.param) == (400, "tokens.1")


@pytest.mark.parametrize(
    ("always", "predicts", "pinned", "may_change"),
    [
        (None, False, False, False),
        (None, True, False, True),
        (False, True, False, False),
        (True, False, False, True),
        (True, True, True, False),
    ],
)
def test_a_bit_may_change_for_who_asks_for_guesses(engine, monkeypatch, always, predicts, pinned, may_change):
    freely = []

    def draft(*sources: array | None, is_exact: bool) -> Draft:
        freely.append(not is_exact)
        return Draft(*sources, is_exact=is_exact)

    monkeypatch.setattr(servers, "Draft", draft)
    engine.server.guesses_freely = always
    prompt = endless("guess", 40)
    said = expected_text(prompt.encode(), 40)
    sampling = SamplingParams(temperature=1e-9 if pinned else 0.0, seed=0)
    request = GenerateRequest(prompt=prompt, sampling=sampling, max_tokens=40, prediction=said if predicts else "")
    with open_generation(engine.path, request) as generation:
        messages = collect(generation)
    assert text_of(messages) == said
    assert freely == [may_change]
    assert bool(messages[-1].usage.accepted_prediction_tokens) is predicts


@pytest.mark.parametrize("end", ["done", "left", "failed"])
def test_what_a_request_held_is_freed_with_it(engine, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """Not when Python looks for rings the next time: a sampler has a quarter of a megabyte, a matcher more."""
    made: list[weakref.ref[FakeSampler]] = []

    def make(*_: object) -> FakeSampler:
        sampler = FakeSampler(0)
        made.append(weakref.ref(sampler))
        return sampler

    monkeypatch.setattr(engine.server.model, "make_sampler", make)
    engine.context.pause = 0.002
    gc.collect()
    gc.disable()
    try:
        request = greedy(endless("go on ", 30), max_tokens=12 if end == "done" else None, n=2)
        with open_generation(engine.path, request) as generation:
            engine.wait_for(lambda: engine.stats().generated_tokens > 3, "generating")
            if end == "failed":
                monkeypatch.setattr(engine.context, "sample", lambda rows, *_: [-1] * len(rows))  # no token is allowed
            if end != "left":
                with pytest.raises(JanflaskError) if end == "failed" else nullcontext():
                    collect(generation)
        engine.wait_for(lambda: [sampler() for sampler in made] == [None, None], "freeing them")
    finally:
        gc.enable()
