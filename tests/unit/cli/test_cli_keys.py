"""``janflask keys``: made, shown once, listed, revoked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from janflask.access.key_file import KeyFile
from janflask.access.keys import Keyring, Limits
from janflask.access.scopes import USUAL, Scope
from janflask.cli.commands import cli


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyFile:
    monkeypatch.setenv("JANFLASK_DATA_DIR", str(tmp_path / "data"))
    return KeyFile(tmp_path / "data" / "secrets")


def run(*args: str, stdin: str | None = None, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["keys", *args], input=stdin)
    assert result.exit_code == code, result.output
    return result


def test_a_key_is_shown_once_and_alone_on_the_output(file: KeyFile) -> None:
    made = run("add", " Laptop ")
    text = made.stdout.strip()
    key = file.current().holder(text)
    assert key is not None
    assert (key.name, key.scopes, key.limits) == ("Laptop", USUAL, Limits())
    assert "From now on every request needs a key" in made.stderr
    assert "From now on" not in run("add", "Desk").stderr
    listed = run("list").stdout
    assert key.id in listed
    assert text not in listed
    assert text not in run("list", "--json").stdout


def test_scopes_and_limits(file: KeyFile) -> None:
    options = ["--scope", "admin", "--scope", "inference", "--requests-per-minute", "60", "--tokens-per-minute", "9000"]
    made = json.loads(run("add", "Boss", *options, "--streams", "2", "--json").stdout)
    key = file.current().holder(made.pop("key"))
    assert key is not None
    assert (key.scopes, key.limits) == (frozenset({Scope.ADMIN, Scope.INFERENCE}), Limits(60, 9000, 2))
    assert json.loads(run("list", "--json").stdout) == [made]
    assert made["scopes"] == ["inference", "admin"]
    assert "60 requests/min, 9000 tokens/min, 2 streams" in run("list").stdout


@pytest.mark.parametrize(
    "args", [["add"], ["add", " "], ["add", "x" * 101], ["add", "a", "--scope", "root"], ["revoke"]]
)
def test_wrong_usage_changes_nothing(file: KeyFile, args: list[str]) -> None:
    run(*args, code=2)
    run("add", "a", "--streams", "0", code=2)
    assert not file.path.exists()


def test_revoking_by_id_or_as_it_reads(file: KeyFile) -> None:
    first, second, third = (run("add", name).stdout.strip() for name in "abc")
    run("revoke", first[3:15], second)
    keyring = file.current()
    assert [keyring.holder(text) is not None for text in (first, second, third)] == [False, False, True]
    assert "there is no key" in run("revoke", third, first, code=1).stderr
    assert file.current().holder(third) is not None, "all of them or none"
    assert "nobody gets in" in run("revoke", third).stdout
    assert file.current() == Keyring(True, {})
    assert "nobody gets in" in run("list").stdout


def test_off_asks_and_opens(file: KeyFile) -> None:
    run("add", "a")
    run("off", stdin="n\n", code=1)
    assert file.current().required
    run("off", stdin="y\n")
    assert file.current() == Keyring()
    assert "this machine" in run("list").stdout
    run("add", "b")
    assert file.current().required


def test_a_file_that_is_wrong_is_told_and_left(file: KeyFile) -> None:
    run("add", "a")
    file.path.write_text("{")
    for args in (["list"], ["add", "b"], ["revoke", "x"], ["off", "--yes"]):
        assert str(file.path) in run(*args, code=1).stderr
    assert file.path.read_text() == "{"
    found = CliRunner().invoke(cli, ["doctor"])
    assert found.exit_code == 1
    assert "secrets/keys.json" in found.output
