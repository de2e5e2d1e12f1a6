"""A certificate and a key from files, and what is said of those that cannot be used."""

from __future__ import annotations

import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from janflask.tls.pair import MAX_SIZE, BadPairError, read_facts, read_pair
from tests.fakes.certificates import NOW, encrypted, make


def test_a_pair_in_two_files_or_in_one(tmp_path: Path) -> None:
    files = make(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(files.key.read_bytes() + files.certificate.read_bytes())
    for pair in (read_pair(files.certificate, files.key), read_pair(both, None)):
        assert pair.facts == read_facts(files.certificate)
        assert pair.facts.names == ("localhost", "127.0.0.1")
        assert pair.context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert pair.context.verify_mode is ssl.CERT_NONE
    assert read_pair(both, None, "1.3").context.minimum_version is ssl.TLSVersion.TLSv1_3


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    files, others = make(tmp_path), make(tmp_path, "others")
    empty, large, missing = tmp_path / "empty", tmp_path / "large", tmp_path / "missing"
    empty.touch()
    large.write_bytes(bytes(MAX_SIZE + 1))
    locked = encrypted(files.key, tmp_path / "locked")
    for certificate, key, reason in [
        (missing, files.key, f"the certificate in {missing} cannot be read: No such file"),
        (files.certificate, missing, f"the key in {missing} cannot be read: No such file"),
        (tmp_path, files.key, f"the certificate in {tmp_path} cannot be read: Is a directory"),
        (empty, files.key, f"{empty} holds no certificate in PEM"),
        (files.key, files.key, f"{files.key} holds no certificate in PEM"),
        (large, files.key, f"{large} is larger than 1 MiB"),
        (files.certificate, empty, f"{empty} holds no private key in PEM"),
        (files.certificate, None, f"{files.certificate} holds no private key in PEM"),
        (files.certificate, others.key, f"the key in {others.key} is not that of the certificate"),
        (files.certificate, locked, f"the key in {locked} is encrypted"),
    ]:
        with pytest.raises(BadPairError) as caught:
            read_pair(certificate, key)
        assert str(caught.value).startswith(reason)


def test_its_time_is_told(tmp_path: Path) -> None:
    day = timedelta(days=1)
    for begin, end, problem in [
        (NOW - day, NOW + day, None),
        (NOW - 2 * day, NOW - day, "has expired on"),
        (NOW + day, NOW + 2 * day, "is not valid before"),
    ]:
        told = read_facts(make(tmp_path, begin=begin, end=end).certificate).problem(NOW)
        assert told is None if problem is None else told and told.startswith(problem)


def test_no_names_are_no_error(tmp_path: Path) -> None:
    assert read_facts(make(tmp_path, names=()).certificate).names == ()


def test_what_gunicorn_adds_may_be_wrong(tmp_path: Path) -> None:
    files = make(tmp_path)

    def wrong(context: ssl.SSLContext) -> None:
        context.set_ciphers("none of these")

    with pytest.raises(BadPairError, match="gunicorn's settings"):
        read_pair(files.certificate, files.key, adjust=wrong)
