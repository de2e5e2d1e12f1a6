"""/metrics: what Prometheus reads, of all parts of the server, and what becomes of those that say nothing."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace

import gunicorn.http.wsgi
import pytest
import werkzeug.wsgi
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

import janflask.metrics.collector as collector
from janflask.api.plumbing.counting import Answer
from janflask.ipc.request_id import CURRENT
from janflask.models.latencies import LATENCIES
from janflask.models.state import ModelState, ModelStatus
from tests.fakes.scripted import STATS
from tests.unit.api.conftest import World
from tests.unit.api.test_health import FakeRunner

Labels = frozenset[tuple[str, str]]


@pytest.fixture
def runner(world: World) -> Iterator[FakeRunner]:
    fake = FakeRunner(world.folder)
    yield fake
    fake.close()


def scrape(client: FlaskClient) -> dict[str, dict[Labels, float]]:
    """Sample name -> labels -> number."""
    with client.get("/metrics") as response:
        assert response.status_code == 200
        assert response.content_type.startswith("text/plain; version=")
        found: dict[str, dict[Labels, float]] = {}
        for family in text_string_to_metric_families(response.text):
            for sample in family.samples:
                found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
        return found


def of(**labels: str) -> Labels:
    return frozenset(labels.items())


TINY = of(model_name="tiny")


def test_what_an_engine_counts_is_told_under_vllms_names(client: FlaskClient, runner: FakeRunner) -> None:
    found = scrape(client)
    told = {
        "num_requests_running": STATS.busy,
        "num_requests_waiting": STATS.waiting,
        "kv_cache_usage_perc": STATS.kv_busy / STATS.kv_cells,
        "prompt_tokens_total": STATS.asked_tokens,
        "generation_tokens_total": STATS.generated_tokens,
        "prefix_cache_queries_total": STATS.looked_up_tokens,
        "prefix_cache_hits_total": STATS.cached_tokens,
        "num_preemptions_total": STATS.preempted,
        "spec_decode_num_draft_tokens_total": STATS.drafted_tokens,
        "spec_decode_num_accepted_tokens_total": STATS.accepted_tokens,
    }
    assert {name: found[f"janflask:{name}"][TINY] for name in told} == told
    for name, latency in LATENCIES.items():
        assert found[f"janflask:{name}_sum"][TINY] == 12.5
        assert found[f"janflask:{name}_count"][TINY] == len(latency.bounds) + 2
        first = of(model_name="tiny", le=str(latency.bounds[0]))
        assert found[f"janflask:{name}_bucket"][first] == 1
    assert found["janflask:request_success_total"][of(model_name="tiny", finished_reason="stop")] == 2


def test_models_runs_and_processes(client: FlaskClient, runner: FakeRunner, world: World) -> None:
    world.write_model("waiting")
    state = ModelState(model_id="big", status=ModelStatus.FAILED, memory_bytes=7, used_bytes=5, restarts=4)
    world.supervisor.states["big"] = state
    found = scrape(client)
    is_in = {labels for labels, number in found["janflask:model_state"].items() if number}
    assert is_in == {
        of(model_name="tiny", state="running"),
        of(model_name="waiting", state="downloaded"),
        of(model_name="big", state="failed"),
    }
    assert found["janflask:model_memory_promised_bytes"] == {of(model_name="big"): 7}
    assert found["janflask:model_memory_used_bytes"] == {of(model_name="big"): 5}
    assert found["janflask:model_restarts_total"][of(model_name="big")] == 4
    assert found["janflask:runs_running"][of()] == 1
    assert found["janflask:runs_requiring_action"][of()] == 2
    assert found["janflask:runs_ended_total"][of(status="completed")] == 3
    assert found["janflask:process_resident_memory_bytes"][of(process="worker")] > 1 << 20
    assert "janflask:scrape_failures_total" not in found


def test_weights_that_came_otherwise_count(client: FlaskClient, runner: FakeRunner, world: World) -> None:
    world.write_model("fetched")
    world.supervisor.states["fetched"] = ModelState(model_id="fetched", status=ModelStatus.NOT_DOWNLOADED, error="no")
    found = scrape(client)["janflask:model_state"]
    assert found[of(model_name="fetched", state="downloaded")] == 1


def test_requests_are_counted_by_route_and_no_client_makes_a_label(client: FlaskClient, runner: FakeRunner) -> None:
    for path in ("/v1/models/tiny", "/v1/models/nobody", "/v1/none/of/these", "/livez"):
        client.get(path).close()
    client.open("/livez", method="BREW").close()
    found = scrape(client)
    assert found["janflask:http_requests_total"] == {
        of(method="GET", route="/v1/models/<model_id>", status="200"): 1,
        of(method="GET", route="/v1/models/<model_id>", status="404"): 1,
        of(method="GET", route="unmatched", status="404"): 1,
        of(method="GET", route="/livez", status="200"): 1,
        of(method="other", route="unmatched", status="405"): 1,
    }
    assert found["janflask:http_requests_in_progress"][of()] == 1, "this one"
    assert found["janflask:http_request_duration_seconds_count"][of(method="GET", route="/livez")] == 1


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=1-2"}, {"If-None-Match": "*"}], ids=str)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("wrapper", [werkzeug.wsgi.FileWrapper, gunicorn.http.wsgi.FileWrapper])
def test_a_file_that_was_sent_is_no_request_under_way(
    client: FlaskClient, runner: FakeRunner, wrapper: type, method: str, headers: dict[str, str]
) -> None:
    with client.post("/v1/files", data={"file": (io.BytesIO(b"hello"), "a.txt"), "purpose": "assistants"}) as uploaded:
        assert uploaded.json is not None
        file_id = uploaded.json["id"]
    path, server = f"/v1/files/{file_id}/content", {"wsgi.file_wrapper": wrapper}
    with client.open(path, method=method, headers=headers, environ_overrides=server) as download:
        status = download.status_code
        assert CURRENT.get() == download.headers["X-Request-Id"]
    assert CURRENT.get() is None, "what is logged from now on is about no request"
    found = scrape(client)
    assert found["janflask:http_requests_in_progress"][of()] == 1, "this one"
    about = of(method=method, route="/v1/files/<file_id>/content", status=str(status))
    assert found["janflask:http_requests_total"][about] == 1


def test_all_hear_that_an_answer_has_ended_though_one_of_them_fails() -> None:
    heard: list[str] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            yield b"x"

        def close(self) -> None:
            heard.append("body")
            raise OSError("the body")

    def fails() -> None:
        heard.append("first")
        raise ValueError("the first")

    answer = Answer(Body())
    answer.call_on_close(fails)
    answer.call_on_close(lambda: heard.append("second"))
    with pytest.raises(ValueError, match="the first"):
        answer.close()
    assert heard == ["body", "first", "second"]


def test_what_does_not_answer_is_left_out_and_counted(
    client: FlaskClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "LIMIT", 0.2)
    world.engine.is_mute = True
    scrape(client)
    found = scrape(client)
    assert found["janflask:scrape_failures_total"] == {of(part="runner"): 2, of(part="engine"): 2}
    assert "janflask:num_requests_running" not in found
    assert found["janflask:model_state"][of(model_name="tiny", state="running")] == 1


def test_an_engine_without_a_loop(client: FlaskClient, world: World, runner: FakeRunner) -> None:
    world.supervisor.states["tiny"] = replace(world.supervisor.states["tiny"], socket=None)
    found = scrape(client)
    assert found["janflask:model_state"][of(model_name="tiny", state="running")] == 1
    assert "janflask:num_requests_running" not in found


# As Prometheus 2 and 3 ask.
OLDER = (
    "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
NEWER = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.mark.parametrize("accept", [OLDER, NEWER, "", "text/plain", "application/openmetrics-text; version=1.0.0"])
def test_the_names_are_the_same_whoever_asks(client: FlaskClient, runner: FakeRunner, accept: str) -> None:
    with client.get("/metrics", headers={"Accept": accept}) as response:
        assert response.content_type.startswith("text/plain; version=0.0.4")
        lines = [line for line in response.text.splitlines() if not line.startswith("#")]
    assert len(lines) > 100
    assert all(line.startswith("janflask:") for line in lines)


def test_every_family_has_our_prefix_and_a_help(client: FlaskClient, runner: FakeRunner) -> None:
    text = client.get("/metrics").text
    names = re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE)
    assert len(names) > 30
    assert all(name.startswith("janflask:") and help.endswith(".") for name, help in names)
