"""How far a download is, as text."""

from __future__ import annotations

import io
from typing import Any

import click
import pytest
from rich.console import Console
from rich.progress import Progress

from janflask.cli.models_pull import Bar, Lines, amount, is_done, line, pace


def state(**download: Any) -> dict[str, Any]:
    return {"id": "m", "status": "downloading", "download": download}


@pytest.mark.parametrize(
    ("download", "shown"),
    [
        ({}, ""),
        ({"transferred": 0, "total": None}, ""),
        ({"transferred": 0, "total": 5000}, "0 B of 5.0 kB"),
        ({"transferred": 1500, "total": None}, "1.5 kB"),
        ({"transferred": 1500, "total": 5000}, "1.5 kB of 5.0 kB"),
    ],
)
def test_amounts(download: dict[str, Any], shown: str) -> None:
    assert amount(download) == shown


def test_what_nobody_knows_is_left_out() -> None:
    assert pace({"bytes_per_second": 0.0, "eta_seconds": None}) == ("", "")
    assert pace({"bytes_per_second": 2e6, "eta_seconds": 61.5}) == ("2.0 MB/s", "1m01s left")
    assert line("m", {"stage": "queued", "transferred": 0, "total": None, "percent": None}) == "m: queued"


def test_lines_come_with_a_new_stage_or_after_a_while() -> None:
    now = 100.0
    written: list[str] = []
    show = Lines(written.append, lambda: now)
    for seconds, stage, transferred in [
        *((0, "queued", 0), (1, "downloading", 1), (2, "downloading", 2), (5.9, "downloading", 3)),
        *((6, "downloading", 4), (7, "downloading", 5), (7.5, "verifying", 6)),
    ]:
        now = 100.0 + seconds
        show(state(stage=stage, transferred=transferred, total=10))
    show({"id": "m", "status": "downloaded", "download": None})
    assert written == [
        "m: queued, 0 B of 10 B",
        *(f"m: downloading, {n} B of 10 B" for n in (1, 4)),
        "m: verifying, 6 B of 10 B",
    ]


def test_the_bar_follows_and_says_the_same() -> None:
    out = Console(file=io.StringIO(), width=120, force_terminal=True)
    with Progress(*Bar.columns(), console=out) as progress:
        bar = Bar(progress)
        bar({"id": "m", "status": "downloading", "download": None})
        assert progress.tasks == []
        bar(state(stage="resolving", transferred=0, total=None))
        assert (progress.tasks[0].description, progress.tasks[0].total) == ("m resolving", None)
        bar(state(stage="downloading", transferred=5e6, total=2e7, bytes_per_second=1e6, eta_seconds=15))
    (task,) = progress.tasks
    assert (task.description, task.percentage) == ("m downloading", 25.0)
    assert task.fields == {"amount": "5.0 MB of 20.0 MB", "rate": "1.0 MB/s", "left": "15s left"}
    assert "15s left" in out.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("status", "done"), [("downloading", False), ("downloaded", True), ("running", True), ("stopped", True)]
)
def test_when_it_is_done(status: str, done: bool) -> None:
    assert is_done("m", {"status": status}) is done


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"status": "not_downloaded", "download": {"stage": "failed", "error": "404"}}, "could not be fetched: 404"),
        ({"status": "downloading", "download": {"stage": "failed"}}, "the server gives no reason"),
        ({"status": "not_downloaded", "error": "disk full"}, "could not be fetched: disk full"),
        ({"status": "not_downloaded"}, "was cancelled"),
    ],
)
def test_when_it_will_not_come(event: dict[str, Any], reason: str) -> None:
    with pytest.raises(click.ClickException, match=reason):
        is_done("m", event)
