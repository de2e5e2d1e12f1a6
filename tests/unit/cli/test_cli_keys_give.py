"""``janflask keys give``: what is stored becomes another key's."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from janflask.cli.commands import cli
from janflask.files import ids
from janflask.settings import Settings
from janflask.storage import open_repository
from janflask.storage.base import Repository
from janflask.storage.records import Assistant, Thread


@dataclass
class Stored:
    """A data folder with something of nobody's in it, and a key."""

    store: Repository
    folder: Path
    thread_id: str
    file_id: str
    key_id: str

    def owner(self) -> str | None:
        return self.store.threads.owner(self.thread_id)


def run(*args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["keys", *args])
    assert result.exit_code == code, result.output
    return result


def add(name: str) -> str:
    found: str = json.loads(run("add", name, "--json").stdout)["id"]
    return found


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stored:
    folder = tmp_path / "data"
    monkeypatch.setenv("JANFLASK_DATA_DIR", str(folder))
    store = open_repository(Settings(data_dir=folder, durability="os"))
    thread_id = ids.new_id(ids.THREAD)
    store.threads.create(Thread(id=thread_id, created_ms=1, updated_ms=1))
    store.assistants.create(Assistant(id="shared", created_ms=1))
    upload = store.files.begin()
    return Stored(store, folder, thread_id, upload.commit("a.txt", "assistants").id, add("laptop"))


def test_all_that_is_nobodys(stored: Stored) -> None:
    assert run("give", "laptop", "--all-unowned").stdout == "2 objects given to laptop.\n"
    assert stored.owner() == stored.store.files.get(stored.file_id).owner == stored.key_id
    assert stored.store.assistants.get("shared").owner is None
    assert run("give", "laptop", "--all-unowned").stdout == "0 objects given to laptop.\n"


def test_by_ids_whosever_they_are(stored: Stored) -> None:
    desk = add("desk")
    for name in (stored.thread_id, ids.conversation_id(stored.thread_id)):
        run("give", stored.key_id, name, stored.file_id, "shared")
        assert stored.owner() == stored.store.assistants.get("shared").owner == stored.key_id
        assert "3 objects given to desk" in run("give", desk, name, f"file/{stored.file_id}", "shared").stdout
        assert stored.owner() == desk


def test_what_a_revoked_key_left(stored: Stored) -> None:
    run("give", "laptop", "--all-unowned")
    desk = add("desk")
    assert "keys give NAME --from KEY" in run("revoke", stored.key_id).stdout
    assert "2 objects" in run("give", "desk", "--from", stored.key_id).stdout
    assert stored.owner() == desk


def test_what_is_missing_is_told_before_anything_changes(stored: Stored) -> None:
    assert (
        "there is no thread, file or assistant 'nothing'"
        in run("give", "laptop", stored.thread_id, "nothing", code=1).output
    )
    assert "there is no key 'desk'" in run("give", "desk", "--all-unowned", code=1).output
    assert "there is no key 'desk'" in run("give", "laptop", "--from", "desk", code=1).output
    assert "everybody's" in run("give", "laptop", "jan", code=1).output
    assert stored.owner() is None


def test_names_that_two_keys_have(stored: Stored) -> None:
    again = add("laptop")
    told = run("give", "laptop", "--all-unowned", code=1).output
    assert again in told
    assert stored.key_id in told
    assert "2 objects" in run("give", again, "--all-unowned").stdout


@pytest.mark.parametrize(
    "args", [[], ["x", "--all-unowned"], ["--all-unowned", "--from", "laptop"], ["x", "--from", "laptop"]]
)
def test_one_way_to_say_what(stored: Stored, args: list[str]) -> None:
    assert "say what to give" in run("give", "laptop", *args, code=2).output


def test_one_that_cannot_be_given_keeps_no_other(stored: Stored) -> None:
    broken = ids.new_id(ids.THREAD)
    stored.store.threads.create(Thread(id=broken, created_ms=1, updated_ms=1))
    (stored.folder / "threads" / broken / "thread.json").write_text("{")
    told = run("give", "laptop", "--all-unowned", code=1)
    assert f"thread {broken} is left as it is" in told.output
    assert "2 objects given; 1 could not be" in told.output
    assert stored.owner() == stored.key_id


def test_root_leaves_no_files_that_the_server_cannot_read(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        os.chown(stored.folder, 12345, -1)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert "run this as that user" in run("give", "laptop", "--all-unowned", code=1).output
    assert stored.owner() is None
