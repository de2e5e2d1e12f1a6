"""Our writer of Prometheus' text, held against its library's."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric

from janflask.metrics.families import counter, gauge, histogram
from janflask.metrics.text import CONTENT_TYPE, as_text

INFINITE = [float("inf"), float("-inf"), float("nan")]
NUMBERS = [0.0, 1.0, 3, -1.5, 999999.5, 0.1 + 0.2, 123456789.0, 1e6, 1e16, 1e300, 1e-7, *INFINITE]


class Families:
    """As a collector gives them."""

    def collect(self) -> Iterator[Metric]:
        yield gauge("nothing", "Of nobody.", ["model_name"], [])
        yield gauge("bare", "Without labels.", [], [([], number) for number in NUMBERS])
        named = [['a "quoted" \\ one', "two\nlines"], ["", "ü"], ["{", "}"]]
        yield gauge("named", "By names.", ["model_name", "a"], [(labels, 1.0) for labels in named])
        yield counter("said", "Counted.", ["b", "a"], [(["x", "y"], 3.0)])
        times = [(["x"], (1, 2, 0, 4), 1.5), (["y"], (0, 0, 0, 0), 0.0)]
        yield histogram("time", "Times.", ["m"], (0.1, 1.0, 1e7), times)


def test_it_writes_what_the_library_writes() -> None:
    assert as_text(Families().collect()) == generate_latest(Families())
    assert CONTENT_TYPE == CONTENT_TYPE_PLAIN_0_0_4
