"""The commands' way to a server that speaks HTTPS: whom they take for the right one, and what they say of others."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from janflask.cli.client import Client, ServerError, ServerUnreachableError
from janflask.cli.doctor import doctor
from janflask.cli.options import client_for
from janflask.connections.handshakes import plain_answer
from janflask.tls.pair import read_pair
from tests.fakes.certificates import NOW, Files, make
from tests.integration.waiting import LIMIT, free_port

KEY = "jf_test_key"
DAY = timedelta(days=1)


class _Models(BaseHTTPRequestHandler):
    """Answers each GET like an empty server, and remembers what it was sent."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self.server.keys.append(self.headers["Authorization"])
        body = json.dumps({"object": "list", "data": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Models)
        self.keys: list[str | None] = []
        self._context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own."""
        request.settimeout(LIMIT)
        if self._context is not None:
            try:
                request = self._context.wrap_socket(request, server_side=True)
            except OSError:  # the client says no
                return
        super().finish_request(request, client_address)
        request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextmanager
def serving(files: Files | None) -> Iterator[_Server]:
    with _Server(None if files is None else read_pair(files.certificate, files.key).context) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JANFLASK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JANFLASK_API_KEY", KEY)


def problem(client: Client) -> str:
    with pytest.raises(click.ClickException) as caught:
        client.models()
    assert not isinstance(caught.value, ServerUnreachableError), "there is a server, and none must be started"
    return caught.value.message


def test_the_server_of_these_settings_is_known_by_its_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its names are: it is called by an address here, and its certificate is for others."""
    files = make(tmp_path, names=("llm.example",), end=NOW - DAY)
    monkeypatch.setenv("JANFLASK_TLS_CERT", str(files.certificate))
    monkeypatch.setenv("JANFLASK_TLS_KEY", str(files.key))
    with serving(files) as server:
        monkeypatch.setenv("JANFLASK_PORT", str(server.server_port))
        assert client_for(None).models() == []
        assert server.keys == [f"Bearer {KEY}"]


def test_another_one_gets_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JANFLASK_TLS_CERT", str(make(tmp_path).certificate))
    with serving(make(tmp_path, "another")) as server:
        monkeypatch.setenv("JANFLASK_PORT", str(server.server_port))
        assert "shows another certificate than the one in" in problem(client_for(None))
        assert server.keys == []


def test_a_certificate_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(make(tmp_path)) as server:
        monkeypatch.setenv("JANFLASK_PORT", str(server.server_port))
        monkeypatch.setenv("JANFLASK_TLS_CERT", str(tmp_path / "missing"))
        assert "missing cannot be read: No such file" in problem(client_for(None))
        (tmp_path / "missing").write_text("nothing")
        assert "holds no certificate in PEM" in problem(client_for(None))
        monkeypatch.delenv("JANFLASK_TLS_CERT")
        monkeypatch.setenv("JANFLASK_TLS_SELF_SIGNED", "1")
        assert "self-signed.crt cannot be read" in problem(client_for(None))
        assert server.keys == []


def test_the_certificate_that_the_server_made_is_trusted_by_who_has_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "self-signed.crt").write_bytes(files.certificate.read_bytes())
    with serving(files) as server:
        for host in ("localhost", "127.0.0.1"):
            assert client_for(f"https://{host}:{server.server_port}/v1").models() == []
        monkeypatch.setenv("JANFLASK_PORT", str(server.server_port))
        monkeypatch.setenv("JANFLASK_TLS_SELF_SIGNED", "1")
        assert client_for(None).models() == []


def test_with_a_url_its_name_and_its_time_must_be_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for change, said in [
        ({}, None),
        ({"end": NOW - DAY, "begin": NOW - 2 * DAY}, "has expired"),
        ({"begin": NOW + DAY}, "is not valid yet: is this machine's clock right?"),
        ({"names": ("llm.example",)}, "is not for that name"),
    ]:
        files = make(tmp_path, **change)  # type: ignore[arg-type]
        monkeypatch.setenv("JANFLASK_CA_FILE", str(files.certificate))
        with serving(files) as server:
            client = client_for(f"https://localhost:{server.server_port}")
            if said is None:
                assert client.models() == []
            else:
                assert said in problem(client)
                assert server.keys == []


def test_one_that_nobody_has_signed_is_told_with_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(make(tmp_path)) as server:
        said = problem(client_for(f"https://localhost:{server.server_port}"))
        assert "whom this machine trusts" in said
        assert "JANFLASK_CA_FILE" in said
        monkeypatch.setenv("JANFLASK_CA_FILE", str(tmp_path / "missing"))
        assert "has no certificates to trust" in problem(client_for(f"https://localhost:{server.server_port}"))
        assert server.keys == []


def test_one_that_speaks_plain_http_is_told_so() -> None:
    with serving(None) as server:
        said = problem(client_for(f"https://localhost:{server.server_port}"))
        assert said.endswith("speaks no HTTPS: is it http:// ?")
        assert server.keys == []


def test_what_the_server_says_to_plain_http_is_told_with_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: _Models) -> None:
        request.wfile.write(plain_answer())
        request.close_connection = True

    monkeypatch.setattr(_Models, "do_GET", answer)
    with serving(None) as server:
        with pytest.raises(ServerError) as caught:
            client_for(f"http://localhost:{server.server_port}").models()
    assert caught.value.code == "https_required"
    assert "JANFLASK_TLS_SELF_SIGNED=1" in caught.value.message


def test_nobody_there_is_still_nobody_there() -> None:
    with pytest.raises(ServerUnreachableError):
        client_for(f"https://localhost:{free_port()}").models()


def test_the_doctor_looks_at_the_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = make(tmp_path)
    monkeypatch.setenv("JANFLASK_TLS_CERT", str(files.certificate))

    def found() -> str:
        return CliRunner().invoke(doctor).output.replace("\n", "")

    monkeypatch.setenv("COLUMNS", "1000")
    assert "holds no private key" in found()
    monkeypatch.setenv("JANFLASK_TLS_KEY", str(files.key))
    assert "All is well" in found()
    make(tmp_path, end=NOW - DAY, begin=NOW - 2 * DAY)
    assert "the certificate has expired on" in found()
