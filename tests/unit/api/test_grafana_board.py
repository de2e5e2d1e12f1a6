"""The board in conf/: every metric and label that it asks for exists, and no panel is without a query."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.api.conftest import World
from tests.unit.api.test_health import FakeRunner

BOARD = json.loads((Path(__file__).resolve().parents[3] / "conf" / "grafana-janflask.json").read_text())
METRIC = re.compile(r"janflask:[a-z0-9_]+")
SELECTOR = re.compile(r"(janflask:[a-z0-9_]+)\{([^}]*)\}")


def queries(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in ("expr", "query") and isinstance(inner, str):
                yield inner
            else:
                yield from queries(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from queries(inner)


@pytest.fixture
def told(client: FlaskClient, world: World) -> Iterator[dict[str, set[str]]]:
    """The labels of each metric that there is, as the server tells them."""
    runner = FakeRunner(world.folder)
    world.write_model("other")
    client.get("/v1/models").close()
    with client.get("/metrics") as response:
        families = list(text_string_to_metric_families(response.text))
    samples: dict[str, set[str]] = {}
    for family in families:
        names = {family.name} | ({f"{family.name}_total"} if family.type == "counter" else set())
        for name in (*names, *(sample.name for sample in family.samples)):
            samples.setdefault(name, set())
        for sample in family.samples:
            samples[sample.name] |= set(sample.labels)
    yield samples
    runner.close()


def test_every_metric_that_the_board_asks_for_exists(told: dict[str, set[str]]) -> None:
    wanted = {name for query in queries(BOARD) for name in METRIC.findall(query)}
    assert len(wanted) > 25
    assert wanted - told.keys() == set()


def test_every_label_that_the_board_selects_by_exists(told: dict[str, set[str]]) -> None:
    for query in queries(BOARD):
        for name, selector in SELECTOR.findall(query):
            labels = set(re.findall(r"(\w+)\s*=~?", selector))
            assert labels <= told[name] or not told[name], (name, labels)


def test_every_panel_has_a_query_and_a_place_of_its_own() -> None:
    panels = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
    assert all(target["expr"] for panel in panels for target in panel["targets"])
    assert all(panel["targets"] for panel in panels)
    cells = [
        (x, y)
        for panel in BOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
