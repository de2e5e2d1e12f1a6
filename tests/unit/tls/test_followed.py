"""A certificate whose files change while it is shown."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from janflask.tls import followed, pair
from janflask.tls.followed import Certificate
from janflask.tls.pair import BadPairError
from tests.fakes.certificates import NOW, Files, make

LOG = logging.getLogger("test")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return make(tmp_path)


@pytest.fixture
def certificate(files: Files, caplog: pytest.LogCaptureFixture) -> Certificate:
    caplog.set_level("INFO")
    return Certificate(files.certificate, files.key, LOG)


def test_a_new_pair_is_taken(certificate: Certificate, files: Files, caplog: pytest.LogCaptureFixture) -> None:
    before, context = certificate.facts, certificate.context()
    certificate.follow(at_once=True)
    assert certificate.context() is context, "nothing has changed"
    make(files.key.parent)
    certificate.follow(at_once=True)
    assert certificate.facts.sha256 != before.sha256
    assert certificate.context() is not context
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_a_bad_one_is_not_and_is_told_once(
    certificate: Certificate, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    context, key = certificate.context(), files.key.read_bytes()
    for content in (b"", key[:40], make(files.key.parent, "other").key.read_bytes()):
        files.key.write_bytes(content)
        certificate.follow(at_once=True)
        certificate.follow(at_once=True)
        assert certificate.context() is context
    files.key.unlink()
    certificate.follow(at_once=True)
    assert certificate.context() is context
    assert [record.message.startswith("The old certificate stays, until") for record in caplog.records] == [True] * 4
    files.key.write_bytes(key)
    certificate.follow(at_once=True)
    assert certificate.context() is not context


def test_half_a_change_is_left_alone(
    certificate: Certificate, files: Files, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, new = certificate.context(), make(files.key.parent, "new")
    now = time.time()
    monkeypatch.setattr(followed.time, "time", lambda: now)
    new.certificate.replace(files.certificate)
    certificate.follow()
    new.key.replace(files.key)
    certificate.follow()
    assert certificate.context() is context
    assert caplog.records == []
    now = time.time() + 2 * followed.PAUSE
    certificate.follow()
    assert certificate.context() is not context


def test_it_looks_by_itself_but_not_at_every_connection(
    certificate: Certificate, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = certificate.context()
    make(files.key.parent)
    monkeypatch.setattr(followed, "_is_at_rest", lambda stamp: True)
    assert certificate.context() is context
    monkeypatch.setattr(followed, "PAUSE", 0.0)
    assert certificate.context() is not context


def test_an_expired_one_does_not_replace_a_good_one(certificate: Certificate, files: Files) -> None:
    context = certificate.context()
    make(files.key.parent, end=NOW - timedelta(hours=1))
    certificate.follow(at_once=True)
    assert certificate.context() is context


def test_one_that_is_not_valid_yet_is_taken_when_it_is(
    certificate: Certificate, files: Files, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = certificate.context()
    make(files.key.parent, begin=NOW + timedelta(days=1), end=NOW + timedelta(days=9))
    for _ in range(3):
        certificate.follow(at_once=True)
    assert certificate.context() is context
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    monkeypatch.setattr(followed, "datetime", _Tomorrow)
    monkeypatch.setattr(pair, "datetime", _Tomorrow)
    certificate.follow(at_once=True)
    assert certificate.context() is not context


class _Tomorrow(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> _Tomorrow:
        return cls.fromtimestamp(NOW.timestamp() + 2 * 86400, tz)


def test_what_is_wrong_in_an_unheard_of_way_is_no_worse(
    certificate: Certificate, files: Files, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = certificate.context()

    def fail(*_: object) -> None:
        raise RuntimeError("what is this?")

    monkeypatch.setattr(followed, "read_pair", fail)
    make(files.key.parent)
    certificate.follow(at_once=True)
    assert certificate.context() is context
    assert "what is this?" in caplog.text


def test_a_link_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    """As certbot and Kubernetes do it."""
    first, second = make(tmp_path, "first"), make(tmp_path, "second")
    links = Files(tmp_path / "link.crt", tmp_path / "link.key")
    for link, target in ((links.certificate, first.certificate), (links.key, first.key)):
        link.symlink_to(target)
    certificate = Certificate(links.certificate, links.key, LOG)
    for link, target in ((links.certificate, second.certificate), (links.key, second.key)):
        link.unlink()
        link.symlink_to(target)
    certificate.follow(at_once=True)
    assert certificate.facts.sha256 == Certificate(second.certificate, second.key, LOG).facts.sha256


def test_at_the_start_an_expired_one_is_shown_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = make(tmp_path, end=NOW - timedelta(hours=1))
    certificate = Certificate(old.certificate, old.key, LOG)
    assert "has expired on" in caplog.text
    make(tmp_path, end=NOW - timedelta(minutes=1))
    certificate.follow(at_once=True)
    assert certificate.facts.sha256 == Certificate(old.certificate, old.key, LOG).facts.sha256, "neither is better"


def test_at_the_start_a_bad_one_is_refused(files: Files) -> None:
    files.key.write_bytes(b"")
    with pytest.raises(BadPairError):
        Certificate(files.certificate, files.key, LOG)
