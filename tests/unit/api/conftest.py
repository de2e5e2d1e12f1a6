"""The application over a scripted engine and supervisor, with the model ``tiny`` on disk and running."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from janflask import create_app
from janflask.access.key_file import KeyFile
from janflask.access.keys import Limits, new_key
from janflask.access.scopes import EVERY, Scope
from janflask.settings import Settings
from tests.fakes.scripted import INFO, ScriptedEngine, ScriptedSupervisor


@dataclass(frozen=True)
class MadeKey:
    """A key of the server, as its owner has it."""

    id: str
    text: str

    @property
    def header(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.text}"}


@dataclass
class World:
    """What stands behind the application."""

    folder: Path
    settings: Settings
    supervisor: ScriptedSupervisor
    engine: ScriptedEngine

    def write_model(self, model_id: str = "tiny", weights: bool = True, **content: Any) -> None:
        folder = self.settings.models_dir / model_id
        folder.mkdir(parents=True, exist_ok=True)
        if weights:
            (folder / "model.gguf").write_bytes(b"GGUF")
        (folder / "model.json").write_text(json.dumps({"id": model_id, "created": 1_700_000_000, **content}))

    def make_key(self, *scopes: Scope, **limits: int) -> MadeKey:
        """A new one, for everything where no scopes are named."""
        key, text = new_key("a", frozenset(scopes) or EVERY, Limits(**limits), 1)
        KeyFile(self.settings.secrets_dir).change(lambda keyring: keyring.with_key(key))
        return MadeKey(key.id, text)

    def runs_as(self, **info: Any) -> None:
        """The engine of ``tiny`` is one that tells this of itself."""
        self.supervisor.states["tiny"] = self.supervisor.run("tiny", self.engine, replace(INFO, **info))


@pytest.fixture
def world() -> Iterator[World]:
    # Not pytest's own folder: its name may be too long for the address of a Unix socket.
    # A start that was waited for may still be writing there when the folder goes.
    with tempfile.TemporaryDirectory(prefix="jf-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        # A busy machine's silence must not begin a stream whose first event, an error, is about to come.
        settings = Settings(data_dir=folder / "data", runtime_dir=folder, keepalive=20.0, request_timeout=20.0)
        supervisor = ScriptedSupervisor(folder)
        engine = ScriptedEngine(folder / "engine.sock")
        world = World(folder, settings, supervisor, engine)
        world.write_model()
        supervisor.states["tiny"] = supervisor.run("tiny", engine)
        try:
            yield world
        finally:
            supervisor.may_start.set()
            supervisor.close()
            world.engine.close()


@pytest.fixture
def impatient(world: World) -> None:
    """A short silence is filled at once; to be used before ``app`` is (``usefixtures``)."""
    world.settings = replace(world.settings, keepalive=0.05)


@pytest.fixture
def app(world: World) -> Flask:
    return create_app(world.settings)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def server(app: Flask) -> Iterator[str]:
    """The application behind a real HTTP server; its base URL."""
    httpd = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


@pytest.fixture
def sdk(server: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0, timeout=30.0) as client:
        yield client


@pytest.fixture
def claude(server: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server, api_key="none", max_retries=0, timeout=30.0) as client:
        yield client
