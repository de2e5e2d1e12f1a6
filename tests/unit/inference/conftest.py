"""Real templates, asked once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.inference.real_layouts import NAMES, Layout


@pytest.fixture(scope="package")
def layouts(llama_templates: Path) -> Iterator[dict[str, Layout]]:
    found = {name: Layout((llama_templates / f"{name}.jinja").read_text()) for name in NAMES}
    yield found
    for layout in found.values():
        layout.renderer.close()
