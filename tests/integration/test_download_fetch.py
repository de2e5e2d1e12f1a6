"""Fetching one file from a real HTTP server: what is resumed, what is tried again, what is asked of whom."""

from __future__ import annotations

import email.utils
import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from janflask.downloads.fetch import Fetch, Limits, RemoteFile
from janflask.downloads.safety import Web, is_public, origin_of
from janflask.downloads.wire import Patience
from janflask.errors import DownloadCancelledError, SourceError, SourceUnavailableError, UnsafeSourceError
from tests.fakes.file_server import CERTIFICATE, FileServer, gguf, serving

BODY = gguf(2_000_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
QUICK = Limits(back_off=0.001, tries=3, longest_wait=5.0)
PATIENT = Patience(silence=5.0, head=5.0, window=5.0)
STRICT = Patience(silence=0.3, head=0.3, min_rate=100_000, window=0.3)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(BODY) as files:
        yield files


def fetch(
    files: FileServer,
    way: str,
    folder: Path,
    sha256: str | None = None,
    *,
    web: Web | None = None,
    patience: Patience = PATIENT,
    seen: list[tuple[str, int, int | None]] | None = None,
) -> Fetch:
    web = web or Web(allow_private=True, patience=patience)
    progress = (lambda *what: None) if seen is None else (lambda *what: seen.append(what))
    return Fetch(RemoteFile(files.url(way), "m.gguf", sha256=sha256), folder, web, QUICK, progress)


@pytest.mark.parametrize("way", ["whole", "stamped", "chunked", "closes", "norange", "novalidator", "wrongrange"])
def test_the_file_arrives_whole(server: FileServer, tmp_path: Path, way: str) -> None:
    download = fetch(server, way, tmp_path)
    assert download.run() == SHA256
    assert download.part.path.read_bytes() == BODY


@pytest.mark.parametrize(
    ("way", "asked"),
    [
        ("closes", [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]),
        ("stamped", [None, "bytes=300000-"]),
        ("norange", [None, "bytes=300000-"]),
        ("novalidator", [None, None]),  # nobody could tell whether the rest is of the same file
        ("wrongrange", [None, "bytes=300000-", None]),
        ("unsatisfied", [None, "bytes=300000-", None]),
    ],
)
def test_what_is_asked_for_after_a_connection_broke(
    server: FileServer, tmp_path: Path, way: str, asked: list[str | None]
) -> None:
    assert fetch(server, way, tmp_path).run() == SHA256
    assert server.asked == asked


def test_with_a_known_hash_a_part_is_gone_on_with_that_has_no_validator(server: FileServer, tmp_path: Path) -> None:
    assert fetch(server, "novalidator", tmp_path, SHA256).run() == SHA256
    assert server.asked == [None, "bytes=300000-"]
    assert "If-Range" not in server.headers[1]


@pytest.mark.parametrize("way", ["changes", "slyly"])
def test_a_file_that_changes_between_two_tries_is_not_mixed(server: FileServer, tmp_path: Path, way: str) -> None:
    download = fetch(server, way, tmp_path)
    assert download.run() == hashlib.sha256(server.other).hexdigest()
    assert download.part.path.read_bytes() == server.other


def test_a_part_is_gone_on_with_by_a_later_run(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError):
        Fetch(
            RemoteFile(server.url("closes"), "m.gguf"),
            tmp_path,
            Web(allow_private=True),
            Limits(tries=1),
            lambda *what: None,
        ).run()
    seen: list[tuple[str, int, int | None]] = []
    assert fetch(server, "closes", tmp_path, seen=seen).run() == SHA256
    assert server.served == len(BODY)
    assert seen[0][:2] == ("verifying", 300_000), "what is there is hashed first"


def test_parts_that_cannot_be_trusted_are_begun_anew(server: FileServer, tmp_path: Path) -> None:
    for about in ("", "{}", '{"url": 5}', '{"url": "http://other/", "validator": "x"}', "[]"):
        (tmp_path / "m.gguf.part").write_bytes(b"GGUFxxx")
        (tmp_path / "m.gguf.part.json").write_text(about)
        assert fetch(server, "whole", tmp_path).run() == SHA256


@pytest.mark.parametrize("patience", [STRICT])
@pytest.mark.parametrize("way", ["trickles", "chunkhead", "slowhead", "silent", "goesquiet"])
def test_a_slow_server_holds_nobody(server: FileServer, tmp_path: Path, way: str, patience: Patience) -> None:
    with pytest.raises(SourceUnavailableError):
        fetch(server, way, tmp_path, patience=patience).run()
    assert len(server.asked) == 3


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_heeded(server: FileServer, tmp_path: Path, form: str) -> None:
    server.retry_after = "1" if form == "seconds" else email.utils.formatdate(time.time() + 2, usegmt=True)
    before = time.monotonic()
    assert fetch(server, "busy", tmp_path).run() == SHA256
    assert time.monotonic() - before >= 0.9


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_retry_after_beyond_patience_ends_it(server: FileServer, tmp_path: Path, form: str) -> None:
    server.retry_after = "600" if form == "seconds" else email.utils.formatdate(time.time() + 600, usegmt=True)
    with pytest.raises(SourceUnavailableError) as caught:
        fetch(server, "429", tmp_path).run()
    assert caught.value.retry_after is not None
    assert abs(caught.value.retry_after - 600) < 30
    assert len(server.asked) == 1


@pytest.mark.parametrize("way", ["held", "silent", "slowhead", "chunkhead", "trickles"])
def test_a_cancelled_fetch_ends_at_once_and_keeps_its_part(server: FileServer, tmp_path: Path, way: str) -> None:
    download = fetch(server, way, tmp_path, patience=Patience(silence=60, head=60, window=60))
    threading.Timer(0.2, download.cancel).start()
    with pytest.raises(DownloadCancelledError):
        download.run()
    if way == "held":
        assert download.part.size() >= len(BODY) // 2 - 20_000
        server.hold.set()
        assert fetch(server, "held", tmp_path).run() == SHA256
        assert server.asked[1] is not None


def test_a_fetch_that_was_cancelled_before_asks_nobody(server: FileServer, tmp_path: Path) -> None:
    download = fetch(server, "whole", tmp_path)
    download.cancel()
    with pytest.raises(DownloadCancelledError):
        download.run()
    assert server.asked == []


# --- whom it may ask --------------------------------------------------------------------------------------------------


def test_a_private_address_is_refused_unasked(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(UnsafeSourceError, match="not a public address"):
        fetch(server, "whole", tmp_path, web=Web()).run()
    assert server.asked == []


def test_the_owners_hub_may_be_private_but_lead_nowhere_private(server: FileServer, tmp_path: Path) -> None:
    web = Web(private_origin=server.origin)
    assert fetch(server, "whole", tmp_path, web=web).run() == SHA256
    with serving(BODY) as inside:
        server.elsewhere = inside.url("whole")
        with pytest.raises(UnsafeSourceError, match="not a public address"):
            fetch(server, "redirects", tmp_path, web=web).run()
        assert inside.asked == []


def test_the_token_goes_to_the_hub_alone(server: FileServer, tmp_path: Path) -> None:
    with serving(BODY) as cdn:
        server.elsewhere = cdn.url("whole")
        web = Web(allow_private=True, token="secret", token_origin=server.origin)
        assert fetch(server, "redirects", tmp_path, web=web).run() == SHA256
        assert server.headers[0]["Authorization"] == "Bearer secret"
        assert "Authorization" not in cdn.headers[0]


def test_https_is_spoken_and_not_left_for_http(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with serving(BODY, tls=True) as secure:
        assert fetch(secure, "closes", tmp_path).run() == SHA256
        secure.elsewhere = server.url("whole")
        with pytest.raises(UnsafeSourceError, match="from https to http"):
            fetch(secure, "redirects", tmp_path).run()
        server.elsewhere = secure.url("whole")
        assert fetch(server, "redirects", tmp_path).run() == SHA256


def test_a_certificate_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with serving(BODY, tls=True) as secure, pytest.raises(SourceUnavailableError, match="certificate"):
        fetch(secure, "whole", tmp_path).run()
    assert secure.asked == []


@pytest.mark.parametrize("way", ["401", "404", "html", "disguised", "loop", "tofile", "gzip", "empty", "nolength"])
def test_what_is_hopeless_leaves_nothing(server: FileServer, tmp_path: Path, way: str) -> None:
    with pytest.raises((SourceError, UnsafeSourceError)):
        fetch(server, way, tmp_path).run()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "169.254.1.1", "224.0.0.1", "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "0.0.0.0"],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Hub.example/a", "https://hub.example"),
        ("https://hub.example:443/", "https://hub.example"),
        ("http://hub.example:80", "http://hub.example"),
        ("http://hub.example:443", "http://hub.example:443"),
        ("http://[::1]:8080/x", "http://[::1]:8080"),
    ],
)
def test_origins(url: str, origin: str) -> None:
    assert origin_of(url) == origin
