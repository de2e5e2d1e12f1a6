"""schemathesis asks a real server for everything that the served OpenAPI document describes, and compares the answers.

Always the same requests: the seed is fixed and nothing is remembered. Left out are the routes that work with a model,
since they would start an engine for what they are asked: inference, runs, a model's start and stop; and the one that
makes a model, since it would fetch from wherever it is told to.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from tests.e2e.server import ROOT, Server, serving

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]
NEED_A_MODEL = ["startModel", "stopModel", "createChatCompletion", "createCompletion"]
NEED_A_MODEL += ["createModel", "createRun", "createThreadAndRun"]
NEED_A_MODEL += ["tokenize", "detokenize", "applyTemplate", "countInputTokens"]
CONFIG = """\
hooks = "tests.e2e.{hooks}"
[phases.stateful.inference]
algorithms = []  # the document's own links are what is tried
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("described") / "data", JANFLASK_MAX_UPLOAD_MB="1") as server:
        yield server


def schemathesis(server: Server, folder: Path, hooks: str, *options: str) -> subprocess.CompletedProcess[str]:
    """One run, in a process of its own: it patches much of what it runs in."""
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG.format(hooks=hooks))
    program = [sys.executable, "-W", "ignore", "-m", "schemathesis.cli", "--config-file", str(config)]
    left_out = [word for name in NEED_A_MODEL for word in ("--exclude-operation-id", name)]
    always = ["--no-color", "--seed", "1", "--generation-deterministic", "--no-shrink"]
    always += ["--checks", ",".join(CHECKS), "--warnings", "off", "--continue-on-failure", "--workers", "1"]
    command = [*program, "run", f"{server.url}/openapi.json", *always, *left_out, *options]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)}
    )


RUNS: dict[str, Sequence[str]] = {
    "examples and every described limit": ["schemathesis_hooks", "--phases", "examples,coverage"],
    "at random": ["schemathesis_hooks", "--phases", "fuzzing", "--max-examples", "8"],
    "along the links": ["schemathesis_link_hooks", "--phases", "stateful", "--max-examples", "100"],
}


@pytest.mark.parametrize("run", RUNS)
def test_every_answer_is_as_described(server: Server, tmp_path: Path, run: str) -> None:
    done = schemathesis(server, tmp_path, *RUNS[run])
    assert done.returncode == 0, f"{done.stdout[-20_000:]}\n{done.stderr[-2_000:]}"
    if links := re.search(r"API Links: +(\d+) covered / (\d+) selected / \d+ total", done.stdout):
        assert int(links[1]) > int(links[2]) // 2, "the links were followed"
    else:
        assert "stateful" not in RUNS[run]
    assert server.get("/healthz").status_code == 200


def test_the_document_has_links(server: Server) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    linked = {
        link["operationId"]
        for methods in document["paths"].values()
        for operation in methods.values()
        if isinstance(operation, dict)
        for answer in operation.get("responses", {}).values()
        for link in answer.get("links", {}).values()
    }
    for name in "getThread", "createMessage", "retrieveMessage", "deleteThread":
        assert name in linked
