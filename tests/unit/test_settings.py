"""The table of settings: defaults, parsing, refusals, and the way into a child process."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from janflask.errors import JanflaskError, SettingsError
from janflask.settings import PREFIX, Settings, table
from janflask.settings.engine_table import EngineDefaults

# A value other than the default for each kind of field, and what it means.
EXAMPLES = {
    "host": ("0.0.0.0", "0.0.0.0"),
    "port": ("0", 0),
    "data_dir": ("/srv/jan", Path("/srv/jan")),
    "runtime_dir": ("/run/jan", Path("/run/jan")),
    "log_level": (" WARNING ", "warning"),
    "keepalive": ("0.5", 0.5),
    "auto_start": ("off", False),
    "ctx_len": ("4096", 4096),
    "ngl": ("0", 0),
    "flash_attn": ("yes", True),
    "kv_unified": ("0", False),
    "allowed_hosts": ("Box.lan, *.example.com", ("box.lan", "*.example.com")),
    "cors_origins": ("https://example.com:443", ("https://example.com",)),
}


def test_nothing_set_gives_the_defaults() -> None:
    settings = Settings.from_env({})
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 1337, 1)
    assert settings.ctx_len is None
    assert settings.flash_attn is None
    assert settings.data_dir == Path("data").absolute()
    assert settings.models_dir == settings.data_dir / "models"
    assert settings.cache_dir == settings.data_dir / "cache"
    assert settings.logs_dir == settings.data_dir / "logs"


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_variable_sets_its_field_and_no_other(name: str) -> None:
    text, value = EXAMPLES[name]
    settings = Settings.from_env({PREFIX + name.upper(): text})
    assert getattr(settings, name) == value
    plain = Settings.from_env({})
    assert [f.name for f in fields(Settings) if getattr(settings, f.name) != getattr(plain, f.name)] == [name]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("PORT", "65536", "from 0 to 65535"),
        ("PORT", "http", "whole number from 0 to 65535"),
        ("PORT", "", "whole number"),
        ("WORKERS", "0", "from 1 to 64"),
        ("KEEPALIVE", "0", "above 0"),
        ("KEEPALIVE", "nan", "above 0"),
        ("KEEPALIVE", "soon", "above 0"),
        ("AUTO_START", "maybe", "1 or 0"),
        ("FLASH_ATTN", "maybe", "1 or 0"),
        ("LOG_LEVEL", "loud", "debug, info, warning, error"),
        ("CTX_LEN", "1", "from 16"),
        ("HOST", " ", "an address"),
        ("DATA_DIR", "", "folder"),
        ("DATA_DIR", "~no-such-user-here/x", "home directory"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        Settings.from_env({PREFIX + name: text})
    assert caught.value.param == PREFIX + name
    assert f"{PREFIX}{name}={text!r}" in caught.value.message
    assert isinstance(caught.value, JanflaskError)


@pytest.mark.parametrize("text", ["auto", "AUTO", ""])
def test_auto_is_the_same_as_not_set(text: str) -> None:
    names = [f.name for f in fields(Settings) if f.default is None]
    settings = Settings.from_env({PREFIX + name.upper(): text for name in names})
    assert [getattr(settings, name) for name in names] == [None] * len(names)


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert Settings.from_env({"JANFLASK_DATA_DIR": "~/jan"}).data_dir == Path("/home/somebody/jan")


@pytest.mark.parametrize("chosen", [{}, {PREFIX + name.upper(): text for name, (text, _) in EXAMPLES.items()}])
def test_a_child_process_gets_the_same_settings(chosen: dict[str, str]) -> None:
    settings = Settings.from_env(chosen)
    assert Settings.from_env(settings.to_env()) == settings


def test_the_table_has_every_field_in_order_and_its_defaults_can_be_parsed() -> None:
    rows = table()
    engines = [f.name for f in fields(EngineDefaults)]
    own = [f.name for f in fields(Settings) if f.name not in engines]
    assert [name for name, _, _ in rows] == [PREFIX + name.upper() for name in (*own, *engines)]
    assert all(help for _, _, help in rows)
    assert Settings.from_env({name: default for name, default, _ in rows}) == Settings.from_env({})
