"""Numbers as Prometheus' metric families, under vLLM's names with our prefix where vLLM has one for the same thing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

PREFIX = "janflask:"

Samples = Iterable[tuple[Sequence[str], float]]  # labels' values, and the number


def gauge(name: str, help: str, labels: Sequence[str], samples: Samples) -> Metric:
    """What goes up and down."""
    family = GaugeMetricFamily(PREFIX + name, help, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def counter(name: str, help: str, labels: Sequence[str], samples: Samples) -> Metric:
    """What only goes up, from 0 at the start of whoever counts."""
    family = CounterMetricFamily(PREFIX + name, help, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def histogram(
    name: str,
    help: str,
    labels: Sequence[str],
    bounds: Sequence[float],
    samples: Iterable[tuple[Sequence[str], Sequence[float], float]],
) -> Metric:
    """Of times: each sample has how many fell into each bucket, one more than there are ``bounds``, and their sum."""
    family = HistogramMetricFamily(PREFIX + name, help, labels=labels)
    ends = [*map(floatToGoString, bounds), "+Inf"]
    for values, counts, total in samples:
        family.add_metric(values, list(zip(ends, accumulate(counts), strict=True)), total)
    return family


def by_model(numbers: Mapping[str, float]) -> Iterator[tuple[tuple[str], float]]:
    """Samples of a family with the one label ``model_name``."""
    for model_id, number in numbers.items():
        yield (model_id,), number
