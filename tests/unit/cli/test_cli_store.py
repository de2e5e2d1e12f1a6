"""``janflask threads``, ``assistants`` and ``doctor`` on a data folder."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from janflask.cli.commands import cli
from janflask.settings import Settings
from janflask.storage import open_repository
from janflask.storage.base import Page, Repository
from janflask.storage.records import Message, Thread


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Two conversations, in the folder that the commands work on."""
    monkeypatch.setenv("JANFLASK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JANFLASK_DURABILITY", "os")
    monkeypatch.setenv("TZ", "UTC")
    repository = open_repository(Settings.from_env())
    for number, (name, title) in enumerate([("old", "Cheese"), ("new", "Bread \x1b[31m\nand butter")]):
        part = {"type": "text", "text": {"value": f"about {name}", "annotations": []}}
        at_ms = 1_717_666_232_000 + number * 86_400_000
        message = Message(id="m1", thread_id=name, created_ms=at_ms, content=(part,))
        repository.threads.create(Thread(id=name, created_ms=at_ms, updated_ms=at_ms, title=title), [message])
    return repository


def run(*args: str, stdin: bytes | str | None = None, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, args, input=stdin)
    assert result.exit_code == code, result.output
    return result


def titles(repository: Repository) -> list[str]:
    return sorted(thread.title for thread in repository.threads.list(Page(limit=None)).items)


def test_list_is_newest_first_and_safe_to_print(store: Repository) -> None:
    head, new, old = run("threads", "list").stdout.splitlines()
    assert head.split() == ["THREAD", "UPDATED", "MODEL", "TITLE"]
    assert (new.split()[0], old.split()[0]) == ("new", "old")
    assert "2024-06-06" in old
    assert "\x1b" not in new
    assert len(run("threads", "list", "--limit", "1").stdout.splitlines()) == 2
    assert [item["id"] for item in json.loads(run("threads", "list", "--json").stdout)] == ["new", "old"]


def test_a_long_title_leaves_the_table_readable(store: Repository) -> None:
    store.threads.create(Thread(id="long", created_ms=1, updated_ms=1, title="x" * 200))
    lines = run("threads", "list").stdout.splitlines()
    assert max(len(line) for line in lines) < 120
    assert lines[-1].endswith("xxx…")


def test_search_and_show(store: Repository) -> None:
    assert [item["id"] for item in json.loads(run("threads", "search", "cheese", "--json").stdout)] == ["old"]
    assert "No conversation" in run("threads", "search", "nothing").stdout
    for number, form in enumerate(("caf\u00e9", "cafe\u0301")):
        store.threads.create(Thread(id=f"t{number}", created_ms=1, updated_ms=1, title=form))
    for form in ("CAF\u00c9", "Cafe\u0301"):
        found = json.loads(run("threads", "search", form, "--json").stdout)
        assert sorted(item["id"] for item in found) == ["t0", "t1"]
    assert "about old" in run("threads", "show", "old").stdout
    assert json.loads(run("threads", "show", "old", "--json").stdout)["messages"][0]["id"] == "m1"
    assert "there is no thread nothing" in run("threads", "show", "nothing", code=1).stderr


def test_the_words_in_a_pictures_part_are_shown(store: Repository) -> None:
    picture = {"type": "image", "text": {"value": "What is this?", "annotations": ["threads/pic/files/a.png"]}}
    message = Message(id="m", thread_id="pic", created_ms=1, content=(picture,))
    store.threads.create(Thread(id="pic", created_ms=1, updated_ms=1), [message])
    head, words = run("threads", "show", "pic").stdout.splitlines()[-2:]
    assert head.endswith("[image]")
    assert words == "What is this?"
    assert [item["id"] for item in json.loads(run("threads", "search", "what", "--json").stdout)] == ["pic"]


def test_conversations_are_the_threads_by_their_other_names(store: Repository) -> None:
    def line(number: int, text: str, role: str = "assistant", **extra: Any) -> Message:
        part = {"type": "text", "text": {"value": text, "annotations": []}}
        return Message(
            id=f"msg_{number}",
            thread_id="thread_sea",
            created_ms=1,
            role=role,
            content=(part,) if text else (),
            extra=extra,
        )

    call = {"id": "c1", "type": "function", "function": {"name": "look\x1b[31m", "arguments": '{"at": "sea"}'}}
    lines = (
        line(1, "How is it?", "user"),
        line(2, "", reasoning_content="Hm", tool_calls=[call]),
        line(3, "blue", "tool", tool_call_id="c1"),
        line(4, "It is blue."),
    )
    metadata = {"topic": "sea"}
    store.threads.create(
        Thread(id="thread_sea", created_ms=1_600_000_000_000, updated_ms=1, title="Sea", metadata=metadata), lines
    )
    head, *rest = run("conversations", "list").stdout.splitlines()
    assert head.split()[0] == "CONVERSATION"
    assert [row.split()[0] for row in rest] == ["new", "old", "conv_sea"]
    listed = json.loads(run("conversations", "list", "--json", "--limit", "3").stdout)
    about = {"id": "conv_sea", "object": "conversation", "created_at": 1_600_000_000, "metadata": metadata}
    assert listed[-1] == about
    for name in ("conv_sea", "thread_sea"):
        shown = run("conversations", "show", name).stdout
        assert shown.splitlines()[:2] == ["Sea", "conv_sea  2020-09-13 12:26"]
        assert "\x1b" not in shown
        for text in (
            "rs_2\n[thinks] Hm",
            "[calls look",
            '({"at": "sea"})]',
            "fco_3\n[c1 gave back] blue",
            "msg_4\nIt is blue.",
        ):
            assert text in shown
        assert "[c1 gave back] blue" in run("threads", "show", name).stdout
    items = json.loads(run("conversations", "show", "conv_sea", "--json").stdout)
    assert {name: items[name] for name in about} == about
    assert items["items"][2:] == [
        {
            "id": "fc_2_0",
            "type": "function_call",
            "role": "assistant",
            "call_id": "c1",
            "name": "look\x1b[31m",
            "arguments": '{"at": "sea"}',
        },
        {"id": "fco_3", "type": "function_call_output", "role": "tool", "text": "blue", "call_id": "c1"},
        {"id": "msg_4", "type": "message", "role": "assistant", "text": "It is blue."},
    ]
    assert "there is no thread" in run("conversations", "show", "conv_no", code=1).stderr
    assert run("threads", "delete", "conv_sea", "--yes").stdout == "thread_sea is deleted.\n"
    assert store.threads.count() == 2


def test_delete_asks(store: Repository) -> None:
    run("threads", "delete", "old", stdin="n\n", code=1)
    assert store.threads.count() == 2
    assert run("threads", "delete", "old", "--yes").stdout == "old is deleted.\n"
    assert titles(store) == ["Bread \x1b[31m\nand butter"]


def test_a_conversation_through_a_pipe(store: Repository) -> None:
    document = run("threads", "export", "old").stdout_bytes
    out = json.loads(run("threads", "import", "-", "--json", stdin=document).stdout)
    assert titles(store).count("Cheese") == 2
    assert store.threads.get(out[0]["threads"][0]).title == "Cheese"


def test_an_archive_and_a_folder(store: Repository, tmp_path: Path) -> None:
    archive, folder = tmp_path / "all.zip", tmp_path / "jan"
    run("threads", "export", "--all", "-o", str(archive))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.zip", "data"]
    assert "threads/old/thread.json" in zipfile.ZipFile(archive).namelist()
    assert "2 conversations written" in run("threads", "export", "--to", str(folder)).stdout
    before = titles(store)
    for source in (archive, folder):
        run("threads", "delete", "old", "new", "--yes")
        assert "2 conversations, 0 assistants, 0 files imported." in run("threads", "import", str(source)).stdout
        assert titles(store) == before
    again = run("threads", "import", str(archive))
    assert "0 conversations" in again.stdout
    assert "it is here already" in again.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("export",),
        ("export", "old", "new"),
        ("export", "old", "--all"),
        ("export", "--to", "x", "-o", "y"),
        ("import",),
    ],
    ids=" ".join,
)
def test_unclear_requests_are_refused(store: Repository, args: tuple[str, ...]) -> None:
    run("threads", *args, code=2)


def test_what_cannot_be_imported(store: Repository, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("nonsense")
    assert "no exported conversation" in run("threads", "import", str(tmp_path / "x"), code=1).stderr
    assert "No such file" in run("threads", "import", str(tmp_path / "y"), code=1).stderr
    (tmp_path / "x").write_text("{}")
    assert "object must be 'thread.export'" in run("threads", "import", str(tmp_path / "x"), code=1).stderr


def test_a_failed_export_leaves_no_file(store: Repository, tmp_path: Path) -> None:
    run("threads", "export", "nothing", "-o", str(tmp_path / "x.json"), code=1)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_assistants(store: Repository) -> None:
    made = json.loads(run("assistants", "create", "ada", "--name", "Ada", "--temperature", "0", "--json").stdout)
    assert (made["id"], made["name"], made["temperature"]) == ("ada", "Ada", 0)
    run("assistants", "set", "ada", "--instructions", "Be brief.")
    assert store.assistants.get("ada").instructions == "Be brief."
    assert "Be brief." in run("assistants", "show", "ada").stdout
    assert {item["id"] for item in json.loads(run("assistants", "list", "--json").stdout)} == {"jan", "ada"}
    run("assistants", "set", "ada", code=2)
    run("assistants", "create", "ada", code=1)
    run("assistants", "delete", "jan", "--yes", code=1)
    run("assistants", "delete", "ada", "--yes")
    assert "jan" in run("assistants", "list").stdout


def test_the_doctor_names_what_nobody_can_mean_in_a_model(store: Repository, tmp_path: Path) -> None:
    file = tmp_path / "data/models/tiny/model.json"
    file.parent.mkdir(parents=True)
    tables = {"parameters": {"temperature": "warm", "max_tokens": "3"}, "settings": {"ctx_len": "x", "vulkan": True}}
    file.write_text(json.dumps(tables))
    found = json.loads(run("doctor", "--json", code=1).stdout)
    assert {item["path"] for item in found} == {"models/tiny/model.json"}
    assert [item["problem"].partition(":")[0] for item in found] == [
        'parameters.temperature is "warm"',
        "settings.ctx_len is 'x'",
    ]


def test_doctor(store: Repository, tmp_path: Path) -> None:
    assert "All is well" in run("doctor").stdout
    (tmp_path / "data/threads/old/thread.json").write_text("{")
    (tmp_path / "data/models/tiny").mkdir(parents=True)
    (tmp_path / "data/models/tiny/model.json").write_text("{")
    result = run("doctor", code=1)
    assert "threads/old/thread.json" in result.stdout
    assert "2 problems; `janflask doctor --fix` can repair 1." in result.stdout
    assert "2 problems, 1 repaired; 1 to be looked at by hand." in run("doctor", "--fix", code=1).stdout
    (tmp_path / "data/models/tiny/model.json").unlink()
    assert json.loads(run("doctor", "--json").stdout) == []
    assert store.threads.get("old").title == "about old"
