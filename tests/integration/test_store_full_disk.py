"""A full disk, a quota, a file that may not grow: a clear 507, nothing half done, and it works again afterwards."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from janflask import create_app
from janflask.errors import StorageFullError
from janflask.storage import open_repository
from tests.integration import store_faults
from tests.integration.store_faults import (
    NAMING,
    OPERATIONS,
    REMOVING,
    SYNCING,
    WRITING,
    Action,
    fault,
    half_written,
    look,
    no_quota,
    no_space,
    seen_by,
)
from tests.integration.store_records import settings

ROOT = Path(__file__).resolve().parents[2]
NEVER = 1 << 30
SYSTEM_CALLS = WRITING + SYNCING + NAMING
REMOVES_ONLY = {"delete a thread", "delete an assistant", "delete a file"}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store") / "filled"
    store_faults.fill(folder)
    return folder


class Trial:
    """One operation on a copy of the filled store."""

    def __init__(self, filled: Path, folder: Path, name: str) -> None:
        self.folder = folder
        self.operation = OPERATIONS[name]
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(filled, folder)
        self.repository = open_repository(settings(folder))

    def run(self, at: int = NEVER, action: Action = no_space, names: tuple[str, ...] = SYSTEM_CALLS) -> list[str]:
        with fault(at, action, names) as calls:
            self.operation(self.repository)
        return calls


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file with something in it (an empty one marks a thread as a possible holder) that is nobody's cache."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.stat().st_size and "cache" not in path.relative_to(folder).parts
    }


@pytest.mark.parametrize("action", [no_space, no_quota, half_written])
@pytest.mark.parametrize("name", OPERATIONS)
def test_no_space_at_any_system_call(filled: Path, tmp_path: Path, name: str, action: Action) -> None:
    trial = Trial(filled, tmp_path / "trial", name)
    before = look(trial.folder)
    calls = trial.run()
    after = look(trial.folder)
    assert before != after
    names = WRITING if action is half_written else SYSTEM_CALLS
    refused = 0
    for at in range(1, sum(call in names for call in calls) + 1):
        trial = Trial(filled, tmp_path / "trial", name)
        files = files_of(trial.folder)
        place = f"call {at} of {calls}"
        try:
            trial.run(at, action, names)
        except StorageFullError:
            refused += 1
            now = look(trial.folder)
            assert now == seen_by(trial.repository), place
            if now == before:
                assert files_of(trial.folder) == files, place
                trial.run()
            else:  # the file's new content is in its place, and only whether that is on disk is not known
                assert at == len(calls), place
                assert calls[-1] in SYNCING, place
        # Where it could do without that call, it did what it was asked.
        assert look(trial.folder) == seen_by(trial.repository) == after, place
    assert refused or name in REMOVES_ONLY or not any(call in names for call in calls)


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_cannot_be_removed_does_no_harm(filled: Path, tmp_path: Path, name: str) -> None:
    trial = Trial(filled, tmp_path / "trial", name)
    before = look(trial.folder)
    calls = trial.run(names=REMOVING)
    after = look(trial.folder)
    for at in range(1, len(calls) + 1):
        trial = Trial(filled, tmp_path / "trial", name)
        try:
            trial.run(at, no_space, REMOVING)
        except StorageFullError:
            assert look(trial.folder) == seen_by(trial.repository) == before
            trial.run()
        assert look(trial.folder) == seen_by(trial.repository) == after


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.integration.store_limits", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    refused: dict[str, list[int]] = json.loads(done.stdout)
    assert set(refused) == set(OPERATIONS)
    for name, limits in refused.items():
        assert name in REMOVES_ONLY or limits, f"{name} was never refused"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    app = create_app(settings(tmp_path / "data", runtime_dir=tmp_path))
    with app.test_client() as client:
        yield client


REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a thread": ("POST", "/v1/threads", {"json": {"messages": [{"role": "user", "content": "x"}]}}),
    "a message": ("POST", "/v1/threads/{thread}/messages", {"json": {"role": "user", "content": "x"}}),
    "an assistant": ("POST", "/v1/assistants", {"json": {"model": "*", "name": "x"}}),
    "a thread's title": ("PATCH", "/v1/threads/{thread}", {"json": {"title": "x"}}),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_over_http(client: Any, name: str) -> None:
    thread = client.post("/v1/threads", json={}).json["id"]
    method, path, given = REQUESTS[name]
    path = path.format(thread=thread)
    before = [client.get(f"/v1/{place}").json for place in ("threads", f"threads/{thread}/messages", "assistants")]
    with fault(1, no_space, SYNCING):
        answer = client.open(path, method=method, **given)
    assert answer.status_code == 507
    error = answer.json["error"]
    assert (error["type"], error["code"]) == ("server_error", "insufficient_storage")
    assert "full" in error["message"]
    assert set(error) == {"message", "type", "param", "code"}
    assert [
        client.get(f"/v1/{place}").json for place in ("threads", f"threads/{thread}/messages", "assistants")
    ] == before
    assert client.open(path, method=method, **given).status_code == 200
