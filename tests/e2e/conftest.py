"""Servers for the end-to-end tests, and their logs where a test fails."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import openai
import pytest

from tests.e2e.server import Server, follow_settings, serving
from tests.e2e.tool_model import serving_tool_model

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.model)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections += [(f"server on port {server.port}", server.logs()) for server in Server.alive]
    return report


@pytest.fixture(scope="session")
def server(session_data_dir: Path) -> Iterator[Server]:
    """The server that every test shares which does it no harm: two workers, the model running."""
    with serving(follow_settings(session_data_dir), JANFLASK_WORKERS="2") as server:
        server.start().raise_for_status()
        yield server


@pytest.fixture(scope="session")
def tool_server(tool_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that runs a model which was trained to call tools; shared by the tests that are marked ``agents``."""
    with serving_tool_model(tmp_path_factory.mktemp("tools"), tool_gguf) as server:
        yield server


@pytest.fixture
def sdk(server: Server) -> Iterator[openai.OpenAI]:
    with server.sdk() as client:
        yield client


@pytest.fixture
def own_dir(data_dir: Path) -> Path:
    """A data folder of the test's own, whose model follows the server's settings."""
    return follow_settings(data_dir)
