"""What a server's start must not import: each process has its own interpreter, and a start is mostly imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = frozenset({"numpy", "flask", "marshmallow", "jinja2", "sqlite3", "ssl", "http.client", "multiprocessing"})
OURS = ("inference", "services", "storage", "transfer", "schemas", "api", "downloads.manager", "downloads.sources")


@pytest.mark.parametrize(
    ("modules", "allowed"),
    [
        ("janflask.processes.launcher", set()),
        ("janflask.supervisor.__main__", {"janflask.downloads"}),
        ("janflask.runner.__main__", set()),
        ("janflask.engine.__main__", set()),
        ("janflask.engine.bindings; janflask.engine.bindings.load(); import janflask.engine.builder", {"numpy"}),
        (
            "janflask.engine.bindings; janflask.engine.bindings.load(); import janflask.engine.server",
            {"numpy"},
        ),
    ],
)
def test_a_process_imports_at_its_start_only_what_it_needs(modules: str, allowed: set[str]) -> None:
    code = f"import {modules}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())
    assert (loaded & HEAVY) - allowed == set()
    assert {f"janflask.{name}" for name in OURS} & loaded == set()
    assert "llguidance" not in loaded


def test_who_looks_at_the_server_needs_nothing_of_prometheus() -> None:
    code = "import janflask.metrics.overview, janflask.metrics.processes\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())
    assert "psutil" in loaded
    assert "prometheus_client" not in loaded


def test_a_worker_makes_nothing_for_the_document() -> None:
    """flask-smorest makes a schema for each answer that is described: 500 of them."""
    code = (
        "import marshmallow as ma\n"
        "made = []\n"
        "init = ma.Schema.__init__\n"
        "ma.Schema.__init__ = lambda self, *args, **kwargs: (made.append(type(self)), init(self, *args, **kwargs))[1]\n"
        "import janflask.api.app\n"
        "print(len(made))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) < 50
