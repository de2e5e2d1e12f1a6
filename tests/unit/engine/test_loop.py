"""The loop on the fake context: whatever the schedule, everybody's text is what they would have got alone."""

from __future__ import annotations

import random
import threading

import pytest

from janflask.errors import ModelStoppedError
from janflask.ipc.messages.generation import FinishReason
from janflask_ext.stream import TextStream, Vocab
from tests.fakes.fake_context import EOG, FakeContext, expected_text

NORMAL = 1 << 2  # llama.cpp's attribute of an ordinary token

SYSTEM = bytes(range(32, 127)) * 2  # 190 tokens in common


def test_one_sequence_says_what_the_model_says(make_bench):
    bench = make_bench()
    _, sink = bench.ask(b"hello", max_tokens=30)
    bench.drain()
    assert sink.texts[0] == expected_text(b"hello", 30)
    assert sink.reasons == {0: FinishReason.LENGTH if len(sink.texts[0]) == 30 else FinishReason.STOP}


def test_sixteen_concurrent_sequences_say_what_each_says_alone(make_bench):
    bench = make_bench(slots=8)
    asked = [
        (bytes([65 + i]) * (3 * i + 1), bench.ask(bytes([65 + i]) * (3 * i + 1), max_tokens=25)[1]) for i in range(16)
    ]
    bench.drain()
    for prompt, sink in asked:
        assert sink.texts.get(0, "") == expected_text(prompt, 25)


def test_random_arrivals_cancellations_and_shared_prefixes_change_nobodys_text(make_bench):
    for seed in range(12):
        rng = random.Random(seed)
        bench = make_bench(slots=4, kv_cells=rng.choice([None, 700]), min_copy=rng.choice([1, 32]), ctx_len=400)
        asked = []
        for _ in range(40):
            prompt = SYSTEM[: rng.choice([0, 50, 190])] + bytes(
                rng.randrange(97, 123) for _ in range(rng.randrange(1, 90))
            )
            sequence, sink = bench.ask(prompt, max_tokens=rng.randrange(1, 40), cache_prompt=rng.random() > 0.1)
            asked.append((prompt, sequence, sink))
            for _ in range(rng.randrange(4)):
                bench.loop.step()
            if rng.random() < 0.2:
                bench.loop.cancel([rng.choice(asked)[1]])
        bench.drain()
        for prompt, sequence, sink in asked:
            expected = expected_text(prompt, sequence.max_tokens)
            assert not sink.errors
            if sink.reasons:
                assert sink.texts.get(0, "") == expected
            else:  # cancelled
                assert expected.startswith(sink.texts.get(0, ""))


def test_a_finished_prompt_is_not_computed_again(make_bench):
    bench = make_bench()
    bench.ask(SYSTEM + b"first", max_tokens=5)
    bench.drain()
    before = bench.context.computed
    sequence, sink = bench.ask(SYSTEM + b"second", max_tokens=5)
    bench.drain()
    assert sequence.n_cached == len(SYSTEM)
    assert bench.context.computed - before <= len(b"second") + 5
    assert sink.texts[0] == expected_text(SYSTEM + b"second", 5)


def test_a_running_sequences_prefix_is_shared_while_it_runs(make_bench):
    bench = make_bench(slots=4)
    sinks = [bench.ask(SYSTEM + bytes([97 + i]) * 5, max_tokens=8) for i in range(4)]
    bench.drain()
    # The first computes the prefix, the other three wait for it, copy it and compute their own ends only.
    assert bench.context.computed <= len(SYSTEM) + 4 * (5 + 8)
    assert len(bench.context.copies) == 3
    for i, (_, sink) in enumerate(sinks):
        assert sink.texts[0] == expected_text(SYSTEM + bytes([97 + i]) * 5, 8)


def test_the_prefix_cache_can_be_switched_off(make_bench):
    bench = make_bench(enabled=False)
    for _ in range(3):
        bench.ask(SYSTEM, max_tokens=1)
        bench.drain()
    assert bench.context.computed == 3 * len(SYSTEM)


def test_cache_prompt_false_computes_the_whole_prompt(make_bench):
    bench = make_bench()
    bench.ask(SYSTEM, max_tokens=1)
    bench.drain()
    sequence, _ = bench.ask(SYSTEM, max_tokens=1, cache_prompt=False)
    bench.drain()
    assert sequence.n_cached == 0
    assert bench.context.computed == 2 * len(SYSTEM)


def test_memory_that_cannot_forget_a_part_continues_only_where_it_ends(make_bench):
    bench = make_bench(can_trim=False)
    _first, _ = bench.ask(SYSTEM, max_tokens=3)
    bench.drain()
    held = bytes(bench.context.memory[0])
    again, sink = bench.ask(held + b"more", max_tokens=5)  # continues exactly
    bench.drain()
    assert again.n_cached == len(held)
    assert sink.texts[0] == expected_text(held + b"more", 5)
    other, sink = bench.ask(SYSTEM[:100] + b"else", max_tokens=5)  # would have to cut: computed from the start
    bench.drain()
    assert other.n_cached == 0
    assert sink.texts[0] == expected_text(SYSTEM[:100] + b"else", 5)


def test_several_choices_compute_their_prompt_once_and_differ_by_seed(make_bench):
    bench = make_bench()
    sequence, sink = bench.sequence(SYSTEM, max_tokens=10, seed=1)
    choices = [sequence] + [bench.sequence(SYSTEM, max_tokens=10, seed=i + 1, index=i, sink=sink)[0] for i in (1, 2)]
    bench.loop.submit(choices)
    bench.drain()
    assert bench.context.computed <= len(SYSTEM) + 2 + 3 * 10
    for i in range(3):
        assert sink.texts[i] == expected_text(SYSTEM, 10, seed=i + 1)


def test_a_long_prompt_comes_in_slices_and_the_other_stream_gets_a_token_every_step(make_bench):
    bench = make_bench(slice_size=16, ctx_len=1000)
    talker, _ = bench.ask(b"talk about it", max_tokens=None)
    while not talker.n_generated:
        bench.loop.step()
    bench.ask(SYSTEM * 4, max_tokens=1)
    before, steps = talker.n_generated, len(bench.context.steps)
    for _ in range(10):
        bench.loop.step()
    assert talker.slot is None or talker.n_generated - before == len(bench.context.steps) - steps
    assert all(sum(count for _, count in step) <= 16 + 1 for step in bench.context.steps[steps:])


def test_a_short_prompt_overtakes_a_long_one(make_bench):
    bench = make_bench(chunk=32, ctx_len=4000, slots=2)
    long, _ = bench.ask(SYSTEM * 10, max_tokens=2)
    bench.loop.step()
    short, _ = bench.ask(b"quick question", max_tokens=2)
    for _ in range(3):
        bench.loop.step()
    assert short.n_generated >= 1
    assert long.n_generated == 0
    assert long.n_computed > 0


def test_stop_string_ends_a_sequence(make_bench):
    prompt = next(prompt for i in range(99) if len(expected_text(prompt := b"stop %d" % i, 12)) == 12)
    text = expected_text(prompt, 12)
    bench = make_bench()
    _, sink = bench.ask(prompt, max_tokens=12, stop=(text[4:6],))
    bench.drain()
    assert sink.reasons == {0: FinishReason.STOP}
    assert sink.texts[0] == text[: text.index(text[4:6]) + 1]


def test_a_full_context_ends_with_length(make_bench):
    bench = make_bench(ctx_len=32)
    prompt = next(prompt for i in range(99) if len(expected_text(prompt := b"long %d" % i, 30)) == 30)
    sequence, sink = bench.ask(prompt, max_tokens=None)
    bench.drain()
    assert sink.reasons == {0: FinishReason.LENGTH}
    assert len(sequence.tokens) == 32


def test_when_cells_run_short_one_waits_and_all_get_their_text(make_bench):
    bench = make_bench(slots=4, kv_cells=120, ctx_len=120)
    asked = [(bytes([65 + i]) * 30, *bench.ask(bytes([65 + i]) * 30, max_tokens=40)) for i in range(6)]
    bench.drain()
    for prompt, _, sink in asked:
        assert not sink.errors
        assert sink.texts.get(0, "") == expected_text(prompt, 40)
    assert bench.loop.stats().preempted > 0


def test_no_room_that_nobody_can_make_fails_by_name(make_bench):
    bench = make_bench(slots=1)
    bench.context.fail_at = {0: 1}
    _, sink = bench.ask(b"no room", max_tokens=5)
    bench.drain()
    assert [error.code for error in sink.errors] == ["kv_cache_full"]
    _, sink = bench.ask(b"no room", max_tokens=5)
    bench.drain()
    assert sink.texts[0] == expected_text(b"no room", 5)


def test_a_decode_error_fails_the_step_and_the_engine_goes_on(make_bench):
    bench = make_bench()
    bench.context.fail_at = {3: -2}
    sinks = [bench.ask(bytes([65 + i]) * 5, max_tokens=20)[1] for i in range(3)]
    bench.drain()
    assert all(sink.errors and sink.errors[0].code == "engine_error" for sink in sinks if not sink.reasons)
    assert any(sink.errors for sink in sinks)
    _, sink = bench.ask(b"after", max_tokens=10)
    bench.drain()
    assert sink.texts[0] == expected_text(b"after", 10)


def test_cancel_frees_the_slot_at_the_next_step(make_bench):
    bench = make_bench()
    sequence, sink = bench.ask(b"cancel", max_tokens=None)
    other, _ = bench.ask(b"other one", max_tokens=None)
    while not other.n_generated:
        bench.loop.step()
    bench.loop.cancel([sequence])
    bench.loop.step()
    assert sequence.slot is None
    assert sink.reasons == {}
    assert bench.loop.stats().cancelled == 1
    bench.loop.cancel([sequence])  # twice, or after its end: nothing happens
    bench.loop.step()
    assert bench.loop.stats().cancelled == 1


def test_stop_fails_everybody_and_the_thread_returns(make_bench):
    bench = make_bench(ctx_len=100000, slots=2)
    asked = [bench.ask(bytes([i]) * 4, max_tokens=None)[1] for i in range(5)]
    thread = threading.Thread(target=bench.loop.run)
    thread.start()
    bench.loop.stop()
    thread.join(10)
    assert not thread.is_alive()
    for sink in asked:
        assert sink.reasons or isinstance(sink.errors[0], ModelStoppedError)


def test_logprobs_come_with_every_token(make_bench):
    bench = make_bench()
    _sequence, sink = bench.ask(b"log", max_tokens=6, wants_logprobs=True)
    bench.drain()
    assert len(sink.logprobs) == len(sink.texts[0])
    first = sink.logprobs[0]
    assert (first.token, first.logprob) == (sink.texts[0][0], -0.5)
    assert [(top.token, top.raw, top.logprob, top.id) for top in first.top] == [
        ("A", b"A", -0.5, 65),
        ("B", b"B", -1.5, 66),
    ]


def test_a_sequence_whose_text_breaks_fails_alone(make_bench):
    bench = make_bench()
    broken, sink = bench.sequence(b"broken", max_tokens=20)

    def push(token: int) -> str:
        raise RuntimeError("boom")

    broken.text.push = push
    bench.loop.submit([broken])
    _, fine = bench.ask(b"fine", max_tokens=10)
    bench.drain()
    assert [error.code for error in sink.errors] == ["engine_error"]
    assert fine.texts[0] == expected_text(b"fine", 10)


# --- characters of several tokens -----------------------------------------------------------------------------------

WORDS = "né €5 𝄞🎉!"


class Saying(FakeContext):
    """Says these bytes, a token each, and then ends, whatever it is asked."""

    def __init__(self, words: bytes) -> None:
        super().__init__()
        self.words = words
        self.said = 0

    def sample(self, rows: list[int], samplers: list[object], masks: object = None) -> list[int]:
        self.said += 1
        return [self.words[self.said - 1] if self.said <= len(self.words) else EOG]


def said(make_bench, words: bytes, max_tokens: int) -> tuple[str, FinishReason, bytes]:
    """The text that went out piece by piece, why it ended, and the bytes of all its tokens by their logprobs."""
    bench = make_bench()
    context = Saying(words)
    context.memory = bench.context.memory
    bench.loop.context = bench.loop.answers.context = bench.loop.scheduler.memory = context
    sequence, sink = bench.sequence(b"?", max_tokens=max_tokens, wants_logprobs=True)
    sequence.text = TextStream(Vocab([bytes([value]) for value in range(256)], [NORMAL] * 256))
    bench.loop.submit([sequence])
    bench.drain()
    return sink.texts.get(0, ""), sink.reasons[0], b"".join(entry.raw for entry in sink.logprobs)


@pytest.mark.parametrize("length", range(1, len(WORDS.encode()) + 1))
def test_an_answer_that_ends_within_a_character_makes_none_up(make_bench, length: int) -> None:
    words = WORDS.encode()
    whole = words[:length].decode("utf-8", "ignore")
    assert said(make_bench, words, length) == (whole, FinishReason.LENGTH, words[:length])
    assert said(make_bench, words[:length], 99) == (whole, FinishReason.STOP, words[:length])


def test_what_is_no_character_is_shown_as_such(make_bench) -> None:
    assert said(make_bench, b"a\xff\xe2\x82(\xc3", 6) == ("a\ufffd\ufffd(", FinishReason.LENGTH, b"a\xff\xe2\x82(\xc3")
