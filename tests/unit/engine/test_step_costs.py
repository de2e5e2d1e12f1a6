"""What steps cost, as they show it themselves."""

from __future__ import annotations

import pytest

from janflask.engine.step_costs import StepCosts


def test_nothing_is_said_before_two_sizes_were_seen() -> None:
    costs = StepCosts()
    assert costs.of(1) is None
    costs.observe(1, 10.0)
    assert costs.of(1) == 10.0
    assert costs.of(4) is None


@pytest.mark.parametrize(("tokens", "ms"), [(1, 10.0), (4, 16.0), (8, 24.0), (16, 40.0)])
def test_between_and_beyond_what_was_seen_it_is_a_line(tokens: int, ms: float) -> None:
    costs = StepCosts()
    costs.observe(1, 10.0)
    costs.observe(8, 24.0)
    assert costs.of(tokens) == pytest.approx(ms)


def test_what_is_forgotten_is_unknown() -> None:
    costs = StepCosts()
    costs.observe(1, 10.0)
    costs.forget()
    assert costs.of(1) is None


def test_the_newest_counts_most() -> None:
    costs = StepCosts()
    for _ in range(30):
        costs.observe(1, 10.0)
    for _ in range(30):
        costs.observe(1, 30.0)
    assert costs.of(1) == pytest.approx(30.0, abs=0.1)


def test_what_is_doubted_gives_way_to_the_next_that_is_seen() -> None:
    costs = StepCosts()
    for ms in (10.0, 1000.0, 1000.0):
        costs.observe(5, ms)
    assert costs.of(5) == pytest.approx(366.4)
    costs.doubt(5)
    costs.observe(5, 12.0)
    assert costs.of(5) == 12.0
    costs.observe(5, 22.0)
    assert costs.of(5) == pytest.approx(14.0), "from then on it is mixed"


def test_a_step_of_more_never_seems_cheaper_because_an_odd_one_was_dear() -> None:
    costs = StepCosts()
    for tokens, ms in ((1, 9.0), (7, 39.0), (8, 31.0)):
        costs.observe(tokens, ms)
    assert (costs.of(7), costs.of(8)) == (39.0, 31.0)
    assert costs.of(15) == pytest.approx(31.0 + 7 * 22.0 / 7)


def test_how_long_no_step_takes() -> None:
    costs = StepCosts(first_ms=50.0)
    assert costs.surely(1) == pytest.approx(0.15)
    assert costs.surely(512) == pytest.approx(76.8), "a slow machine's first long prompt is no hang"
    costs.observe(512, 60_000.0)
    assert costs.surely(1) == pytest.approx(1200.0)
