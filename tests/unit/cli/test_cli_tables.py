"""Models as text."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from janflask.cli.card import print_model
from janflask.cli.tables import card_object, duration, print_list, print_processes, quantity, size
from janflask.models.card import ModelCard


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *((None, "-"), (0, "-"), (True, "-"), (999, "999 B"), (1000, "1.0 kB"), (98_362_432, "98.4 MB")),
        *((669_000_000, "669 MB"), (4.1e9, "4.1 GB"), (2.5e13, "25.0 TB")),
    ],
)
def test_sizes(value: object, shown: str) -> None:
    assert size(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "-"), ("7B", "7B"), (134_515_008, "135M"), (1_235_814_432, "1.24B"), (950, "950")]
)
def test_quantities(value: object, shown: str) -> None:
    assert quantity(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-5, "0s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"), (3600, "1h00m"), (86400, "1d00h"), (273_600, "3d04h")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def printed(show: object, value: object, width: int = 200) -> str:
    out = Console(file=io.StringIO(), width=width, markup=False)
    show(value, out)  # type: ignore[operator]
    return out.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_a_model_object_may_lack_everything() -> None:
    assert "x" in printed(print_model, {"id": "x"})
    assert "x" in printed(print_list, [{"id": "x"}])
    assert "x" in printed(print_processes, [{"id": "x", "stats": None, "runtime": None}])


def test_an_upstream_may_lack_everything() -> None:
    for upstream in ({"servers": [{}]}, {"servers": None, "kind": "vllm"}, {"servers": [7]}):
        for show in (print_model, lambda it, out: print_list([it], out), lambda it, out: print_processes([it], out)):
            printed(show, {"id": "x", "upstream": upstream})


def test_notes_are_shown_of_a_model_that_failed() -> None:
    failed = {"id": "a", "status": "failed", "error": "too big", "notes": ["tried twice", "no luck"], "runtime": None}
    shown = printed(print_model, failed)
    assert [line.strip().split(maxsplit=1) for line in shown.splitlines()[-2:]] == [
        ["note", "tried twice"],
        ["note", "no luck"],
    ]
    assert "too big" in shown


def test_text_from_elsewhere_is_no_markup() -> None:
    assert "[bold]x[/bold] [link=1]" in printed(print_model, {"id": "a", "name": "[bold]x[/bold] [link=1]"})


def test_a_long_value_is_folded_and_not_cut() -> None:
    shown = printed(print_model, {"id": "a", "error": "e" * 300}, width=80)
    assert shown.count("e") >= 300
    assert "…" not in shown


def test_a_model_on_disk_looks_like_the_servers() -> None:
    card = ModelCard(
        id="a",
        name="A",
        path=None,
        size_bytes=0,
        created=1,
        settings={},
        parameters={},
        metadata={"author": "me"},
        raw={},
    )
    model = card_object(card)
    assert (model["status"], model["metadata"]) == ("not_downloaded", {"author": "me", "size": 0})
