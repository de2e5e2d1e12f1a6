"""The loop with answers that are led: watches, tokens that stand for the drawn ones, and guides that fail."""

from __future__ import annotations

from typing import Any

import pytest

from janflask.engine.guides import compile_all
from janflask.engine.spelling import Speller
from janflask.engine.watch import AnswerWatch
from janflask.errors import InvalidRequestError, JanflaskError
from janflask.ipc.messages.constraint import Constraint, ConstraintKind
from janflask.ipc.messages.generation import FinishReason, Watch
from janflask.parsing.rules import PLAIN, AnswerRules, Reasoning
from tests.fakes.fake_context import expected_text, token_logprob
from tests.fakes.fake_grammar import FakeMasks, FakeStream, FakeWords, OneOf
from tests.unit.engine.test_constraints import LateMasks

WORDS = FakeWords()
REST = '{"name": "f", "arguments": {}}</tool_call>'
CALLS = OneOf(WORDS, "<tool_call>" + REST)
THINKS = AnswerRules(Reasoning("<think>", "</think>", closing="</think>\n"))


def ask(
    bench: Any,
    prompt: bytes = b"hello",
    *,
    rules: AnswerRules = PLAIN,
    calls: Any = None,
    answer: Any = None,
    **how: Any,
):
    """``watch``: further fields of the watch."""
    bench.loop.constraining.masker = bench.loop.constraining.masker or LateMasks()
    watch = Watch(rules=rules, tools=("f",) if calls else (), **how.pop("watch", {}))
    sequence, sink = bench.sequence(prompt, **how)
    sequence.guide = AnswerWatch(watch, Speller(WORDS), FakeStream(WORDS), FakeMasks(), calls, answer)
    bench.loop.submit([sequence])
    return sequence, sink


def test_text_without_a_call_is_what_it_is_unwatched(make_bench):
    bench = make_bench()
    _, sink = ask(bench, calls=CALLS, max_tokens=40)
    bench.drain()
    assert sink.texts[0] == expected_text(b"hello", 40)
    assert bench.loop.stats().mask_seconds == 0, "nobody waits for a mask that nobody needs"


def test_a_watch_with_no_more_to_see_is_left(make_bench):
    bench = make_bench()
    sequence, _ = ask(bench, rules=THINKS, watch={"thought_tokens": 3})
    bench.loop.step()
    assert sequence.guide is None


@pytest.mark.parametrize("wants_logprobs", [False, True])
def test_a_call_ends_the_answer(make_bench, wants_logprobs):
    bench = make_bench()
    sequence, sink = ask(
        bench, calls=CALLS, watch={"begun": "<tool_call>"}, max_tokens=99, wants_logprobs=wants_logprobs
    )
    _, other = bench.ask(b"other")
    bench.drain()
    assert (sink.texts[0], sink.reasons[0]) == (REST, FinishReason.STOP)
    assert other.texts[0] == expected_text(b"other", 20)
    assert len(sink.logprobs) == (sequence.n_generated if wants_logprobs else 0)
    steps = len(bench.context.steps)
    assert steps >= len(REST) if wants_logprobs else steps < len(REST), "what is forced comes in one step"


def test_a_call_is_cut_and_stopped_like_anything(make_bench):
    bench = make_bench()
    _, cut = ask(bench, calls=CALLS, watch={"begun": "<tool_call>"}, max_tokens=5)
    _, stopped = ask(bench, calls=CALLS, watch={"begun": "<tool_call>"}, max_tokens=99, stop=('"f"',))
    bench.drain()
    assert (cut.texts[0], cut.reasons[0]) == (REST[:5], FinishReason.LENGTH)
    assert stopped.reasons[0] is FinishReason.STOP


def test_thoughts_end_in_time_and_the_model_goes_on_as_it_would(make_bench):
    for number in range(9):
        prompt = f"{number}<think>"
        thought = expected_text(prompt.encode(), 4)
        if len(thought) < 4:
            continue  # it ends itself
        bench = make_bench()
        watch = {"prompt_end": prompt, "thought_tokens": 4}
        _, sink = ask(bench, prompt.encode(), rules=THINKS, watch=watch, max_tokens=30)
        bench.drain()
        said = thought + "</think>\n"
        assert sink.texts[0] == said + expected_text((prompt + said).encode(), 30 - len(said))
        return
    raise AssertionError("no prompt was of use")


def test_a_preempted_answer_goes_on_where_its_watch_is(make_bench):
    bench = make_bench(slots=4, kv_cells=120, ctx_len=120)
    form = OneOf(WORDS, "abcdefghij" * 4)
    watch = {"prompt_end": "<think>", "thought_tokens": 9}
    asked = [ask(bench, bytes([65 + i]) * 20, rules=THINKS, answer=form, watch=watch, max_tokens=70) for i in range(3)]
    bench.drain()
    assert bench.loop.scheduler.preempted > 0
    for _, sink in asked:
        assert sink.texts[0].endswith("</think>\n" + "abcdefghij" * 4)
        assert sink.reasons[0] is FinishReason.STOP


class Swap:
    """Says ``x`` wherever something else is drawn, three times."""

    matcher = mask = error = None
    is_complete = is_over = False

    def take(self, token: int, room: int, *, ends: bool) -> list[int]:
        return [ord("x"), ord("y")] if room else [ord("x")]


@pytest.mark.parametrize("wants_logprobs", [False, True])
def test_what_stands_for_a_token_was_never_anything_else(make_bench, wants_logprobs):
    """It is what is computed, told and looked back on; its log-probability is its own."""
    bench = make_bench()
    sequence, sink = bench.sequence(b"hello", max_tokens=4, wants_logprobs=wants_logprobs)
    sequence.guide = Swap()
    bench.loop.submit([sequence])
    bench.drain()
    text = "xxxx" if wants_logprobs else "xyxy"
    assert (sink.texts[0], bytes(list(sequence.tokens))) == (text, f"hello{text}".encode())
    assert bytes(bench.context.memory[0]) == f"hello{text[:-1]}".encode()[: len(bench.context.memory[0])]
    assert sequence.sampler.accepted == list(text.encode())
    if wants_logprobs:
        first = sink.logprobs[0]
        prompt = sequence.tokens[:5].tobytes()
        assert (first.id, first.logprob) == (ord("x"), pytest.approx(token_logprob(prompt, ord("x"))))


def test_a_guide_that_fails_spoils_its_own_answer(make_bench, caplog):
    class Broken(Swap):
        def take(self, token: int, room: int, *, ends: bool) -> list[int]:
            raise ValueError("a fault of ours")

    bench = make_bench()
    sequence, sink = bench.sequence(b"hello")
    sequence.guide = Broken()
    bench.loop.submit([sequence])
    _, other = bench.ask(b"other")
    bench.drain()
    assert [error.status for error in sink.errors] == [500]
    assert "a fault of ours" in caplog.text
    assert other.texts[0] == expected_text(b"other", 20)


# --- compiling --------------------------------------------------------------------------------------------------------


def test_all_constraints_are_compiled_or_the_first_refusal_is_told_once() -> None:
    asked: list[Any] = []
    told: list[Any] = []
    compiler: Any = type(
        "Compiler", (), {"compile": lambda self, constraint, done, owner: asked.append((constraint, done))}
    )()
    wanted = [Constraint(kind=ConstraintKind.REGEX, text=text) for text in ("a", "b", "c")]
    compile_all(compiler, wanted, told.append)
    for constraint, done in reversed(asked):
        assert not told
        done(constraint.text)
    assert told == [{constraint: constraint.text for constraint in wanted}]
    asked.clear()
    told.clear()
    compile_all(compiler, wanted, told.append)
    asked[0][1]("a")
    asked[1][1](InvalidRequestError("b cannot be had", param="b"))
    asked[2][1](InvalidRequestError("c cannot be had", param="c"))
    assert [isinstance(result, JanflaskError) and result.param for result in told] == ["b"]
