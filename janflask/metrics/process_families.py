"""What processes use, as metric families by what they are: their ids come and go, and would be ever new labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.metrics_core import Metric

from janflask.metrics.families import gauge
from janflask.metrics.processes import Totals, totals
from janflask.models.state import ModelState


def process_families(pids: Mapping[str, Sequence[int]], states: Mapping[str, ModelState]) -> Iterator[Metric]:
    """``pids``: by kind. Engines tell of themselves through ``states``."""
    uses = {kind: totals(each) for kind, each in pids.items()}
    engines = [state for state in states.values() if state.pid is not None]
    uses["engine"] = Totals(len(engines), sum(state.used_bytes or 0 for state in engines))
    labels = ["process"]
    yield gauge("processes", "How many there are.", labels, (([kind], float(u.processes)) for kind, u in uses.items()))
    resident = (([kind], float(use.resident)) for kind, use in uses.items())
    yield gauge("process_resident_memory_bytes", "RAM, of all of a kind together.", labels, resident)
    descriptors = (([kind], float(use.descriptors)) for kind, use in uses.items() if kind != "engine")
    yield gauge("process_open_fds", "Open files and sockets, of all of a kind together.", labels, descriptors)
