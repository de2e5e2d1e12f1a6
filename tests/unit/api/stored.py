"""The application on the memory repository, for tests of what is stored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from janflask import create_app
from janflask.api.plumbing.context import EXTENSION
from janflask.container import Services
from janflask.settings import Settings
from janflask.storage.base import Repository
from janflask.storage.memory import memory_repository


@dataclass
class Store:
    """A client of the application, and what stands behind it."""

    client: FlaskClient
    repository: Repository
    settings: Settings

    def upload(self, filename: str = "a.txt", purpose: str = "assistants", content: bytes = b"x") -> str:
        """The id of a new file."""
        upload = self.repository.files.begin()
        upload.write(content)
        return upload.commit(filename, purpose).id


def make_store(folder: Path, **settings: Any) -> Store:
    """An empty one; ``folder`` is for what is no thread, message, file or assistant."""
    made = Settings(data_dir=folder / "data", runtime_dir=folder, **settings)
    repository = memory_repository()
    app = create_app(made)
    app.extensions[EXTENSION] = Services.of(made, repository)
    return Store(app.test_client(), repository, made)


def refused(response: TestResponse, status: int, param: str | None = None) -> dict[str, Any]:
    """The error that the response is; ``param`` is compared where it is given."""
    assert response.status_code == status, response.text
    assert response.json is not None
    assert set(response.json) == {"error"}
    error: dict[str, Any] = response.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    if param is not None:
        assert error["param"] == param
    return error
