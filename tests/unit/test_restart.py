"""When a process that died is started again."""

from __future__ import annotations

from janflask.processes import launcher
from janflask.processes.restart import RestartPolicy, Restarts


def test_the_pauses_grow_up_to_a_limit() -> None:
    policy = RestartPolicy()
    assert [policy.delay(deaths) for deaths in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 4.0]
    assert policy.delay(20) == 30.0
    assert policy.delay(1_000_000) == 30.0


def test_it_is_given_up_after_so_many_deaths_in_a_row() -> None:
    restarts = Restarts(RestartPolicy(first_delay=1.0, max_deaths=3))
    assert [restarts.after(0.0) for _ in range(3)] == [1.0, 2.0, None]
    assert restarts.deaths == 3


def test_a_long_life_makes_those_before_it_count_no_more() -> None:
    restarts = Restarts(RestartPolicy(first_delay=1.0, max_deaths=3, healthy_after=60.0))
    assert [restarts.after(lived) for lived in (0.0, 59.9, 60.0, 0.0)] == [1.0, 2.0, 1.0, 2.0]


def test_the_servers_own_processes_are_never_given_up() -> None:
    restarts = Restarts(launcher.POLICY)
    pauses = [restarts.after(0.0) for _ in range(5000)]
    assert pauses[:7] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0]
    assert set(pauses[7:]) == {10.0}
