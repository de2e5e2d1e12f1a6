"""Loading models into this process. llama.cpp's log callback has to stay alive as long as the process logs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from janflask.engine.library_log import LibraryLog
from janflask.engine.model import Model
from janflask.models.engine_settings import EngineSettings

Load = Callable[..., Model]

_KEPT: list[LibraryLog] = []


@pytest.fixture
def load() -> Load:
    """Loads a GGUF with settings given by name, and a layout of conversations if there is one beside the file's."""
    library_log = LibraryLog()
    _KEPT.append(library_log)

    def load(path: Path, prompt_template: str | None = None, **settings: object) -> Model:
        return Model(path, EngineSettings(**settings), library_log, lambda fraction: None, prompt_template)

    return load
