"""Prompts that are told: their text by tokens, and the right score for each of them, whatever the schedule."""

from __future__ import annotations

import random
from array import array

import pytest

from janflask.engine.echo import PromptEcho
from janflask.engine.sequence import Sequence, tell_prompt
from janflask.ipc.messages.generation import FinishReason
from tests.fakes.fake_context import EOG, expected_scores, expected_text, next_token
from tests.unit.engine.conftest import Bench, Collector

PROMPT = b"the quick brown fox jumps over the lazy dog, and so on; " * 3


def scores(sink: Collector) -> list[float | None]:
    return [token.logprob for token in sink.told]


def endless(base: str, tokens: int) -> bytes:
    """A prompt after which the model does not stop for so many tokens."""
    prompts = (f"{base}{i}".encode() for i in range(10**6))
    return next(prompt for prompt in prompts if len(expected_text(prompt, tokens)) == tokens)


def check(prompt: bytes, sink: Collector) -> None:
    assert sink.errors == []
    assert scores(sink) == expected_scores(prompt)
    assert sink.echoed == prompt.decode()
    assert [token.id for token in sink.told] == list(prompt)
    assert sink.told_in_time


def test_every_token_has_its_score(make_bench):
    bench = make_bench()
    _, sink = bench.ask(PROMPT, max_tokens=8, echo=True, wants_logprobs=True)
    bench.drain()
    check(PROMPT, sink)
    assert sink.told[0].top == ()
    assert [top.id for top in sink.told[1].top] == [65]
    assert sink.texts[0] == expected_text(PROMPT, 8)


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65])
def test_a_prompt_alone(make_bench, length):
    prompt = PROMPT[:length]
    bench = make_bench()
    sequence, sink = bench.ask(prompt, max_tokens=0, echo=True)
    bench.drain()
    check(prompt, sink)
    assert sink.reasons == {0: FinishReason.LENGTH}
    assert sink.texts == {}
    assert sequence.n_generated == 0
    assert bench.loop.scheduler.idle


def test_no_step_has_more_rows_than_there_is_memory_for(make_bench):
    bench = make_bench(scored_rows=10, ctx_len=600, slots=4)
    prompts = [bytes([97 + i]) * 150 for i in range(4)]
    sinks = [bench.ask(prompt, max_tokens=2, echo=True, wants_logprobs=True)[1] for prompt in prompts]
    bench.drain()
    for prompt, sink in zip(prompts, sinks, strict=True):
        check(prompt, sink)
    assert max(bench.context.outputs) <= 10 + 4  # and one for each that decodes


def test_a_short_one_is_not_held_up_by_a_long_one(make_bench):
    bench = make_bench(scored_rows=10, ctx_len=2000)
    long, _ = bench.ask(b"x" * 1000, max_tokens=1, echo=True, wants_logprobs=True)
    bench.loop.step()
    _, sink = bench.ask(b"short one", max_tokens=0, echo=True)
    for _ in range(5):
        bench.loop.step()
    check(b"short one", sink)
    assert long.is_scoring


def test_an_ordinary_prompt_beside_it_has_the_whole_rest_of_the_step(make_bench):
    bench = make_bench(scored_rows=4, chunk=64, ctx_len=600)
    bench.ask(b"y" * 300, max_tokens=1, echo=True, wants_logprobs=True)
    bench.loop.step()
    plain, _ = bench.ask(b"z" * 180, max_tokens=1)
    for _ in range(3):
        bench.loop.step()
    assert plain.n_generated >= 1


def test_nothing_comes_from_a_cached_prefix_and_later_ones_use_it(make_bench):
    bench = make_bench()
    bench.ask(PROMPT, max_tokens=1)
    bench.drain()
    sequence, sink = bench.ask(PROMPT, max_tokens=0, echo=True)
    bench.drain()
    check(PROMPT, sink)
    assert sequence.n_cached == 0
    after, _ = bench.ask(PROMPT + b"more", max_tokens=1)
    bench.drain()
    assert after.n_cached >= len(PROMPT)


@pytest.mark.parametrize("options", [{}, {"enabled": False}, {"can_trim": False}, {"slots": 2}, {"kv_cells": 900}])
def test_the_other_choices_come_after_the_prompt_that_the_first_one_tells(make_bench, options):
    bench = make_bench(scored_rows=16, **options)
    sink = Collector()
    choices = [bench.sequence(PROMPT, max_tokens=6, seed=i + 1, index=i, sink=sink)[0] for i in range(4)]
    tell_prompt(choices, PromptEcho(PROMPT.decode(), choices[0].tokens[:], bench.context.vocab.piece))
    bench.loop.submit(choices)
    bench.drain()
    check(PROMPT, sink)
    assert sink.texts == {i: expected_text(PROMPT, 6, seed=i + 1) for i in range(4)}


def test_a_token_that_ends_the_answer_is_told_too(make_bench):
    prompt = next(p for i in range(10_000) if next_token(array("i", list(p := b"end %d" % i)).tobytes()) == EOG)
    bench = make_bench()
    _, sink = bench.ask(prompt, max_tokens=1, echo=True, wants_logprobs=True)
    bench.drain()
    assert sink.reasons == {0: FinishReason.STOP}
    assert [(token.id, token.width) for token in sink.logprobs] == [(EOG, 0)]
    _, plain = bench.ask(prompt, max_tokens=1, wants_logprobs=True)
    bench.drain()
    assert plain.logprobs == []


def test_one_that_is_put_back_tells_nothing_twice(make_bench):
    bench = make_bench(slots=3, kv_cells=150, ctx_len=150, scored_rows=16)
    bench.ask(endless("first ", 90), max_tokens=90)
    prompt = endless("s" * 60, 60)
    sequence, sink = bench.ask(prompt, max_tokens=60, echo=True, wants_logprobs=True)
    bench.drain()
    check(prompt, sink)
    assert sequence.preempted
    assert sink.texts[0] == expected_text(prompt, 60)


def test_one_that_is_put_back_in_mid_prompt_goes_on_telling(make_bench):
    bench = make_bench(scored_rows=16)
    sequence, sink = bench.ask(PROMPT, max_tokens=5, echo=True, wants_logprobs=True)
    for _ in range(3):
        bench.loop.step()
    assert 0 < len(sink.told) < len(PROMPT)
    bench.loop.scheduler._preempt(sequence)
    bench.drain()
    check(PROMPT, sink)
    assert sink.texts[0] == expected_text(PROMPT, 5)


def test_cancelled_in_mid_prompt(make_bench):
    bench = make_bench(scored_rows=8)
    sequence, sink = bench.ask(PROMPT, max_tokens=1, echo=True, wants_logprobs=True)
    follower, _ = bench.sequence(PROMPT, sink=sink, index=1)
    follower.waits_for = sequence
    bench.loop.submit([follower])
    bench.loop.step()
    bench.loop.cancel([sequence, follower])
    bench.drain()
    assert bench.loop.scheduler.idle
    assert sink.reasons == {}
    assert 0 < len(sink.told) < len(PROMPT)


def test_one_that_cannot_be_scored_fails_alone(make_bench):
    bench = make_bench()
    sequence, sink = bench.ask(PROMPT, max_tokens=5, echo=True)
    sequence.echo.piece = None  # type: ignore[assignment]
    _, fine = bench.ask(b"fine", max_tokens=5)
    bench.drain()
    assert [error.code for error in sink.errors] == ["engine_error"]
    assert fine.texts[0] == expected_text(b"fine", 5)


def test_random_schedules(make_bench):
    for seed in range(8):
        rng = random.Random(seed)
        bench: Bench = make_bench(
            slots=4, kv_cells=rng.choice([None, 500]), ctx_len=300, scored_rows=rng.randrange(1, 40)
        )
        asked: list[tuple[bytes, Sequence, Collector]] = []
        for _ in range(25):
            prompt = PROMPT[: rng.randrange(1, 150)]
            echo = rng.random() < 0.5
            asked.append((prompt, *bench.ask(prompt, max_tokens=rng.randrange(0 if echo else 1, 12), echo=echo)))
            for _ in range(rng.randrange(4)):
                bench.loop.step()
        bench.drain()
        for prompt, sequence, sink in asked:
            assert sink.texts.get(0, "") == expected_text(prompt, sequence.max_tokens)
            if sequence.echo is not None:
                check(prompt, sink)


# --- the text of a prompt -------------------------------------------------------------------------------------------

PIECES = [b"<s>", b" The", b" cat", b"\xe2\x98", b"\x95", b"!", b"", b"\n"]


def told(prompt: str | tuple[int, ...], *tokens: int) -> list[str]:
    echo = PromptEcho(prompt, array("i", tokens), PIECES.__getitem__)
    return [echo.text(token) for token in tokens]


@pytest.mark.parametrize(
    ("prompt", "tokens", "texts"),
    [
        (" The cat", (1, 2), [" The", " cat"]),
        ("The cat", (1, 2), ["The", " cat"]),  # the tokenizer puts a space in front
        ("The cat", (0, 1, 2), ["", "The", " cat"]),  # and a BOS
        (" cat☕!", (2, 3, 4, 5), [" cat", "", "☕", "!"]),  # a character in two tokens
        ("\x01! cat\x02", (5, 2), ["\x01!", " cat\x02"]),  # what has no token goes with the next one, or the last
        (" The!", (1, 6, 5), [" The", "", "!"]),
        ("<s> cat", (0, 2), ["<s>", " cat"]),  # a marker that was said
        ("something else", (1, 2), ["", "something else"]),
        ((0, 1, 3, 4), (0, 1, 3, 4), ["<s>", " The", "", "☕"]),
        ((1, 3), (1, 3), [" The", "\ufffd"]),  # token ids may end in the middle of a character
        ((4, 3, 4), (4, 3, 4), ["\ufffd", "", "☕"]),
    ],
)
def test_what_each_token_stands_for(prompt, tokens, texts):
    assert told(prompt, *tokens) == texts
    if isinstance(prompt, str):
        assert "".join(texts) == prompt
    whole = PromptEcho(prompt, array("i", tokens), PIECES.__getitem__).whole_text()
    assert whole == "".join(texts)
