"""gunicorn with conf/gunicorn.conf.py and a certificate: who gets in, who is told what, and who holds nothing up."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anthropic
import httpx
import openai
import psutil
import pytest
from cryptography import x509

from tests.fakes.certificates import Files, make
from tests.integration.gunicorn_world import GUNICORN, ROOT, environment, folder_with_model, running
from tests.integration.waiting import LIMIT, free_port, wait_for

TINY = "tests.fakes.tiny_app:app"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass
class Server:
    """A server that speaks HTTPS."""

    port: int
    certificate: Path
    log: Path
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def get(self, path: str = "/") -> httpx.Response:
        trusted = ssl.create_default_context(cafile=self.certificate)
        return httpx.get(self.url + path, verify=trusted, timeout=LIMIT)

    def answers(self) -> bool:
        try:
            return self.get().status_code < 500
        except (httpx.TransportError, OSError):
            return False

    def plain(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT)

    def secured(self) -> ssl.SSLSocket:
        """A connection whose handshake is done; ends that are none are errors."""
        context = ssl.create_default_context(cafile=self.certificate)
        return context.wrap_socket(self.plain(), server_hostname="localhost", suppress_ragged_eofs=False)

    def shown(self) -> int:
        """The serial number of the certificate that a new connection gets."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(self.plain()) as connection:
            der = connection.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number

    def workers(self) -> set[int]:
        assert self.process is not None
        found = set()
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
                if not any("janflask." in word for word in child.cmdline()):
                    found.add(child.pid)
        return found


@contextmanager
def serving(folder: Path, files: Files | None, app: str = TINY, **settings: str) -> Iterator[Server]:
    """``files``: of the certificate; None: the server makes its own."""
    server = Server(
        free_port(), folder / "data" / "self-signed.crt" if files is None else files.certificate, folder / "log"
    )
    if files is None:
        tls = {"JANFLASK_TLS_SELF_SIGNED": "1"}
    else:
        tls = {"JANFLASK_TLS_CERT": str(files.certificate), "JANFLASK_TLS_KEY": str(files.key)}
    env = environment(folder, JANFLASK_PORT=str(server.port), **tls, **settings)
    with (
        server.log.open("w") as output,
        (folder / "said").open("w") as said,
        running(app, env, server.answers, said, output) as server.process,
    ):
        yield server


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_with_model("progress") as folder:
        yield folder


@pytest.fixture
def files(folder: Path) -> Files:
    return make(folder)


def read_all(connection: socket.socket) -> bytes:
    got = b""
    while piece := connection.recv(1 << 16):
        got += piece
    return got


def refused(folder: Path, *arguments: str, **settings: str) -> str:
    """What a server that does not start says."""
    env = environment(folder, JANFLASK_PORT=str(free_port()), **settings)
    command = [*GUNICORN, *arguments, TINY]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_server_with_its_own_certificate(folder: Path) -> None:
    with serving(folder, None) as server:
        assert server.get().status_code == 200
        assert server.get().http_version == "HTTP/1.1"
        with pytest.raises(httpx.ConnectError, match=r"self.signed"):
            httpx.get(server.url, timeout=LIMIT)
        with server.secured() as connection:
            assert connection.version() == "TLSv1.3"
        shown = server.shown()
        wait_for(lambda: "Documentation" in (folder / "said").read_text())
        said = (folder / "said").read_text()
        der = ssl.PEM_cert_to_DER_cert(server.certificate.read_text())
        assert hashlib.sha256(der).digest().hex(":").upper() in said
        assert f"curl --cacert {server.certificate}" in said
        assert f"https://127.0.0.1:{server.port}/docs" in said
    with serving(folder, None) as server:
        assert server.shown() == shown, "whoever trusts it need not do so again"


def test_plain_http_is_told_and_nothing_of_it_is_read(folder: Path, files: Files) -> None:
    with serving(folder, files) as server:
        for request in (GET, b"POST / HTTP/1.1\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000, b"HEAD"):
            with server.plain() as connection:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                head, _, body = read_all(connection).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400 ")
            error = json.loads(body)["error"]
            assert error["code"] == "https_required"
            assert "https://" in error["message"]
        for nonsense in (b"\x80\x2e\x01", b"\x00" * 100, b"\x16\x03\x01\x00\x05hello", b""):
            got = b""
            with server.plain() as connection, suppress(OSError):  # which is closed at once
                connection.sendall(nonsense)
                connection.shutdown(socket.SHUT_WR)
                got = read_all(connection)
            assert b"HTTP" not in got
        assert server.get().status_code == 200
        assert "Traceback" not in server.log.read_text()


def test_old_versions_are_not_spoken(folder: Path, files: Files) -> None:
    with serving(folder, files, JANFLASK_TLS_MIN_VERSION="1.3") as server:
        context = ssl.create_default_context(cafile=server.certificate)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            context.wrap_socket(server.plain(), server_hostname="localhost")
        with server.secured() as connection:
            assert connection.version() == "TLSv1.3"


def test_those_who_do_not_shake_hands_hold_nobody_up(folder: Path, files: Files) -> None:
    """More of them than there are threads, in every state that they can stop in."""
    with serving(folder, files, JANFLASK_THREADS="2") as server:
        silent = [server.plain() for _ in range(8)]
        half = [server.plain() for _ in range(8)]
        for connection in half:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        secured = [server.secured() for _ in range(8)]
        begun = [server.secured() for _ in range(8)]
        for connection in begun:
            connection.sendall(GET[:20])
        for _ in range(5):
            assert server.get().status_code == 200, "gunicorn alone would wait for the others for ever"
        for connection in secured:
            connection.sendall(GET)
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        for connection in begun:
            connection.sendall(GET[20:])
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        for connection in (*silent, *half):
            connection.settimeout(LIMIT)
            assert connection.recv(100) == b"", "their time is over"
        for connection in (*silent, *half, *secured, *begun):
            connection.close()


def test_requests_that_came_in_one_record_are_all_answered(folder: Path, files: Files) -> None:
    """What is decrypted is not in the socket any more, so nothing tells that it is there.

    The first ends where gunicorn's read does, so that nothing of the second lies in its own buffer.
    """
    piece = 8192 - len(GET) - len("X-Long: \r\n") - len("X-More: \r\n")
    pads = (b"x" * (piece // 2), b"x" * (piece - piece // 2))
    long = GET.replace(b"Host", b"X-Long: %s\r\nX-More: %s\r\nHost" % pads)
    assert len(long) == 8192
    with serving(folder, files) as server, server.secured() as connection:
        connection.sendall(long + GET)
        got = b""
        while got.count(b"runtime_dir") < 2:
            got += connection.recv(1 << 16)
        connection.sendall(GET.replace(b"Host", b"Connection: close\r\nHost"))
        assert b"runtime_dir" in read_all(connection), "and the end is one that TLS knows"


def test_a_new_pair_is_shown_without_a_restart(folder: Path, files: Files) -> None:
    with serving(folder, files, JANFLASK_WORKERS="2") as server:
        workers, first = server.workers(), files.serial
        assert server.shown() == first
        with server.secured() as old:
            second = make(folder).serial
            wait_for(lambda: server.shown() == second)
            assert {server.shown() for _ in range(20)} <= {second, first}
            old.sendall(GET)
            assert old.recv(100).startswith(b"HTTP/1.1 200"), "a connection is none of a certificate's business"
        assert server.workers() == workers
        wait_for(lambda: "New certificate from" in server.log.read_text())


def test_a_bad_new_pair_changes_nothing_neither_for_new_workers(folder: Path, files: Files) -> None:
    with serving(folder, files) as server:
        assert server.process is not None
        second = make(folder).serial
        wait_for(lambda: "New certificate from" in server.log.read_text())
        files.key.write_bytes(make(folder, "other").key.read_bytes())
        wait_for(lambda: "The old certificate stays" in server.log.read_text())
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: server.workers() not in ({worker}, set()))
        wait_for(server_shows(server, second))
        (worker,) = server.workers()
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: worker not in server.workers())
        assert server.shown() == second
        assert "is not that of the certificate in" in server.log.read_text()
        third = make(folder).serial
        server.process.send_signal(signal.SIGHUP)
        wait_for(server_shows(server, third))


def server_shows(server: Server, serial: int) -> Callable[[], bool]:
    def shows() -> bool:
        try:
            return server.shown() == serial
        except OSError:  # a worker that is not there yet, or that leaves
            return False

    return shows


def test_sigterm_does_not_wait_for_those_who_say_nothing(folder: Path, files: Files) -> None:
    with serving(folder, files) as server:
        assert server.process is not None
        with server.plain(), server.plain() as half, server.secured() as silent, server.secured() as busy:
            half.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
            busy.sendall(GET.replace(b"/ ", b"/slow ", 1))
            time.sleep(0.3)  # until it is under way; if not, the test still holds
            server.process.terminate()
            assert b"HTTP/1.1 200" in busy.recv(100)
            assert silent.recv(100) == b""
            assert server.process.wait(LIMIT) == 0


@pytest.mark.parametrize("politely", [True, False], ids=["with a goodbye", "without"])
def test_a_stream_comes_as_it_is_made_and_ends_when_its_reader_leaves(folder: Path, politely: bool) -> None:
    body = b'{"model": "m", "prompt": "slow 60000", "stream": true}'
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with serving(folder, None, "wsgi:app", JANFLASK_DRAIN_TIMEOUT="600") as server:
        assert server.process is not None
        connection = server.secured()
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        got = b""
        while got.count(b"data: ") < 5:
            got += connection.recv(1 << 16)
        if politely:
            with suppress(ssl.SSLError):  # the server's next words come before its goodbye
                connection.unwrap()
        connection.close()
        server.process.terminate()
        assert server.process.wait(LIMIT) == 0, "there is nothing under way any more"


def test_the_sdks_need_no_more_than_the_certificates_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(folder, None, "wsgi:app") as server:
        url, anybody = server.url, {"api_key": "none", "max_retries": 0}
        with pytest.raises(openai.APIConnectionError):
            openai.OpenAI(base_url=f"{url}/v1", **anybody).models.list()
        monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
        stream = openai.OpenAI(base_url=f"{url}/v1", **anybody).completions.create(
            model="m", prompt="hello", stream=True
        )
        assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices) == "abc"
        assert [model.id for model in anthropic.Anthropic(base_url=url, **anybody).models.list()] == ["m"]


def test_a_second_master_takes_over_with_the_same_certificate(folder: Path) -> None:
    """SIGUSR2, as for an upgrade of gunicorn or Python, of what `janflask serve` started."""
    with serving(folder, None, "wsgi:app") as server:
        assert server.process is not None
        first, shown = psutil.Process(server.process.pid), server.shown()
        known = set(first.children())
        first.send_signal(signal.SIGUSR2)
        wait_for(lambda: bool(set(first.children()) - known))
        (second,) = set(first.children()) - known
        try:
            wait_for(lambda: len(second.children()) >= 3 and (folder / "said").read_text().count("Documentation") == 2)
            server.process.terminate()
            assert server.process.wait(LIMIT) == 0
            assert server.get("/livez").status_code == 200
            assert server.shown() == shown
        finally:
            second.terminate()
            second.wait(LIMIT)


def test_only_pages_by_https_are_the_servers_own(folder: Path) -> None:
    """A page by plain HTTP under the same name and port is another origin, and anybody on the way may have made it."""
    with serving(folder, None, "wsgi:app") as server:
        trusted = ssl.create_default_context(cafile=server.certificate)
        for origin, status in ((server.url, 200), (server.url.replace("https", "http"), 403)):
            headers = {"Origin": origin}
            response = httpx.post(f"{server.url}/v1/threads", json={}, headers=headers, verify=trusted, timeout=LIMIT)
            assert response.status_code == status


def test_http_2_is_not_offered(folder: Path, files: Files) -> None:
    with serving(folder, files, GUNICORN_CMD_ARGS="--http-protocols h2,h1") as server:
        context = ssl.create_default_context(cafile=server.certificate)
        context.set_alpn_protocols(["h2", "http/1.1"])
        with context.wrap_socket(server.plain(), server_hostname="localhost") as connection:
            assert connection.selected_alpn_protocol() == "http/1.1"
        assert "HTTP/2 is not spoken" in server.log.read_text()


def test_what_cannot_be_served_is_refused_at_the_start(folder: Path, files: Files) -> None:
    missing = str(folder / "missing")
    certificate, key = str(files.certificate), str(files.key)
    assert "cannot be read: No such file" in refused(folder, JANFLASK_TLS_CERT=missing)
    assert "holds no private key" in refused(folder, JANFLASK_TLS_CERT=certificate)
    other = str(make(folder, "other").key)
    assert "is not that of the certificate" in refused(folder, JANFLASK_TLS_CERT=certificate, JANFLASK_TLS_KEY=other)
    assert "JANFLASK_TLS_CERT is not" in refused(folder, JANFLASK_TLS_KEY=key)
    assert "set one of the two" in refused(folder, JANFLASK_TLS_CERT=certificate, JANFLASK_TLS_SELF_SIGNED="1")
    assert "gunicorn's settings" in refused(folder, "--ciphers", "none", JANFLASK_TLS_SELF_SIGNED="1")


def test_keys_are_asked_for_with_https_too(folder: Path) -> None:
    assert "there are no keys" in refused(folder, JANFLASK_TLS_SELF_SIGNED="1", JANFLASK_HOST="0.0.0.0")


def test_gunicorns_own_options_still_win(folder: Path, files: Files) -> None:
    """Among them those by which clients have to show a certificate, too."""
    port, client = free_port(), make(folder, "client")
    server = Server(port, files.certificate, folder / "log")
    options = f"--certfile {files.certificate} --keyfile {files.key} --ca-certs {client.certificate} --cert-reqs 2"
    env = environment(folder, JANFLASK_PORT=str(port), GUNICORN_CMD_ARGS=options)

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with running(TINY, env, listens):
        context = ssl.create_default_context(cafile=server.certificate)
        got = b""
        with suppress(OSError):  # how it is told depends on who is faster
            with context.wrap_socket(server.plain(), server_hostname="localhost") as connection:
                connection.sendall(GET)
                got = connection.recv(100)
        assert got == b""
        context.load_cert_chain(client.certificate, client.key)
        with context.wrap_socket(server.plain(), server_hostname="localhost") as connection:
            connection.sendall(GET)
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
