"""A manager of downloads over a folder of its own, for tests: how it is made, waited for and looked at."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from janflask.downloads.fetch import Limits
from janflask.downloads.manager import DownloadManager
from janflask.downloads.wire import Patience
from janflask.models.catalog import ModelCatalog
from janflask.models.state import DownloadState
from janflask.settings import Settings

WAIT = 30.0  # seconds, far more than anything here takes
QUICK = Limits(back_off=0.001, tries=3, longest_wait=5.0)
PATIENT = Patience(silence=20.0, head=20.0, window=20.0)


def settings(root: Path, **changes: Any) -> Settings:
    return Settings(**{"data_dir": root, "allow_private_sources": True, **changes})


def manager(
    root: Path,
    env: dict[str, str] | None = None,
    *,
    limits: Limits = QUICK,
    patience: Patience = PATIENT,
    **changes: Any,
) -> DownloadManager:
    """``env`` is the process's, as far as downloads look at it: no token, and the public hub by default."""
    made = settings(root, **changes)
    return DownloadManager(made, ModelCatalog(made.models_dir), env or {}, limits=limits, patience=patience)


def until(what: Callable[[], Any]) -> Any:
    """What ``what`` gives, once that is true."""
    deadline = time.monotonic() + WAIT
    while not (found := what()):
        if time.monotonic() > deadline:
            raise AssertionError("it did not come to pass")
        time.sleep(0.005)
    return found


def settled(downloads: DownloadManager, model_id: str) -> DownloadState | None:
    """How a download ended: None when the model is there."""

    def ended() -> list[DownloadState | None]:
        state = downloads.states().get(model_id)
        return [state] if state is None or state.stage == "failed" else []

    return until(ended)[0]


def tree(root: Path) -> dict[str, int]:
    """Every file below a folder and its size; folders have none."""
    return {str(path.relative_to(root)): path.stat().st_size * path.is_file() for path in sorted(root.rglob("*"))}
