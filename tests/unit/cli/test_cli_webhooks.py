"""``janflask webhooks``: endpoints are added, listed, changed and removed; dead letters are seen and sent again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from janflask.cli.commands import cli
from janflask.deliveries import post
from janflask.deliveries.post import Outcome
from janflask.settings import Settings
from janflask.webhooks.endpoints import Endpoint, EndpointFile
from janflask.webhooks.events import of_thread
from janflask.webhooks.outbox import Outbox
from janflask.webhooks.queue import Queue
from janflask.webhooks.spool import Spool

URL = "http://127.0.0.1:9/hook?token=1"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("JANFLASK_DATA_DIR", str(tmp_path / "data"))
    return Settings(data_dir=tmp_path / "data")


def run(*args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["webhooks", *args])
    assert result.exit_code == code, result.output
    return result


def added(settings: Settings, *options: str) -> Endpoint:
    made = json.loads(run("add", URL, "--allow-private", "--json", *options).stdout)
    return EndpointFile(settings.secrets_dir).current().known[made["id"]]


def test_a_secret_is_shown_once_and_alone_on_the_output(settings: Settings) -> None:
    made = run("add", URL, "--allow-private", "--event", "thread.*", "--event", "response.completed")
    secret = made.stdout.strip()
    (endpoint,) = EndpointFile(settings.secrets_dir).current().known.values()
    assert [each.text for each in endpoint.secrets] == [secret]
    assert (endpoint.url, endpoint.events, endpoint.private) == (URL, ["thread.*", "response.completed"], True)
    assert "It is not shown again" in made.stderr
    assert endpoint.id in run("list").stdout
    assert secret not in run("list").stdout + run("list", "--json").stdout


@pytest.mark.parametrize(
    ("args", "code", "why"),
    [
        (["add", "http://example.com/"], 1, "--allow-private"),
        (["add", "https://127.0.0.1/"], 1, "not a public address"),
        (["add", "https://[::ffff:10.0.0.1]/"], 1, "not a public address"),
        (["add", "https://169.254.169.254/latest"], 1, "not a public address"),
        (["add", "ftp://example.com/", "--allow-private"], 1, "only http and https"),
        (["add", "https://user:word@example.com/"], 1, "no user or password"),
        (["add", "https://exa mple.com/"], 1, "no blanks"),
        (["add", "https://example.com/" + "x" * 3000], 2, "2048 characters"),
        (["add", "https://example.com/", "--event", "thread"], 2, "no event 'thread'"),
        (["remove", "we_1"], 1, "no endpoint 'we_1'"),
        (["rotate", "we_1"], 1, "no endpoint 'we_1'"),
        (["test", "we_1"], 1, "no endpoint 'we_1'"),
        (["enable", "we_1"], 1, "no endpoint 'we_1'"),
        (["redeliver"], 2, "--all"),
        (["redeliver", "evt_1", "--all"], 2, "--all"),
    ],
)
def test_what_is_wrong_is_told_and_changes_nothing(settings: Settings, args: list[str], code: int, why: str) -> None:
    assert why in run(*args, code=code).output
    assert not settings.secrets_dir.exists() or EndpointFile(settings.secrets_dir).current().known == {}


def test_nothing_to_list(settings: Settings) -> None:
    assert "Nobody is told" in run("list").stdout
    assert "no dead letters" in run("dead").stdout
    assert run("list", "--json").stdout.strip() == run("dead", "--json").stdout.strip() == "[]"
    assert not settings.data_dir.exists()


def test_secrets_overlap(settings: Settings) -> None:
    endpoint = added(settings)
    first = endpoint.secrets[0].text
    second = run("rotate", endpoint.id).stdout.strip()
    after = EndpointFile(settings.secrets_dir).current().known[endpoint.id]
    assert [secret.text for secret in after.secrets] == [second, first]
    assert (after.secrets[0].until, after.secrets[1].until is None) == (None, False)
    third = json.loads(run("rotate", endpoint.id, "--overlap", "0", "--json").stdout)["secret"]
    assert [secret.text for secret in EndpointFile(settings.secrets_dir).current().known[endpoint.id].secrets] == [
        third
    ]


def test_a_test_tells_what_was_answered(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint, sent = added(settings), []

    def answered(outcome: Outcome) -> None:
        def send(endpoint: Endpoint, event_id: str, type: str, data: dict[str, Any], made_ms: int) -> Outcome:
            sent.append((type, data))
            return outcome

        monkeypatch.setattr(post, "post", send)

    answered(Outcome(204, ""))
    assert "answered 204: it works" in run("test", endpoint.id).stdout
    answered(Outcome(500, "it answered 500"))
    assert "it answered 500" in run("test", endpoint.id, code=1).stderr
    assert sent == [("webhook.test", {"id": endpoint.id})] * 2


def test_dead_letters_are_listed_and_sent_again(settings: Settings) -> None:
    endpoint = added(settings)
    Outbox(settings).tell(of_thread("created", "thread_1"))
    queue = Queue(Spool(settings.webhooks_dir, durable=False, timeout=5))
    queue.hand_out([endpoint])
    (delivery,) = queue.due(endpoint.id, 1)
    queue.bury(delivery, "it answered 500")
    assert "it answered 500" in run("dead").stdout
    (letter,) = json.loads(run("dead", "--json", "--endpoint", endpoint.id).stdout)
    assert (letter["id"], letter["data"], letter["tries"]) == (delivery.id, {"id": "thread_1"}, 1)
    assert json.loads(run("dead", "--json", "--endpoint", "we_other").stdout) == []
    assert json.loads(run("list", "--json").stdout)[0]["dead"] == 1
    run("redeliver", "evt_other", code=1)
    assert "1 delivery due again" in run("redeliver", delivery.id).stdout
    assert [again.id for again in queue.due(endpoint.id, 9)] == [delivery.id]
    run("remove", endpoint.id)
    assert queue.due(endpoint.id, 9) == []


def test_one_that_is_gone_is_enabled_again(settings: Settings) -> None:
    endpoint = added(settings)
    file = EndpointFile(settings.secrets_dir)
    file.change(lambda known: known.with_one(Endpoint(**{**_fields(endpoint), "disabled": "it answered 410"})))
    assert "disabled" in run("list").stdout
    assert "is disabled" in run("redeliver", "--all", code=1).stderr
    run("enable", endpoint.id)
    assert file.current().known[endpoint.id] == endpoint


def _fields(endpoint: Endpoint) -> dict[str, Any]:
    return {name: getattr(endpoint, name) for name in endpoint.__struct_fields__}


def test_the_doctor_looks_at_endpoints_and_spool(settings: Settings) -> None:
    added(settings)
    Outbox(settings).tell(of_thread("created", "t"))
    spool = settings.webhooks_dir / "spool.sqlite"
    assert CliRunner().invoke(cli, ["doctor"]).exit_code == 0
    (settings.secrets_dir / "webhooks.json").write_text("{")
    for beside in settings.webhooks_dir.glob("spool.sqlite-*"):
        beside.unlink()
    spool.write_bytes(b"SQLite" * 1000)
    found = CliRunner().invoke(cli, ["doctor", "--json"])
    assert found.exit_code == 1
    assert [each["path"] for each in json.loads(found.stdout)] == ["secrets/webhooks.json", "webhooks/spool.sqlite"]


def test_a_spool_that_cannot_be_opened_does_not_end_the_doctor(settings: Settings) -> None:
    (settings.webhooks_dir / "spool.sqlite").mkdir(parents=True)
    found = CliRunner().invoke(cli, ["doctor", "--json"])
    assert found.exit_code == 1
    assert [each["path"] for each in json.loads(found.stdout)] == ["webhooks/spool.sqlite"]
