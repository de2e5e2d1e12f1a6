"""What the page knows of settings and parameters is what the server's tables say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools import page_parameters


def known(name: str) -> dict[str, object]:
    tables = json.loads(page_parameters.KNOWN.read_text())
    found = [item for table in tables.values() for item in table if item["name"] == name]
    assert len(found) == 1
    return dict(found[0])


@pytest.mark.parametrize(("target", "content"), page_parameters.render().items(), ids=["parameters", "starter"])
def test_a_file_is_up_to_date(target: Path, content: str) -> None:
    assert target.read_text() == content, "run `make ui`"


def test_everything_that_can_be_set_has_a_group() -> None:
    assert page_parameters.missing() == set()


def test_a_parameter_is_told_with_its_range_and_default() -> None:
    temperature = known("temperature")
    assert (temperature["type"], temperature["default"], temperature["range"]) == ("number", 0.8, [0, 2])
    assert known("seed")["otherwise"] == "a new one for each answer"


def test_a_setting_is_told_with_its_range_and_choices() -> None:
    assert known("ctx_len")["range"] == [16, 1 << 24]
    assert known("rope_scaling")["choices"] == ["none", "linear", "yarn"]
    assert known("mmap")["type"] == "boolean"
