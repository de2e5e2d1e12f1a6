"""The upstream table of a model.json: what it may say, what is wrong with it in words, and its key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from janflask.errors import ConflictError
from janflask.models.upstream import ServerKind, Upstream, read_base_url, read_upstream
from janflask.models.upstream_key import shown, upstream_key

URL = "http://10.0.0.2:8000/v1"
FOLDER = Path("/models/big")
LEAST: dict[str, Any] = {"base_urls": [URL], "model": "org/Big"}


def test_the_least_that_it_may_say_and_all() -> None:
    assert read_upstream(LEAST, FOLDER) == Upstream(base_urls=(URL,), model="org/Big")
    full = {
        **LEAST,
        "base_urls": [URL, "https://other.example/api/v1"],
        "kind": "vllm",
        "api_key_file": "big.key",
        "ca_file": "/etc/ssl/own.pem",
        "ctx_len": 32768,
        "max_concurrent": 16,
        "connect_timeout": 2,
        "timeout": 30.5,
    }
    assert read_upstream(full, FOLDER) == Upstream(
        base_urls=(URL, "https://other.example/api/v1"),
        model="org/Big",
        kind=ServerKind.VLLM,
        api_key_file="/models/big/big.key",
        ca_file="/etc/ssl/own.pem",
        ctx_len=32768,
        max_concurrent=16,
        connect_timeout=2.0,
        timeout=30.5,
    )


def test_null_is_not_given() -> None:
    nothing = dict.fromkeys(("kind", "api_key_file", "api_key_env", "ca_file", "ctx_len", "timeout"))
    assert read_upstream({**LEAST, **nothing}, FOLDER) == read_upstream(LEAST, FOLDER)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://h", "http://h"),
        ("http://h/", "http://h"),
        ("HTTPS://Host.Example:8443/V1//", "https://host.example:8443/V1"),
        ("http://[fd00::1]:8000/v1", "http://[fd00::1]:8000/v1"),
        ("http://h:/v1", "http://h/v1"),
    ],
)
def test_base_urls_that_are_right(given: str, url: str) -> None:
    assert read_base_url(given) == url


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (None, "must be text"),
        (7, "must be text"),
        (" ", "must be text"),
        ("http://" + "h" * 3000, "must be text"),
        ("10.0.0.2:8000/v1", "must be http://"),
        ("localhost:8000", "must be http://"),
        ("ftp://h/v1", "must be http://"),
        ("file:///etc/passwd", "must be http://"),
        ("http:///v1", "must be http://"),
        ("http://h:0/v1", "must be http://"),
        ("http://h:99999/v1", "is no URL"),
        ("http://[::1/v1", "is no URL"),
        ("http://user:secret@h/v1", "user or password"),
        ("http://token@h/v1", "user or password"),
        ("http://h/v1?key=secret", "must have no ?"),
        ("http://h/v1?", "must have no ?"),
        ("http://h/v1#secret", "must have no ?"),
        ("http://h /v1", "plain characters"),
        ("http://h/v1\r\nX-Evil: 1", "plain characters"),
        ("http://h\\@evil/v1", "plain characters"),
        ("http://hé/v1", "plain characters"),
        ("http://h/v1/chat/completions", "must end before /chat/completions"),
        ("http://h/v1/models/", "must end before /models"),
    ],
)
def test_base_urls_that_are_wrong(given: object, reason: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        read_base_url(given)
    assert reason in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"base_urls": None}, "upstream.base_urls is missing"),
        ({"base_urls": []}, "upstream.base_urls must be a list of 1 to 64 URLs"),
        ({"base_urls": URL}, "upstream.base_urls must be a list of 1 to 64 URLs"),
        ({"base_urls": [URL] * 65}, "upstream.base_urls must be a list of 1 to 64 URLs"),
        ({"base_urls": [URL, "x"]}, "upstream.base_urls [1] must be http://"),
        ({"base_urls": [URL, URL + "/"]}, "upstream.base_urls [1] is the same as [0]"),
        ({"model": None}, "upstream.model is missing"),
        ({"model": ""}, "upstream.model must be text"),
        ({"model": "a\nb"}, "upstream.model must be the model's name there"),
        ({"kind": "tgi"}, "upstream.kind must be one of openai, vllm, llama-server, llama-cpp-python, janflask"),
        ({"kind": ["vllm"]}, "upstream.kind must be one of"),
        ({"base_url": URL}, "upstream has no field 'base_url'; known are base_urls, model, kind"),
        ({"api_key": "sk-secret"}, "a key never stands in model.json"),
        ({"api_key_file": "a.key", "api_key_env": "JANFLASK_UPSTREAM_KEY"}, "name one"),
        ({"api_key_file": "../other/a.key"}, "upstream.api_key_file must be an absolute path, or one below"),
        ({"api_key_file": "a\0.key"}, "upstream.api_key_file must be an absolute path, or one below"),
        ({"api_key_file": "/home/me/.cache/huggingface/token"}, "no other file is ever sent as a key"),
        ({"api_key_file": "/proc/self/environ"}, "no other file is ever sent as a key"),
        ({"api_key_env": "HF_TOKEN"}, "no other variable is ever sent as a key"),
        ({"api_key_env": "JANFLASK_UPSTREAM_"}, "no other variable is ever sent as a key"),
        ({"api_key_env": "JANFLASK_UPSTREAM_key"}, "no other variable is ever sent as a key"),
        ({"ca_file": "../x.pem"}, "upstream.ca_file must be an absolute path, or one below"),
        ({"ctx_len": 0}, "upstream.ctx_len must be a whole number from 16"),
        ({"ctx_len": True}, "upstream.ctx_len must be a whole number from 16"),
        ({"ctx_len": 4096.0}, "upstream.ctx_len must be a whole number from 16"),
        ({"ctx_len": "4096"}, "upstream.ctx_len must be a whole number from 16"),
        ({"max_concurrent": 0}, "upstream.max_concurrent must be a whole number from 1 to 10000"),
        ({"max_concurrent": 10_001}, "upstream.max_concurrent must be a whole number from 1 to 10000"),
        ({"connect_timeout": 0}, "upstream.connect_timeout must be a number of seconds above 0, at most 60"),
        ({"connect_timeout": 61}, "upstream.connect_timeout must be a number of seconds above 0, at most 60"),
        ({"timeout": -1}, "upstream.timeout must be a number of seconds above 0"),
        ({"timeout": True}, "upstream.timeout must be a number of seconds above 0"),
        ({"timeout": float("nan")}, "upstream.timeout must be a number of seconds above 0"),
        ({"timeout": float("inf")}, "upstream.timeout must be a number of seconds above 0"),
    ],
)
def test_what_is_wrong_is_said_by_field(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        read_upstream({**LEAST, **change}, FOLDER)
    assert reason in str(caught.value)
    assert "sk-secret" not in str(caught.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ValueError, match=r"modell.*model is missing.*max_concurrent"):
        read_upstream({"base_urls": [URL], "modell": "x", "max_concurrent": "4"}, FOLDER)


@pytest.mark.parametrize("given", ["http://h/v1", [URL], 7, True])
def test_a_table_is_an_object(given: object) -> None:
    with pytest.raises(ValueError, match="not an object"):
        read_upstream(given, FOLDER)


# --- the key ------------------------------------------------------------------------------------------------------


def with_file(folder: Path, data: bytes, mode: int = 0o600) -> Upstream:
    path = folder / "big.key"
    path.write_bytes(data)
    path.chmod(mode)
    return read_upstream({**LEAST, "api_key_file": "big.key"}, folder)


@pytest.mark.parametrize("data", [b"sk-1234", b"sk-1234\n", b"sk-1234\r\n"])
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640])
def test_a_key_from_a_file(tmp_path: Path, data: bytes, mode: int) -> None:
    upstream = with_file(tmp_path, data, mode)
    assert upstream_key(upstream) == "sk-1234"
    assert "sk-1234" not in repr(upstream)


def test_the_file_is_read_at_each_use(tmp_path: Path) -> None:
    upstream = with_file(tmp_path, b"old")
    assert upstream_key(upstream) == "old"
    (tmp_path / "big.key").write_bytes(b"new")
    assert upstream_key(upstream) == "new"


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"two words", b"one\ntwo\n", b"one\n\n", b"a\rb", b"\xef\xbb\xbfk", b"k\xc3\xa9y", b"k" * 4097]
)
def test_a_file_that_holds_no_key(tmp_path: Path, data: bytes) -> None:
    upstream = with_file(tmp_path, data)
    with pytest.raises(ConflictError, match=r"big\.key must hold the upstream's key alone") as caught:
        upstream_key(upstream)
    assert "one" not in caught.value.message.partition("alone")[0]


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660])
def test_a_file_that_others_may_read(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConflictError, match="chmod 600"):
        upstream_key(with_file(tmp_path, b"sk-1234", mode))


def test_a_file_that_is_none(tmp_path: Path) -> None:
    upstream = read_upstream({**LEAST, "api_key_file": "big.key"}, tmp_path)
    with pytest.raises(ConflictError, match=r"big\.key, which has the upstream's key, is not there"):
        upstream_key(upstream)
    os.mkfifo(tmp_path / "big.key", 0o600)
    with pytest.raises(ConflictError, match="is no plain file"):
        upstream_key(upstream)
    (tmp_path / "big.key").unlink()
    (tmp_path / "big.key").mkdir()
    with pytest.raises(ConflictError, match="is no plain file"):
        upstream_key(upstream)


def test_a_link_leads_to_a_key_only(tmp_path: Path) -> None:
    """A model's folder may have come from elsewhere, with a link in it to another secret."""
    token = tmp_path / "token"
    token.write_text("hf_secret")
    token.chmod(0o600)
    (tmp_path / "model").mkdir()
    link = tmp_path / "model" / "a.key"
    link.symlink_to(token)
    upstream = read_upstream({**LEAST, "api_key_file": "a.key"}, tmp_path / "model")
    with pytest.raises(ConflictError, match=r"is a link to one whose name does not end in \.key"):
        upstream_key(upstream)
    token.rename(tmp_path / "token.key")  # as secrets are mounted in containers
    link.unlink()
    link.symlink_to(tmp_path / "token.key")
    assert upstream_key(upstream) == "hf_secret"


def test_a_key_from_the_environment() -> None:
    upstream = read_upstream({**LEAST, "api_key_env": "JANFLASK_UPSTREAM_BIG"}, FOLDER)
    assert upstream_key(upstream, {"JANFLASK_UPSTREAM_BIG": "sk-1234"}) == "sk-1234"
    for env in ({}, {"JANFLASK_UPSTREAM_BIG": ""}):
        with pytest.raises(ConflictError, match="JANFLASK_UPSTREAM_BIG, which has the upstream's key, is not set"):
            upstream_key(upstream, env)
    for bad in ("sk 1", "sk\n", "sk\r\nX-Evil: 1"):
        with pytest.raises(ConflictError, match="must hold the upstream's key alone") as caught:
            upstream_key(upstream, {"JANFLASK_UPSTREAM_BIG": bad})
        assert "sk" not in caught.value.message


def test_no_key_is_named() -> None:
    assert upstream_key(read_upstream(LEAST, FOLDER), {"JANFLASK_UPSTREAM_KEY": "sk-1234"}) is None


def test_a_key_that_the_end_of_a_long_text_cuts_is_not_shown() -> None:
    """What stands for whole keys is shorter than they are, and so brings the end of the text into view."""
    key = "ab" * 1500
    assert "ab" not in shown(key * 30, key, 200)
    assert shown("words " * 20_000, key, 11) == "words word…"
