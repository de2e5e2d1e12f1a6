"""What a loop tells of the answers that it owes."""

from __future__ import annotations

from janflask.models.engine_info import OpenAnswer


def always_a(context: bytes, seed: int = 0) -> int:
    return ord("a")


def test_each_answer_says_how_far_it_is(make_bench) -> None:
    bench = make_bench(slots=1, chunk=16, model=always_a)
    first, _ = bench.ask(bytes(range(40)), max_tokens=8, conversation="thread_1")
    first.request_id = "req_1"
    bench.ask(b"then this", max_tokens=8)
    assert bench.loop.open_answers() == [], "what was not taken up yet is no answer"

    bench.loop.step()
    running, waiting = bench.loop.open_answers()
    assert (running.request_id, running.conversation, running.state) == ("req_1", "thread_1", "prompt")
    assert (running.prompt_tokens, running.cached_tokens, running.answer_tokens) == (40, 0, 0)
    assert 0 < running.computed_tokens < 40
    assert (waiting.state, waiting.prompt_tokens, waiting.computed_tokens) == ("waiting", 9, 0)

    while first.n_generated < 3:
        bench.loop.step()
    running, waiting = bench.loop.open_answers()
    assert (running.state, running.computed_tokens, running.answer_tokens) == ("answering", 40, 3)
    assert running.tokens_per_second > 0
    assert running.age_seconds > 0
    assert waiting.state == "waiting"

    bench.drain()
    assert bench.loop.open_answers() == []


def test_what_came_from_the_cache_was_not_computed(make_bench) -> None:
    bench = make_bench(slots=1, model=always_a)
    bench.ask(bytes(range(40)), max_tokens=2)
    bench.drain()
    again, _ = bench.ask(bytes(range(40)), max_tokens=8)
    while not again.n_generated:
        bench.loop.step()
    (told,) = bench.loop.open_answers()
    assert isinstance(told, OpenAnswer)
    assert told.cached_tokens > 0
    assert told.cached_tokens + told.computed_tokens == 40
