"""The certificate in gunicorn's master."""

from __future__ import annotations

import contextlib
import logging
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from janflask.errors import SettingsError
from janflask.processes import exposure, https
from janflask.processes.https import Shown
from janflask.settings import Settings
from janflask.tls import self_signed
from janflask.tls.pair import read_facts
from janflask.tls.trust import public_path
from tests.fakes.certificates import make

LOG = logging.getLogger("test")


def cfg_of(certfile: str | None, keyfile: str | None = None, **more: Any) -> Any:
    """gunicorn's, as far as it matters."""
    usual = {"ciphers": None, "ca_certs": None, "cert_reqs": 0, "is_ssl": bool(certfile), "http_protocols": ["h1"]}
    return SimpleNamespace(certfile=certfile, keyfile=keyfile, **usual | more)


@pytest.fixture
def settings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Settings:
    caplog.set_level("INFO")
    return Settings(data_dir=tmp_path, tls_self_signed=True)


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(https, "_shown", None)


def test_gunicorn_is_told_the_files(tmp_path: Path) -> None:
    cert, key = tmp_path / "c", tmp_path / "k"
    assert https.files(Settings()) == (None, None)
    assert https.files(Settings(tls_cert=cert)) == (str(cert), None)
    assert https.files(Settings(tls_cert=cert, tls_key=key)) == (str(cert), str(key))
    own = Settings(data_dir=tmp_path, tls_self_signed=True)
    assert https.files(own) == (str(tmp_path / "secrets" / "self-signed.pem"), None)


def test_without_a_certificate_nothing_is_read(tmp_path: Path) -> None:
    https.prepare(Settings(data_dir=tmp_path), SimpleNamespace(cfg=cfg_of(None), log=LOG))
    https.reload(contextlib.nullcontext())
    https.follow(contextlib.nullcontext())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError):
        https.context()


def test_its_own_is_made_before_it_listens_and_renewed_in_time(
    settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Shown(settings, cfg_of(*https.files(settings)), LOG)
    first = shown.certificate.facts
    assert first == read_facts(public_path(settings))
    shown.look()
    shown.certificate.follow(at_once=True)
    assert shown.certificate.facts == first
    monkeypatch.setattr(self_signed, "RENEWED", self_signed.LIFE * 0.9999)
    assert not self_signed.is_due(first)
    monkeypatch.setattr(self_signed, "RENEWED", self_signed.LIFE)
    shown.look()
    shown.certificate.follow(at_once=True)
    assert shown.certificate.facts.sha256 != first.sha256
    assert "it ends on" in caplog.text


def test_one_that_cannot_be_renewed_is_told_once_and_stays(
    settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Shown(settings, cfg_of(*https.files(settings)), LOG)
    monkeypatch.setattr(self_signed, "RENEWED", self_signed.LIFE)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(self_signed.by_path, "replace", fail)
    before = shown.certificate.context()
    for _ in range(3):
        shown.look()
    assert shown.certificate.context() is before
    assert [r.message for r in caplog.records if r.levelname == "WARNING"] == [
        "The certificate cannot be renewed: [Errno 28] No space left on device"
    ]


def test_where_none_can_be_made_the_server_does_not_start(settings: Settings) -> None:
    settings.secrets_dir.write_text("a file")
    with pytest.raises(SettingsError, match="no certificate can be made"):
        Shown(settings, cfg_of(*https.files(settings)), LOG)


def test_gunicorns_command_line_names_other_files(settings: Settings, tmp_path: Path) -> None:
    files = make(tmp_path, "other")
    shown = Shown(settings, cfg_of(str(files.certificate), str(files.key), ciphers="ECDHE+AESGCM", cert_reqs=1), LOG)
    assert shown.certificate.facts == read_facts(files.certificate)
    assert not public_path(settings).exists()
    assert shown.certificate.context().verify_mode is ssl.CERT_OPTIONAL


def test_a_key_that_everybody_can_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = make(tmp_path)
    for mode, told in ((0o600, False), (0o640, False), (0o644, True)):
        caplog.clear()
        files.key.chmod(mode)
        Shown(Settings(data_dir=tmp_path), cfg_of(str(files.certificate), str(files.key)), LOG)
        assert (f"chmod 600 {files.key}" in caplog.text) is told


def test_http_2_is_not_promised(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = SimpleNamespace(cfg=cfg_of(None, http_protocols=["h2", "h1"]), log=LOG)
    https.prepare(Settings(data_dir=tmp_path), server)
    assert "HTTP/2 is not spoken" in caplog.text


def test_who_sends_keys_in_plain_text_is_warned(caplog: pytest.LogCaptureFixture) -> None:
    for address, is_ssl, warned in [
        (("127.0.0.1", 8), False, False),
        (("0.0.0.0", 8), True, False),
        (("0.0.0.0", 8), False, True),
    ]:
        caplog.clear()
        exposure.warn_of_readers([address], SimpleNamespace(cfg=SimpleNamespace(is_ssl=is_ssl), log=LOG))
        assert ("0.0.0.0:8 speaks plain HTTP" in caplog.text) is warned
