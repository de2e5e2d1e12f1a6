"""What a loop counts of the times of its answers."""

from __future__ import annotations

import pytest

from janflask.engine.latencies import Histogram
from janflask.models.latencies import LATENCIES


def test_a_time_falls_into_the_first_bucket_that_holds_it() -> None:
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.0, 0.1, 0.5, 1.0, 5.0):
        histogram.observe(seconds)
    assert histogram.counted().counts == (2, 2, 1)
    assert histogram.counted().total == pytest.approx(6.6)


def test_an_answers_times_are_counted_where_it_ends(make_bench) -> None:
    bench = make_bench()
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1.0
        return now

    bench.loop.clock = bench.loop.answers.clock = clock
    sequence, sink = bench.sequence(b"hello", max_tokens=4)
    bench.loop.submit([sequence])
    while bench.loop.step():
        pass
    assert sink.reasons
    counted = bench.loop.answers.latencies.counted()
    assert set(counted) == set(LATENCIES)
    assert {name: sum(each.counts) for name, each in counted.items()} == {
        **dict.fromkeys(LATENCIES, 1),
        "inter_token_latency_seconds": 3,
    }
    assert sequence.admitted is not None
    assert sequence.first_token is not None
    assert sequence.last_token is not None
    totals = {name: each.total for name, each in counted.items()}
    assert totals["request_queue_time_seconds"] == sequence.admitted - sequence.arrived
    assert totals["request_prefill_time_seconds"] == sequence.first_token - sequence.admitted
    assert totals["time_to_first_token_seconds"] == sequence.first_token - sequence.arrived
    assert totals["request_decode_time_seconds"] == sequence.last_token - sequence.first_token
    assert totals["inter_token_latency_seconds"] == sequence.last_token - sequence.first_token
    assert totals["request_time_per_output_token_seconds"] == pytest.approx(
        (sequence.last_token - sequence.first_token) / 3
    )
    assert totals["e2e_request_latency_seconds"] == sequence.last_token - sequence.arrived
    assert bench.loop.answers.latencies.ends() == {"length": 1}


def test_how_answers_end(make_bench) -> None:
    bench = make_bench()
    cancelled, _ = bench.sequence(b"hello")
    bench.loop.submit([cancelled])
    bench.loop.step()
    bench.loop.cancel([cancelled])
    bench.loop.step()
    assert bench.loop.answers.latencies.ends() == {"abort": 1}
    stats = bench.loop.stats()
    assert (stats.asked_tokens, stats.looked_up_tokens) == (5, 5)
