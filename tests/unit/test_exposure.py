"""What a server without keys may listen on."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Any

import pytest

from janflask.access.key_file import NAME, KeyFile
from janflask.access.keys import Keyring
from janflask.errors import SettingsError
from janflask.processes import exposure
from janflask.settings import Settings

LOOPBACK: list[Any] = [
    ("127.0.0.1", 1),
    ("127.8.8.8", 1),
    ("::1", 1),
    ("::1", 1, 0, 0),
    ("::ffff:127.0.0.1", 1, 0, 0),
    ("localhost", 1),
    "/run/janflask.sock",
    "",  # a Unix socket without a name
    3,
]
REACHED: list[Any] = [
    ("0.0.0.0", 1),
    ("::", 1, 0, 0),
    ("", 1),
    ("192.168.1.5", 1),
    ("2001:db8::1", 1),
    ("fe80::1%eth0", 1, 0, 2),
    ("::ffff:10.0.0.1", 1),
    ("0", 1),
    ("host.example", 1),
    ("both.example", 1),
    (2, 1),  # a virtual machine's host
]
NAMES = {"localhost": ["127.0.0.1", "::1"], "host.example": ["10.0.0.1"], "both.example": ["127.0.0.1", "10.0.0.1"]}
NAMES |= {"0": ["0.0.0.0"]}


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
        if host not in NAMES:
            raise socket.gaierror(-2, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in NAMES[host]]

    monkeypatch.setattr("janflask.processes.exposure.socket.getaddrinfo", getaddrinfo)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.mark.parametrize("address", LOOPBACK)
def test_its_own_machine_is_served_without_keys(settings: Settings, address: Any) -> None:
    exposure.check(settings, [address])
    assert not settings.secrets_dir.exists()


@pytest.mark.parametrize("address", REACHED)
def test_others_are_not(settings: Settings, address: Any) -> None:
    for addresses in ([address], [*LOOPBACK, address]):
        with pytest.raises(SettingsError, match="janflask keys add NAME") as caught:
            exposure.check(settings, addresses)
        assert "JANFLASK_ALLOW_KEYLESS" in caught.value.message
        assert str(settings.secrets_dir) in caught.value.message


def test_keys_open_every_address_and_so_does_the_last_that_went(settings: Settings) -> None:
    KeyFile(settings.secrets_dir).change(lambda _: Keyring(required=True))
    exposure.check(settings, REACHED)
    KeyFile(settings.secrets_dir).change(lambda _: Keyring())
    with pytest.raises(SettingsError):
        exposure.check(settings, REACHED)


def test_who_means_it_is_warned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    exposure.check(Settings(data_dir=tmp_path, allow_keyless=True), [("0.0.0.0", 8)], logging.getLogger("test"))
    assert "0.0.0.0:8" in caplog.text
    caplog.clear()
    exposure.check(Settings(data_dir=tmp_path, allow_keyless=True), LOOPBACK, logging.getLogger("test"))
    assert caplog.text == ""


@pytest.mark.parametrize("address", [LOOPBACK[0], REACHED[0]])
@pytest.mark.parametrize("is_meant", [False, True])
def test_keys_that_cannot_be_read_are_refused_everywhere(tmp_path: Path, address: Any, is_meant: bool) -> None:
    settings = Settings(data_dir=tmp_path, allow_keyless=is_meant)
    settings.secrets_dir.mkdir()
    (settings.secrets_dir / NAME).symlink_to("nowhere")
    with pytest.raises(SettingsError, match="nobody gets in"):
        exposure.check(settings, [address])


def test_a_name_that_nobody_knows_cannot_be_listened_on_anyway(settings: Settings) -> None:
    exposure.check(settings, [("no.such.host.invalid", 1)])


def test_the_addresses_of_open_sockets(tmp_path: Path) -> None:
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.bind(("127.0.0.1", 0))
        unix.bind(str(tmp_path / "s"))
        assert exposure.listened_on([tcp, unix]) == [tcp.getsockname(), str(tmp_path / "s")]


def test_the_file_has_its_name_without_the_import() -> None:
    assert exposure.KEYS_FILE == NAME
