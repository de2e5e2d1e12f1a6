"""Real servers for tests: gunicorn with conf/gunicorn.conf.py and the fake engine, in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil

from janflask.supervisor.__main__ import COMMAND_VARIABLE
from tests.integration.waiting import LIMIT, wait_for

ROOT = Path(__file__).resolve().parents[2]
GUNICORN = [sys.executable, "-m", "gunicorn", "-c", "conf/gunicorn.conf.py"]


def environment(folder: Path, **settings: str) -> dict[str, str]:
    return os.environ | {
        "JANFLASK_DATA_DIR": str(folder / "data"),
        "JANFLASK_STOP_TIMEOUT": "0.5",
        "JANFLASK_SPARE_ENGINE": "0",
        "TMPDIR": str(folder),
        "XDG_RUNTIME_DIR": "",
        COMMAND_VARIABLE: f"{sys.executable} -m tests.fakes.fake_engine",
        **settings,
    }


@contextmanager
def folder_with_model(script: str) -> Iterator[Path]:
    """What a server may write to. ``script``: of the fake engine of the model ``m``."""
    with tempfile.TemporaryDirectory(prefix="jf", dir="/tmp") as name:  # a socket's path must be short
        model = Path(name) / "data" / "models" / "m"
        model.mkdir(parents=True)
        (model / "m.gguf").write_text(script)
        yield Path(name)


@contextmanager
def running(
    app: str,
    env: dict[str, str],
    ready: Callable[[], bool],
    said: IO[str] | None = None,
    log: IO[str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """A server from when it is ``ready``. Nothing is left of it, whatever becomes of the test.

    ``said``, ``log``: where its standard output and error go.
    """
    with subprocess.Popen([*GUNICORN, app], cwd=ROOT, env=env, stdout=said, stderr=log, text=True) as process:
        family: list[psutil.Process] = []
        try:
            wait_for(ready)
            family = psutil.Process(process.pid).children(recursive=True)
            yield process
        finally:
            process.kill()
            process.wait()
            psutil.wait_procs(family, LIMIT)
