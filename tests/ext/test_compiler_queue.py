"""What waits for the threads that compile constraints."""

from __future__ import annotations

import threading

import pytest

from janflask.engine import constraint as engine_constraint
from janflask.engine.constraint import Compiled, Compiler
from janflask.errors import EngineError, JanflaskError, UnavailableError
from janflask.ipc.messages.constraint import Constraint, ConstraintKind

LIMIT = 30.0  # seconds


def test_one_that_was_given_up_while_it_waited_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else those that nobody waits for any more would hold up all that come after them."""
    may_begin, compiled = threading.Event(), []

    def make() -> None:
        assert may_begin.wait(LIMIT)
        raise EngineError("no table is needed here")

    def compile_one(constraint: Constraint) -> Compiled:
        compiled.append(constraint.name)
        raise EngineError("compiled")

    monkeypatch.setattr(engine_constraint, "THREADS", 1)
    monkeypatch.setattr(engine_constraint, "TABLE_TIME", 0.0)
    compiler = Compiler(make, 32)  # type: ignore[arg-type]
    monkeypatch.setattr(compiler, "_compile", compile_one)
    compiler.start()
    results: list[Compiled | JanflaskError] = []
    for name, status in (("first", UnavailableError.status), ("second", EngineError.status)):
        came = threading.Event()

        def done(result: Compiled | JanflaskError, came: threading.Event = came) -> None:
            results.append(result)
            came.set()

        compiler.compile(Constraint(kind=ConstraintKind.REGEX, text=name, name=name), done)
        assert came.wait(LIMIT)
        assert isinstance(results[-1], JanflaskError)
        assert results[-1].status == status
        may_begin.set()
        assert compiler._ready.wait(LIMIT)
    assert compiled == ["second"]


def test_the_table_is_made_at_rest_or_when_it_is_wanted() -> None:
    made = threading.Event()

    def make() -> None:
        made.set()
        raise EngineError("no table is needed here")

    compiler = Compiler(make, 32)  # type: ignore[arg-type]
    compiler.start()
    assert not compiler._ready.is_set()
    assert compiler.due(0.0) == engine_constraint.REST
    assert compiler.due(engine_constraint.REST) == 0
    assert not made.is_set(), "nobody has wanted it"
    compiler.piece()
    assert made.wait(LIMIT)
    assert compiler.due(engine_constraint.REST) is None, "once is enough"
