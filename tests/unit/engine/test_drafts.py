"""The loop with drafts, on the fake context: nobody's text depends on them, and the memory is what the books say."""

from __future__ import annotations

import random
from array import array
from dataclasses import dataclass

import pytest

from janflask.engine.draft import Draft
from janflask.engine.drafting import HOLD, RETRY, Drafting
from janflask.ipc.messages.generation import FinishReason
from tests.fakes.fake_context import EOG, expected_text, repeating_token
from tests.unit.engine.test_constraints import ALL, LateMasks, ScriptedMatcher, letters
from tests.unit.engine.test_constraints import ask as ask_constrained


@dataclass
class Costs:
    """Milliseconds of a step: so many, and so many for each row."""

    step: float = 10.0
    row: float = 0.1

    def of(self, tokens: int) -> float | None:
        return self.step + self.row * tokens

    def observe(self, tokens: int, ms: float) -> None:
        pass

    def doubt(self, tokens: int) -> None:
        pass

    def surely(self, tokens: int) -> float:
        return 0.0


class OddOnes(Costs):
    """The steps with drafts that were seen took long, by chance: that of a size goes on until it is doubted."""

    def __init__(self) -> None:
        self.doubted: set[int] = set()

    def of(self, tokens: int) -> float | None:
        return 10.0 if tokens == 1 or tokens in self.doubted else 1000.0

    def doubt(self, tokens: int) -> None:
        self.doubted.add(tokens)


class Unknown(Costs):
    def of(self, tokens: int) -> float | None:
        return None


@pytest.fixture
def make_drafting(make_bench):
    def make(drafts: int = 8, costs: Costs | None = None, **options: object):
        bench = make_bench(drafts=drafts, model=repeating_token, **options)
        bench.loop.costs = costs or Costs()
        bench.loop.drafting = Drafting(bench.loop.scheduler, bench.loop.costs, drafts, bench.loop.capacity)
        return bench

    return make


def run_checked(bench) -> None:
    """Until all is answered; behind every step the memory is what the books say."""
    while bench.loop.step():
        check_books(bench)


def check_books(bench) -> None:
    for slot in bench.loop.scheduler.cache.slots:
        assert bench.context.memory[slot.id] == list(slot.tokens), f"slot {slot.id}"
    for sequence in bench.loop.scheduler.running:
        assert not sequence.draft.tokens
        assert sequence.n_computed == len(bench.context.memory[sequence.slot])


def said(prompt: bytes, most: int, seed: int = 0, *, is_random: bool = False) -> str:
    return expected_text(prompt, most, seed, model=repeating_token, is_random=is_random)


def long_answer(length: int) -> tuple[bytes, int]:
    """A prompt and a seed whose answer has so many tokens at least."""
    return next((b"tell me", seed) for seed in range(1000) if len(said(b"tell me", length, seed)) == length)


def test_drafts_save_steps_and_change_no_text(make_drafting):
    prompt, seed = long_answer(200)
    steps = []
    for drafts in (0, 8):
        bench = make_drafting(drafts=drafts, ctx_len=400)
        _, sink = bench.ask(prompt, max_tokens=200, seed=seed)
        run_checked(bench)
        assert sink.texts[0] == said(prompt, 200, seed)
        steps.append(len(bench.context.steps))
    assert steps[1] < 0.7 * steps[0]
    stats = bench.loop.stats()
    assert stats.generated_tokens == 200
    assert 0 < stats.accepted_tokens < stats.drafted_tokens
    assert stats.steps == 200 - stats.accepted_tokens  # the one of the prompt gives a token, too


def test_a_storm_with_drafts_changes_nobodys_text(make_drafting):
    drafted = accepted = preempted = cancelled = 0
    for seed in range(12):
        rng = random.Random(seed)
        bench = make_drafting(
            slots=rng.choice([4, 16]), kv_cells=rng.choice([None, 500, 900]), ctx_len=400, drafts=rng.choice([1, 4, 16])
        )
        asked = []
        for _ in range(40):
            prompt = bytes(rng.randrange(97, 123) for _ in range(rng.randrange(1, 90))) * rng.randrange(1, 3)
            options = {"seed": rng.randrange(3), "is_random": rng.random() < 0.2}
            stop = rng.choice([(), (), ("ab", "cca")])
            sequence, sink = bench.ask(prompt, max_tokens=rng.randrange(1, 120), stop=stop, **options)
            asked.append((prompt, options, stop, sequence, sink))
            for _ in range(rng.randrange(12)):
                bench.loop.step()
                check_books(bench)
            if rng.random() < 0.2:
                bench.loop.cancel([rng.choice(asked)[3]])
        run_checked(bench)
        for prompt, options, stop, sequence, sink in asked:
            expected, told = said(prompt, sequence.max_tokens, **options), sink.texts.get(0, "")
            assert not sink.errors
            ends = [expected.index(text) + len(text) for text in stop if text in expected]
            if not sink.reasons:  # cancelled
                assert expected.startswith(told)
            elif ends:
                assert told == expected[: min(ends) - 1]
                assert sink.reasons[0] is FinishReason.STOP
            else:
                assert told == expected
            assert sequence.sampler.draws == sequence.n_generated
        stats = bench.loop.stats()
        drafted, accepted = drafted + stats.drafted_tokens, accepted + stats.accepted_tokens
        preempted, cancelled = preempted + stats.preempted, cancelled + stats.cancelled
        assert stats.drafted_tokens == sum(sequence.draft.drafted for *_, sequence, _ in asked)
        assert stats.accepted_tokens == sum(sequence.draft.accepted for *_, sequence, _ in asked)
    assert min(drafted - accepted, accepted) > 400
    assert min(preempted, cancelled) > 10


def test_answers_under_constraints_are_the_same_with_drafts(make_drafting):
    drafted = accepted = forced = 0
    for seed in range(8):
        rng = random.Random(seed)
        scripts = []
        for _ in range(10):
            word = bytes(rng.randrange(97, 103) for _ in range(rng.randrange(3, 9))).decode()
            script = [
                allowed if rng.random() < 0.8 else frozenset({97 + rng.randrange(4), 120})
                for allowed in letters(word * rng.randrange(2, 6))
            ]
            scripts.append([ALL - {EOG} if rng.random() < 0.1 else allowed for allowed in script])
        forces = seed % 2 == 0
        texts = []
        for drafts in (0, 8):
            bench = make_drafting(drafts=drafts, slots=8, ctx_len=200)
            bench.loop.constraining.masker = LateMasks()
            sinks = []
            for number, script in enumerate(scripts):
                matcher = ScriptedMatcher(*script, forces=forces)
                prompt = bytes([97 + number]) * 5
                sinks.append(ask_constrained(bench, matcher, prompt=prompt, max_tokens=3 * number + 8)[1])
                sinks.append(bench.ask(prompt + b"free", max_tokens=30)[1])
            run_checked(bench)
            assert not any(sink.errors for sink in sinks)
            texts.append([(sink.texts, sink.reasons) for sink in sinks])
        assert texts[0] == texts[1]
        stats = bench.loop.stats()
        drafted, accepted = drafted + stats.drafted_tokens, accepted + stats.accepted_tokens
        forced += stats.forced_tokens
    assert min(drafted - accepted, accepted, forced) > 50


def test_a_sequence_cancelled_in_mid_draft_leaves_what_it_has_said(make_drafting):
    bench = make_drafting(ctx_len=400)
    prompt, seed = long_answer(200)
    sequence, sink = bench.sequence(prompt, max_tokens=200, seed=seed)
    chunk = sink.chunk

    def leave(index: int, text: str, logprobs: tuple) -> None:
        chunk(index, text, logprobs)
        if sequence.draft.said == 2:
            bench.loop.cancel([sequence])

    sink.chunk = leave
    bench.loop.submit([sequence])
    run_checked(bench)
    assert not sink.reasons
    assert said(prompt, 200, seed).startswith(sink.texts[0])
    again, other = bench.ask(prompt + sink.texts[0].encode(), max_tokens=20, seed=seed)
    run_checked(bench)
    assert again.n_cached > len(prompt)
    assert other.texts[0] == said(prompt + sink.texts[0].encode(), 20, seed)


def test_log_probabilities_are_told_of_every_token(make_drafting):
    bench = make_drafting(ctx_len=400)
    prompt, seed = long_answer(100)
    sequence, sink = bench.ask(prompt, max_tokens=100, seed=seed, wants_logprobs=True)
    run_checked(bench)
    assert sequence.draft.accepted > 0
    assert "".join(chr(told.id) for told in sink.logprobs) == said(prompt, 100, seed)


def test_a_prediction_is_drafted_from_its_beginning(make_drafting):
    prompt, seed = long_answer(60)
    answer = said(prompt, 60, seed).encode()
    bench = make_drafting(drafts=16, ctx_len=400)
    sequence, sink = bench.ask(prompt, max_tokens=60, seed=seed, prediction=answer)
    run_checked(bench)
    assert sink.texts[0].encode() == answer
    assert sequence.draft.accepted == sequence.draft.drafted
    assert len(bench.context.steps) < 15


def test_a_wrong_prediction_is_soon_left_alone(make_drafting):
    prompt, seed = long_answer(60)
    bench = make_drafting(drafts=16, ctx_len=400)
    wrong = said(prompt, 1, seed).encode() + b"#" * 200
    sequence, sink = bench.ask(prompt, max_tokens=60, seed=seed, prediction=wrong)
    bench.loop.step()
    bench.loop.step()
    assert (sequence.draft.drafted, sequence.draft.accepted) == (4, 0)
    run_checked(bench)
    assert sink.texts[0] == said(prompt, 60, seed)


def test_no_draft_goes_beyond_what_may_be_said(make_drafting):
    answer = said(b"tell me", 20, long_answer(20)[1]).encode()
    for most in range(1, 12):
        bench = make_drafting(drafts=16, ctx_len=400)
        sequence, sink = bench.ask(b"tell me", max_tokens=most, seed=long_answer(20)[1], prediction=answer)
        run_checked(bench)
        assert sink.texts[0].encode() == answer[:most]
        assert sequence.draft.drafted == sequence.draft.accepted <= max(0, most - 1)


def test_an_answer_that_fills_the_context_has_its_full_length(make_drafting):
    prompt, seed = long_answer(120)
    bench = make_drafting(ctx_len=64)
    _, sink = bench.ask(prompt, max_tokens=None, seed=seed)
    run_checked(bench)
    assert sink.texts[0] == said(prompt, 64 - len(prompt), seed)


def test_rows_that_cost_as_much_as_they_save_are_left_out(make_drafting):
    prompt, seed = long_answer(200)
    bench = make_drafting(ctx_len=400, costs=Costs(step=0.0, row=10.0))
    bench.ask(prompt, max_tokens=200, seed=seed)
    run_checked(bench)
    assert bench.loop.stats().drafted_tokens == 0


def test_it_is_tried_again_whether_drafts_pay_by_now(make_drafting):
    bench = make_drafting(ctx_len=2000, costs=Costs(step=0.0, row=10.0))
    for _ in range(RETRY // 64 + 2):
        bench.ask(*long_answer(200)[:1], max_tokens=200, seed=long_answer(200)[1])
        run_checked(bench)
    assert 0 < bench.loop.stats().drafted_tokens < 40


def test_one_try_shows_that_steps_with_drafts_were_slow_by_chance(make_drafting):
    bench = make_drafting(ctx_len=2000, costs=OddOnes())
    for _ in range(RETRY // 64 + 2):
        bench.ask(*long_answer(200)[:1], max_tokens=200, seed=long_answer(200)[1])
        run_checked(bench)
    assert bench.loop.stats().drafted_tokens > 60


def test_drafts_are_tried_while_nobody_knows_what_they_cost(make_drafting):
    prompt, seed = long_answer(200)
    bench = make_drafting(ctx_len=400, costs=Unknown())
    bench.ask(prompt, max_tokens=200, seed=seed)
    run_checked(bench)
    assert bench.loop.stats().accepted_tokens > 0


@pytest.mark.parametrize(("is_exact", "most"), [(True, 3), (False, 9)])
def test_a_step_has_no_more_rows_than_are_exact_unless_all_may_change(make_drafting, is_exact, most):
    prompt, seed = long_answer(200)
    bench = make_drafting(ctx_len=400)
    bench.loop.drafting.exact = lambda: 3
    sequence, sink = bench.ask(prompt, max_tokens=200, seed=seed)
    sequence.draft.is_exact = is_exact
    bench.loop.step()
    computed = set()
    while bench.loop.step():
        computed.add(sum(count for _, count in bench.context.steps[-1]))
    assert max(computed) == most
    assert sink.texts[0] == said(prompt, 200, seed)


def test_one_who_may_not_change_keeps_the_others_within_what_is_exact(make_drafting):
    prompt, seed = long_answer(100)
    bench = make_drafting(ctx_len=400)
    bench.loop.drafting.exact = lambda: 1
    for number in range(2):
        sequence, _ = bench.ask(prompt, max_tokens=100, seed=seed)
        sequence.draft.is_exact = number == 0
    run_checked(bench)
    assert bench.loop.stats().drafted_tokens == 0


def test_a_step_with_a_prompt_has_no_drafts(make_drafting):
    prompt, seed = long_answer(200)
    bench = make_drafting(ctx_len=1000)
    bench.ask(prompt, max_tokens=200, seed=seed)
    for _ in range(30):
        bench.loop.step()
    drafted = bench.loop.drafting.drafted
    bench.ask(bytes(range(256)) * 2, max_tokens=1)
    while bench.loop.scheduler.running[-1].is_prefilling or bench.loop.scheduler.waiting:
        bench.loop.step()
    assert bench.loop.drafting.drafted == drafted > 0


def test_memory_that_cannot_be_cut_gets_no_drafts(make_drafting):
    prompt, seed = long_answer(200)
    bench = make_drafting(ctx_len=400, can_trim=False)
    _, sink = bench.ask(prompt, max_tokens=200, seed=seed)
    run_checked(bench)
    assert sink.texts[0] == said(prompt, 200, seed)
    assert bench.loop.stats().drafted_tokens == 0


def test_a_slot_that_cannot_be_cut_after_all_is_computed_again(make_drafting):
    prompt, seed = long_answer(200)
    bench = make_drafting(ctx_len=400)
    trim = bench.context.trim
    bench.context.trim = lambda slot, length: trim(slot, length) if length == 0 else False
    wrong = said(prompt, 1, seed).encode() + b"#" * 200
    _, sink = bench.ask(prompt, max_tokens=200, seed=seed, prediction=wrong)
    run_checked(bench)
    assert sink.texts[0] == said(prompt, 200, seed)
    assert 0 < bench.loop.stats().drafted_tokens <= 8


def test_no_idle_slot_is_given_up_for_a_draft(make_drafting):
    prompt, seed = long_answer(60)
    bench = make_drafting(slots=2, ctx_len=200, kv_cells=len(prompt) + 60 + 100)
    bench.ask(b"@" * 99, max_tokens=1)
    run_checked(bench)
    _, sink = bench.ask(prompt, max_tokens=60, seed=seed)
    run_checked(bench)
    assert bench.loop.stats().drafted_tokens > 0
    assert sink.texts[0] == said(prompt, 60, seed)
    assert sorted(map(len, bench.context.memory)) == [len(prompt) + 59, 99]


def test_a_step_without_room_is_tried_without_drafts(make_drafting):
    prompt, seed = long_answer(200)
    bench = make_drafting(ctx_len=400)
    decode, refused = bench.context.decode, []

    def short() -> int:
        if bench.loop.drafting.is_drafting:
            refused.append(len(bench.context.steps))
            return 1
        return decode()

    bench.context.decode = short
    _, sink = bench.ask(prompt, max_tokens=200, seed=seed)
    run_checked(bench)
    assert sink.texts[0] == said(prompt, 200, seed)
    assert 0 < len(refused) <= 200 // HOLD
    assert bench.loop.stats().drafted_tokens == 0
    assert bench.loop.stats().preempted == 0


def test_a_decode_that_fails_takes_its_drafts_along(make_drafting):
    prompt, seed = long_answer(200)
    bench = make_drafting(ctx_len=400)
    sequence, sink = bench.ask(prompt, max_tokens=200, seed=seed)
    decode = bench.context.decode
    bench.context.decode = lambda: -3 if bench.loop.drafting.is_drafting else decode()
    while not sink.errors:
        bench.loop.step()
    bench.context.decode = decode
    assert not bench.loop.drafting.is_drafting
    assert not sequence.draft.tokens
    assert bench.loop.stats().drafted_tokens == sequence.draft.drafted == 0
    _, other = bench.ask(prompt, max_tokens=200, seed=seed)
    run_checked(bench)
    assert other.texts[0] == said(prompt, 200, seed)


def test_a_draft_takes_no_more_cells_than_are_free(make_drafting):
    prompt, seed = long_answer(60)
    bench = make_drafting(slots=2, ctx_len=200, kv_cells=len(prompt) + 30 + 99, drafts=16)
    bench.ask(b"@" * 99, max_tokens=1)
    run_checked(bench)
    decode, codes = bench.context.decode, []
    bench.context.decode = lambda: codes.append(decode()) or codes[-1]
    _, sink = bench.ask(prompt, max_tokens=60, seed=seed, prediction=said(prompt, 60, seed).encode())
    run_checked(bench)
    assert sink.texts[0] == said(prompt, 60, seed)
    assert set(codes) == {0}


def test_behind_a_draft_of_which_nothing_came_true_some_tokens_come_without():
    draft, text = Draft(), array("i", list(b"abcdabcd"))
    assert draft.guess(text, 4).tolist() == list(b"abcd")
    draft.begin(draft.guess(text, 4))
    draft.follow(ord("#"))
    draft.settle()
    assert not draft.guess(text, 4)
    for _ in range(2):
        draft.follow(ord("#"))
    assert draft.guess(text, 4)
