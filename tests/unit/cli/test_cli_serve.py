"""``janflask serve`` up to the moment when it becomes gunicorn, and the words it greets with."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import janflask
from janflask.access.key_file import KeyFile
from janflask.access.keys import Keyring
from janflask.cli.banner import welcome
from janflask.cli.serve import gunicorn_command, serve
from janflask.settings import Settings
from janflask.tls.pair import read_facts
from janflask.tls.self_signed import keep
from janflask.tls.trust import public_path


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str], dict[str, str]]]:
    calls: list[tuple[str, list[str], dict[str, str]]] = []

    def execve(path: str, args: list[str], env: dict[str, str]) -> None:
        calls.append((path, args, env))

    monkeypatch.setattr(os, "execve", execve)
    return calls


def test_options_win_over_variables_and_the_rest_is_passed_on(
    executed: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JANFLASK_PORT", "1")
    monkeypatch.setenv("JANFLASK_QUEUE_LIMIT", "7")
    monkeypatch.chdir(tmp_path)
    lay_out(monkeypatch, tmp_path, "wsgi.py", "conf/gunicorn.conf.py")
    result = CliRunner().invoke(serve, ["--port", "2", "--data-dir", "mine", "--ctx-len", "auto"])
    assert result.exit_code == 0
    path, args, env = executed[0]
    assert (path, args[:3]) == (sys.executable, [sys.executable, "-m", "gunicorn"])
    settings = Settings.from_env(env)
    assert (settings.port, settings.queue_limit, settings.data_dir) == (2, 7, tmp_path / "mine")
    assert env["PATH"] == os.environ["PATH"]


def test_https_is_an_option(executed: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(monkeypatch, tmp_path, "wsgi.py", "conf/gunicorn.conf.py")
    assert CliRunner().invoke(serve, ["--tls-self-signed"]).exit_code == 0
    assert Settings.from_env(executed.pop()[2]).tls_self_signed
    assert CliRunner().invoke(serve, ["--tls-cert", "my.crt", "--tls-key", "my.key"]).exit_code == 0
    settings = Settings.from_env(executed.pop()[2])
    assert (settings.tls_cert, settings.tls_key) == (tmp_path / "my.crt", tmp_path / "my.key")
    for together, said in [
        (["--tls-self-signed", "--tls-cert", "my.crt"], "set one of the two"),
        (["--tls-key", "my.key"], "name the certificate, too"),
    ]:
        result = CliRunner().invoke(serve, together)
        assert (result.exit_code, said in result.output.replace("\n", " ")) == (2, True)
    assert executed == []


@pytest.mark.parametrize("args", [["--port", "http"], ["--workers", "0"], ["--log-level", "loud"], ["--nonsense", "1"]])
def test_a_bad_option_is_wrong_usage_and_starts_nothing(executed: list[Any], args: list[str]) -> None:
    assert CliRunner().invoke(serve, args).exit_code == 2
    assert executed == []


def test_a_checkout_serves_its_own_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lay_out(monkeypatch, tmp_path, "wsgi.py", "conf/gunicorn.conf.py", "janflask/conf/gunicorn.conf.py")
    conf = tmp_path / "conf" / "gunicorn.conf.py"
    assert gunicorn_command()[3:] == ["--config", str(conf), "--pythonpath", str(tmp_path), "wsgi:app"]


def test_an_installed_package_serves_from_inside_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lay_out(monkeypatch, tmp_path, "janflask/conf/gunicorn.conf.py")
    conf = tmp_path / "janflask" / "conf" / "gunicorn.conf.py"
    assert gunicorn_command()[3:] == ["--config", str(conf), "janflask:create_app()"]


def test_an_incomplete_installation_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lay_out(monkeypatch, tmp_path)
    result = CliRunner().invoke(serve)
    assert (result.exit_code, "Install it again" in result.output) == (1, True)


def lay_out(monkeypatch: pytest.MonkeyPatch, folder: Path, *files: str) -> None:
    """Makes the package's home look like ``folder`` with these files."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    monkeypatch.setattr(janflask, "__file__", str(folder / "janflask" / "__init__.py"))


def test_the_greeting_has_a_request_to_paste(tmp_path: Path) -> None:
    model = tmp_path / "models" / "my.model-1"
    model.mkdir(parents=True)
    (model / "a.gguf").write_bytes(b"GGUF" + bytes(996))
    text = welcome(Settings(data_dir=tmp_path, host="0.0.0.0", port=8080))
    line = next(line for line in text.splitlines() if "curl" in line)
    words = shlex.split(line[line.index("curl") :])
    assert words[2] == "http://127.0.0.1:8080/v1/chat/completions"
    assert json.loads(words[-1])["model"] == "my.model-1"
    assert "janflask chat my.model-1" in text
    assert "http://127.0.0.1:8080/docs" in text
    assert "In a browser   http://127.0.0.1:8080/\n" in text


def test_the_greeting_has_a_place_for_the_key_where_one_is_asked_for(tmp_path: Path) -> None:
    model = tmp_path / "models" / "tiny"
    model.mkdir(parents=True)
    (model / "a.gguf").write_bytes(b"GGUF" + bytes(996))
    settings = Settings(data_dir=tmp_path)
    assert "Authorization" not in welcome(settings)
    KeyFile(settings.secrets_dir).change(lambda _: Keyring(required=True))
    line = next(line for line in welcome(settings).splitlines() if "curl" in line)
    assert "Authorization: Bearer $JANFLASK_API_KEY" in shlex.split(line)


def test_the_greeting_says_how_the_servers_own_certificate_is_trusted(tmp_path: Path) -> None:
    model = tmp_path / "models" / "tiny"
    model.mkdir(parents=True)
    (model / "a.gguf").write_bytes(b"GGUF" + bytes(996))
    settings = Settings(data_dir=tmp_path, tls_self_signed=True)
    keep(settings)
    text, certificate = welcome(settings), str(public_path(settings))
    words = shlex.split(next(line for line in text.splitlines() if "curl -N" in line))
    assert words[words.index("--cacert") + 1] == certificate
    assert "https://127.0.0.1:1337/v1/chat/completions" in words
    assert read_facts(public_path(settings)).sha256 in text
    assert f"SSL_CERT_FILE={certificate}" in text


def test_without_a_model_the_greeting_says_where_one_goes(tmp_path: Path) -> None:
    text = welcome(Settings(data_dir=tmp_path), "http://127.0.0.1:4321")
    assert str(tmp_path / "models") in text
    assert "http://127.0.0.1:4321/docs" in text
    assert "In a browser   http://127.0.0.1:4321/\n" in text
    assert "curl" not in text
