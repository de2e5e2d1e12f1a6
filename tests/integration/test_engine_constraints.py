"""Constraints between an engine's socket thread and the threads that compile them: real sockets, a fake compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from janflask.errors import InvalidRequestError, JanflaskError
from janflask.ipc.clients.engine import engine_tokens, open_generation
from janflask.ipc.messages.constraint import Constraint, ConstraintKind
from janflask.ipc.messages.engine import Chunk, Finished, Tokenize
from janflask.ipc.messages.generation import GenerateRequest, Watch
from janflask.models.sampling import SamplingParams
from janflask.parsing.rules import PLAIN
from tests.fakes.fake_grammar import FakeWords, OneOf
from tests.integration.test_engine_server import LIMIT, Engine, collect, engine  # noqa: F401
from tests.unit.engine.test_constraints import LateMasks, ScriptedMatcher, letters

WORD = Constraint(kind=ConstraintKind.REGEX, text="word", name="regex")
CALLS = Constraint(kind=ConstraintKind.REGEX, text="calls", name="tools")
WORDS = FakeWords()
Result = Callable[[Any], None]


class Compiler:
    """Answers when it is told to; a constraint's text is what may be said."""

    def __init__(self) -> None:
        self.asked: list[tuple[Constraint, Result]] = []

    def compile(self, constraint: Constraint, done: Result, _owner: str | None) -> None:
        self.asked.append((constraint, done))

    def matcher(self) -> ScriptedMatcher:
        return ScriptedMatcher(*letters("word"))


@pytest.fixture
def compiler(engine: Engine) -> Compiler:  # noqa: F811
    compiler: Any = Compiler()
    engine.server.compiler = compiler
    engine.loop.constraining.masker = LateMasks()
    return compiler


def request(**more: Any) -> GenerateRequest:
    return GenerateRequest(prompt="hello", sampling=SamplingParams(temperature=0), constraint=WORD, **more)


def test_an_answer_waits_for_its_constraint_and_nobody_else_does(engine: Engine, compiler: Compiler) -> None:  # noqa: F811
    generation = open_generation(str(engine.path), request(n=2))
    engine.wait_for(lambda: bool(compiler.asked), "asked")
    assert engine.server.is_busy(), "the model must not be unloaded meanwhile"
    assert engine_tokens(str(engine.path), Tokenize("ab", False, False), LIMIT).ids == [97, 98]
    compiler.asked[0][1](compiler)
    heard = collect(generation)
    for index in range(2):
        assert "".join(m.text for m in heard if isinstance(m, Chunk) and m.index == index) == "word"
    assert [m.reason for m in heard if isinstance(m, Finished)] == ["stop", "stop"]
    generation.close()
    engine.wait_for(lambda: not engine.server.is_busy(), "rest")


def test_a_constraint_that_cannot_be_had_is_the_answer(engine: Engine, compiler: Compiler) -> None:  # noqa: F811
    generation = open_generation(str(engine.path), request())
    engine.wait_for(lambda: bool(compiler.asked), "asked")
    compiler.asked[0][1](InvalidRequestError("regex cannot be used", param="regex"))
    with pytest.raises(JanflaskError, match="cannot be used") as caught:
        collect(generation)
    assert caught.value.param == "regex"
    generation.close()


def test_a_client_that_leaves_meanwhile_is_forgotten(engine: Engine, compiler: Compiler) -> None:  # noqa: F811
    generation = open_generation(str(engine.path), request())
    engine.wait_for(lambda: bool(compiler.asked), "asked")
    generation.close()
    engine.wait_for(lambda: not engine.server.is_busy(), "rest")
    compiler.asked[0][1](compiler)
    engine.wait_for(lambda: not engine.server._calls, "done")
    assert engine.stats().requests == 0


def watched(**more: Any) -> GenerateRequest:
    """An answer with a call under way, and a form for what is said otherwise."""
    watch = Watch(rules=PLAIN, begun="<tool_call>", tools=("f",), calls=CALLS, **more)
    return GenerateRequest(prompt="hello", sampling=SamplingParams(temperature=0), watch=watch)


def test_a_watched_answer_waits_for_all_its_constraints(engine: Engine, compiler: Compiler) -> None:  # noqa: F811
    generation = open_generation(str(engine.path), watched(answer=WORD))
    engine.wait_for(lambda: len(compiler.asked) == 2, "asked for both")
    assert {constraint for constraint, _ in compiler.asked} == {CALLS, WORD}
    compiler.asked[0][1](OneOf(WORDS, "word", "<tool_call>word"))
    compiler.asked[1][1](OneOf(WORDS, "word", "<tool_call>word"))
    heard = collect(generation)
    assert "".join(m.text for m in heard if isinstance(m, Chunk)) == "word"
    assert [m.reason for m in heard if isinstance(m, Finished)] == ["stop"]
    generation.close()


def test_one_constraint_that_cannot_be_had_is_the_answer(engine: Engine, compiler: Compiler) -> None:  # noqa: F811
    generation = open_generation(str(engine.path), watched(answer=WORD))
    engine.wait_for(lambda: len(compiler.asked) == 2, "asked for both")
    compiler.asked[1][1](InvalidRequestError("regex cannot be used", param="regex"))
    compiler.asked[0][1](InvalidRequestError("tools cannot be used", param="tools"))
    with pytest.raises(JanflaskError, match="regex cannot be used"):
        collect(generation)
    generation.close()
    engine.wait_for(lambda: not engine.server.is_busy(), "rest")
