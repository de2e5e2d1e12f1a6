"""The loop with answers under constraints, on the fake context: a mask is a set of tokens, a matcher plays a script."""

from __future__ import annotations

from collections.abc import Sequence

from janflask.engine.guide import Held
from janflask.errors import EngineError
from janflask.ipc.messages.generation import FinishReason
from tests.fakes.fake_context import EOG, expected_text

ALL = frozenset(range(257))


class ScriptedMatcher:
    """Allows one set of tokens after the other, and behind them the end alone; ``broken_at`` tokens it is in error."""

    def __init__(
        self, *allowed: frozenset[int], stops: bool = True, broken_at: int | None = None, forces: bool = False
    ) -> None:
        self._allowed = allowed
        self.forces = forces
        self._stops = stops
        self._broken_at = broken_at
        self.taken: list[int] = []
        self.mask: frozenset[int] | None = None
        self.error: str | None = None
        self.is_complete = False
        self.look()

    def accept(self, token: int) -> None:
        assert self.mask is not None
        assert token in self.mask, "a token that the mask did not allow"
        self.taken.append(token)
        self.mask = None  # out of date: whoever draws by it makes the fake fail
        self.is_complete = self._stops and len(self.taken) == len(self._allowed)
        self.error = "it is broken" if len(self.taken) == self._broken_at else None

    def force(self, most: int) -> list[int]:
        """What is the only one allowed, as far as it goes."""
        forced: list[int] = []
        while self.forces and len(forced) < most and not self.is_complete:
            allowed = self._allowed[len(self.taken)] if len(self.taken) < len(self._allowed) else frozenset()
            if len(allowed) != 1:
                break
            forced += allowed
            self.taken += allowed
            self.is_complete = self._stops and len(self.taken) == len(self._allowed)
        return forced

    def look(self) -> None:
        end = frozenset({EOG})
        self.mask = self._allowed[len(self.taken)] if len(self.taken) < len(self._allowed) else end


class LateMasks:
    """Computes no mask before somebody waits for it."""

    def __init__(self) -> None:
        self.begun: list[ScriptedMatcher] = []

    def begin(self, matchers: Sequence[ScriptedMatcher]) -> None:
        self.begun += matchers

    def wait(self) -> None:
        for matcher in self.begun:
            matcher.look()
        self.begun = []


def letters(text: str) -> list[frozenset[int]]:
    return [frozenset(map(ord, letter)) for letter in text]


def ask(bench, matcher: ScriptedMatcher | None, prompt: bytes = b"hello", **options: object):
    bench.loop.constraining.masker = bench.loop.constraining.masker or LateMasks()
    sequence, sink = bench.sequence(prompt, **options)
    sequence.guide = None if matcher is None else Held(matcher)
    bench.loop.submit([sequence])
    return sequence, sink


def test_an_answer_keeps_to_its_constraint_and_ends_with_it(make_bench):
    bench = make_bench()
    sequence, sink = ask(bench, ScriptedMatcher(*letters("yes")))
    free, other = ask(bench, None)
    bench.drain()
    assert (sink.texts[0], sink.reasons[0]) == ("yes", FinishReason.STOP)
    assert sequence.n_generated == 3, "no token is drawn, and none computed, for an end that is certain"
    assert other.texts[0] == expected_text(b"hello", 20)
    assert free.n_generated > 3


def test_a_constraint_that_forbids_nothing_changes_nothing(make_bench):
    bench = make_bench()
    _, sink = ask(bench, ScriptedMatcher(*[ALL] * 50, stops=False), max_tokens=30)
    bench.drain()
    assert sink.texts[0] == expected_text(b"hello", 30)


def test_where_only_the_end_is_left_it_may_be_drawn(make_bench):
    bench = make_bench()
    sequence, sink = ask(bench, ScriptedMatcher(*letters("no"), stops=False))
    bench.drain()
    assert (sink.texts[0], sink.reasons[0], sequence.n_generated) == ("no", FinishReason.STOP, 3)


def test_an_error_of_the_matcher_is_never_an_end(make_bench):
    bench = make_bench()
    _, sink = ask(bench, ScriptedMatcher(*letters("abcdef"), broken_at=3))
    _, other = ask(bench, ScriptedMatcher(*letters("xy")))
    bench.drain()
    assert not sink.reasons
    (error,) = sink.errors
    assert isinstance(error, EngineError)
    assert (error.code, error.status) == ("constraint_failed", 500)
    assert "it is broken" in error.message
    assert other.texts[0] == "xy"


def test_what_was_computed_before_an_error_is_not_computed_again(make_bench):
    bench = make_bench()
    broken, sink = ask(bench, ScriptedMatcher(*letters("abcdef"), broken_at=3))
    bench.drain()
    assert sink.errors
    again, _ = ask(bench, ScriptedMatcher(*letters("xy")))
    bench.drain()
    assert again.n_cached == broken.n_prompt - 1


def test_an_error_with_the_last_token_is_no_cut_answer(make_bench):
    bench = make_bench()
    _, sink = ask(bench, ScriptedMatcher(*letters("abcdef"), broken_at=3), max_tokens=3)
    bench.drain()
    assert not sink.reasons
    assert sink.errors


def test_an_error_that_shows_with_the_mask_fails_before_anything_is_drawn(make_bench):
    class Broken(ScriptedMatcher):
        def look(self) -> None:
            super().look()
            self.error = "no mask" if len(self.taken) == 2 else None

    bench = make_bench()
    _, sink = ask(bench, Broken(*letters("abcd")))
    bench.drain()
    assert (sink.texts[0], sink.reasons) == ("ab", {})
    assert "no mask" in sink.errors[0].message


def test_max_tokens_cuts_and_says_so_unless_the_answer_is_whole(make_bench):
    bench = make_bench()
    _, cut = ask(bench, ScriptedMatcher(*letters("abcdef")), max_tokens=3)
    _, whole = ask(bench, ScriptedMatcher(*letters("abc")), max_tokens=3)
    bench.drain()
    assert (cut.texts[0], cut.reasons[0]) == ("abc", FinishReason.LENGTH)
    assert (whole.texts[0], whole.reasons[0]) == ("abc", FinishReason.STOP)


def test_a_constraint_for_nothing_gives_an_empty_answer(make_bench):
    matcher = ScriptedMatcher()
    matcher.is_complete = True
    bench = make_bench()
    sequence, sink = ask(bench, matcher)
    bench.drain()
    assert (sink.texts, sink.reasons, sequence.n_generated) == ({}, {0: FinishReason.STOP}, 0)


def test_a_mask_that_leaves_nothing_is_an_error(make_bench):
    bench = make_bench()
    _, sink = ask(bench, ScriptedMatcher(frozenset()))
    bench.drain()
    assert "no token is allowed" in sink.errors[0].message


def test_a_preempted_answer_goes_on_where_its_constraint_is(make_bench):
    bench = make_bench(slots=4, kv_cells=120, ctx_len=120)
    asked = [
        ask(bench, ScriptedMatcher(*letters("abcdefghijklmnopqrstuvwxyz" * 2)), bytes([65 + i]) * 20, max_tokens=60)
        for i in range(3)
    ]
    bench.drain()
    assert bench.loop.scheduler.preempted > 0
    assert [sink.texts[0] for _, sink in asked] == ["abcdefghijklmnopqrstuvwxyz" * 2] * 3


def test_a_stop_string_ends_an_answer_within_its_constraint(make_bench):
    bench = make_bench()
    _, sink = ask(bench, ScriptedMatcher(*letters("abcdef")), stop=("cd",))
    bench.drain()
    assert sink.reasons == {0: FinishReason.STOP}
    assert not sink.errors


def test_waiting_for_masks_is_booked(make_bench):
    bench = make_bench()
    readings = iter(range(10_000))
    bench.loop.constraining.clock = lambda: float(next(readings))
    ask(bench, None)
    bench.drain()
    assert bench.loop.stats().mask_seconds == 0
    ask(bench, ScriptedMatcher(*letters("abc")), b"other")
    bench.drain()
    assert bench.loop.stats().mask_seconds == 6  # a reading before and one after each wait, and each token taken


# --- tokens that have to come -----------------------------------------------------------------------------------------

ANY = frozenset(range(97, 123))


def test_what_is_forced_is_computed_in_one_step_and_not_drawn(make_bench):
    bench = make_bench()
    script = [*letters("abcdef"), ANY, *letters("xyz")]
    sequence, sink = ask(bench, ScriptedMatcher(*script, forces=True))
    bench.drain()
    text = sink.texts[0]
    assert (text[:6], text[7:]) == ("abcdef", "xyz")
    assert sink.reasons == {0: FinishReason.STOP}
    assert sequence.n_generated == len(script)
    # The prompt; "a" with what follows it; the free letter, which ends it with what follows that.
    assert [count for ((_, count),) in bench.context.steps] == [5, 6]
    assert sequence.sampler.accepted == [*b"bcdef", *b"xyz"], "penalties look back on them, too"
    assert bench.loop.stats().forced_tokens == len("bcdef" + "xyz")


def test_the_model_says_behind_forced_text_what_it_would_say(make_bench):
    bench = make_bench()
    script = [*letters("abc"), *[ALL] * 50]
    _, sink = ask(bench, ScriptedMatcher(*script, forces=True, stops=False), max_tokens=30)
    bench.drain()
    assert sink.texts[0] == "abc" + expected_text(b"helloabc", 27)


def test_max_tokens_counts_what_is_forced(make_bench):
    for most in range(1, 8):
        bench = make_bench()
        sequence, sink = ask(bench, ScriptedMatcher(*letters("abcdef"), forces=True), max_tokens=most)
        bench.drain()
        assert sink.texts[0] == "abcdef"[:most]
        assert sequence.n_generated == min(most, 6)
        assert sink.reasons[0] is (FinishReason.LENGTH if most < 6 else FinishReason.STOP)


def test_a_full_context_ends_among_forced_tokens(make_bench):
    bench = make_bench(ctx_len=16)
    sequence, sink = ask(bench, ScriptedMatcher(*letters("abcdefghijklmnopqrstuvwxyz"), forces=True), max_tokens=None)
    bench.drain()
    assert (sink.texts[0], sink.reasons[0]) == ("abcdefghijk", FinishReason.LENGTH)
    assert len(sequence.tokens) == 16


def test_a_stop_string_ends_among_forced_tokens(make_bench):
    bench = make_bench()
    sequence, sink = ask(bench, ScriptedMatcher(*letters("abcdef"), forces=True), stop=("cd",))
    bench.drain()
    assert sink.reasons == {0: FinishReason.STOP}
    assert bytes(list(sequence.tokens[sequence.n_prompt :])) == b"abcd", "nothing behind it is counted"


def test_with_log_probabilities_every_token_is_drawn(make_bench):
    bench = make_bench()
    sequence, sink = ask(bench, ScriptedMatcher(*letters("abcdef"), forces=True), wants_logprobs=True)
    bench.drain()
    assert (sink.texts[0], len(sink.logprobs), sequence.sampler.accepted) == ("abcdef", 6, [])


def test_forced_tokens_and_prompts_share_a_step(make_bench):
    """However many there are, a step stays within its size, and everybody says what he would have said alone."""
    bench = make_bench(slots=4, chunk=16, slice_size=16, ctx_len=400)
    word = "abcdefghijklmnopqrstuvwxyz"
    script = [[*letters(word), ALL] * 4 for _ in range(3)]
    asked = [
        ask(bench, ScriptedMatcher(*script[i], forces=True, stops=False), bytes([65 + i]) * 30, max_tokens=90)
        for i in range(3)
    ]
    while len(asked[-1][1].texts.get(0, "")) < 2:
        bench.loop.step()
    free, sink = ask(bench, None, b"Z" * 100, max_tokens=20)
    bench.drain()
    assert sink.texts[0] == expected_text(b"Z" * 100, 20)
    assert free.n_generated
    assert all(other.texts[0].startswith(word) for _, other in asked)
    assert max(sum(count for _, count in step) for step in bench.context.steps) <= 16 + 4


def test_a_preempted_answer_computes_forced_tokens_again(make_bench):
    bench = make_bench(slots=4, kv_cells=120, ctx_len=120)
    text = "abcdefghijklmnopqrstuvwxyz" * 2
    script = [letter for i, letter in enumerate(letters(text))]
    asked = [ask(bench, ScriptedMatcher(*script, forces=True), bytes([65 + i]) * 20, max_tokens=60) for i in range(3)]
    bench.drain()
    assert bench.loop.scheduler.preempted > 0
    assert [sink.texts[0] for _, sink in asked] == [text] * 3
