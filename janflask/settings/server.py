"""The server's settings, in one table.

A setting is a field of ``Settings`` with its help in the metadata; engines' own are in ``engine_table``, and
``docs/settings.md`` is made from both. Nothing is read at import; ``Settings.from_env`` reads ``JANFLASK_*``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from janflask.errors import SettingsError
from janflask.settings.engine_table import EngineDefaults
from janflask.settings.fields import (
    boolean,
    choice,
    gigabytes,
    gigabytes_or_none,
    integer,
    or_auto,
    seconds,
    seconds_or_never,
    setting,
)
from janflask.settings.hosts import ANY, plain_host, plain_origin

PREFIX = "JANFLASK_"


def _host(text: str) -> str:
    # An empty address would mean every interface: nobody should get that by an empty variable.
    if not text.strip():
        raise ValueError("must be an address, such as 127.0.0.1, or 0.0.0.0 for every interface")
    return text.strip()


def _list_of(parse: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    """A parser for items between commas, each by ``parse``; "none" and nothing at all are no item."""

    def parse_list(text: str) -> tuple[str, ...]:
        if text.strip().lower() == "none":
            return ()
        return tuple(parse(item.strip()) for item in text.split(",") if item.strip())

    return parse_list


def _allowed_host(text: str) -> str:
    if text == ANY:
        return ANY
    wildcard = f"{ANY}." if text.startswith(f"{ANY}.") else ""
    try:
        return wildcard + plain_host(text.removeprefix(wildcard))
    except ValueError as error:
        raise ValueError(f"{error}: write it without scheme and port, or *.example.com, or * for any") from None


def _allowed_origin(text: str) -> str:
    return ANY if text == ANY else plain_origin(text)


def _path(text: str) -> Path:
    if not text.strip():
        raise ValueError("must be the path of a folder")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:  # ~name of a user that does not exist
        raise ValueError(str(error)) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(EngineDefaults):
    """The server's settings. Engine settings here are defaults; a model's ``settings`` in model.json win over them."""

    # the server
    host: str = setting("127.0.0.1", _host, "address to listen on")
    port: int = setting(1337, integer(0, 65535), "port to listen on; 0 takes a free one")
    data_dir: Path = setting(
        Path("data"), _path, "folder of models/, threads/, assistants/, files/, runs/, cache/, secrets/ and logs/"
    )
    runtime_dir: Path | None = setting(
        None,
        or_auto(_path),
        "private folder (0700) for the sockets between processes",
        auto="a fresh one each time",
    )
    workers: int = setting(1, integer(1, 64), "gunicorn worker processes")
    threads: int = setting(64, integer(1, 1024), "threads of a worker; each open stream holds one")
    log_level: str = setting("info", choice("debug", "info", "warning", "error"), "how much is logged")
    allowed_hosts: tuple[str, ...] = setting(
        (),
        _list_of(_allowed_host),
        "names, beside loopback and JANFLASK_HOST, that requests may call the server by, with commas between them; "
        "*.example.com: all below it, *: any (403 for others)",
    )
    cors_origins: tuple[str, ...] = setting(
        (),
        _list_of(_allowed_origin),
        "origins of web pages (https://example.com) that may use the server, with commas between them; *: all "
        "(403 for others that would change something)",
    )
    max_body_mb: int = setting(32, integer(1, 4096), "largest request body in MiB (413 above it)")

    # the store
    durability: str = setting(
        "disk",
        choice("disk", "os"),
        "what an acknowledged write survives; disk: a power cut, os: an end of the server only, but writes are faster",
    )
    lock_timeout: float = setting(5.0, seconds, "longest wait for another writer of the same thread (503 after it)")
    max_message_mb: int = setting(4, integer(1, 1024), "largest message in MiB (413 above it)")
    max_upload_mb: int = setting(512, integer(1, 1 << 20), "largest uploaded file in MiB (413 above it)")
    upload_timeout: float = setting(60.0, seconds, "longest silence in the middle of a request's body (408 after it)")

    # models
    allow_private_sources: bool = setting(
        False, boolean, "models may be fetched from loopback and private addresses, not only from the internet"
    )
    download_slots: int = setting(2, integer(1, 64), "downloads at once; further ones wait")
    max_model_gb: int = setting(1024, integer(1, 1 << 20), "largest file that is downloaded, in GiB")
    memory_budget_gb: float | None = setting(
        None,
        or_auto(gigabytes),
        "GiB that the running models may take together",
        auto="80 % of the RAM, or of the VRAM",
    )
    idle_unload: float = setting(
        1800.0, seconds_or_never, "seconds without a request after which a model is stopped; 0: never"
    )
    spare_engine: bool = setting(
        True, boolean, "an engine process without a model is kept ready, so that the next model starts sooner"
    )
    restore_models: bool = setting(False, boolean, "the models that ran when the server ended are started with it")

    # runs
    run_timeout: float = setting(600.0, seconds, "seconds after which a run that is not done has expired")
    thread_titles: bool = setting(True, boolean, "a thread without a title gets one from its first run")
    kv_snapshot_gb: float = setting(
        4.0,
        gigabytes_or_none,
        "GiB on disk for KV states, so that a next turn computes new tokens only, also after a restart; 0: none",
    )

    # requests
    auto_start: bool = setting(True, boolean, "a request starts its model if it is on disk and not running")
    keepalive: float = setting(5.0, seconds, "seconds of silence in a stream before an SSE comment is sent")
    request_timeout: float = setting(600.0, seconds, "longest silence from an engine before a request is given up")

    # engines; their own settings are those of EngineDefaults
    stop_timeout: float = setting(3.0, seconds, "time an engine has to end by itself before it is killed")

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Raises SettingsError naming the variable, its value and what would be right."""
        env = os.environ if env is None else env
        values: dict[str, Any] = {}
        for item in fields(cls):
            name = PREFIX + item.name.upper()
            text = env.get(name)
            if text is None:
                continue
            try:
                values[item.name] = item.metadata["parse"](text)
            except ValueError as error:
                raise SettingsError(f"{name}={text!r}: {error}", param=name) from None
        values.setdefault("data_dir", _path("data"))
        return cls(**values)

    def to_env(self) -> dict[str, str]:
        """The variables that make ``from_env`` give these settings again, for a child process."""
        out: dict[str, str] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None:
                text = "auto"
            elif isinstance(value, bool):
                text = "1" if value else "0"
            elif isinstance(value, tuple):
                text = ",".join(value)
            else:
                text = str(value)
            out[PREFIX + item.name.upper()] = text
        return out

    @property
    def models_dir(self) -> Path:
        return self.data_dir / "models"

    @property
    def threads_dir(self) -> Path:
        return self.data_dir / "threads"

    @property
    def assistants_dir(self) -> Path:
        return self.data_dir / "assistants"

    @property
    def files_dir(self) -> Path:
        return self.data_dir / "files"

    @property
    def runs_dir(self) -> Path:
        return self.data_dir / "runs"

    @property
    def cache_dir(self) -> Path:
        return self.data_dir / "cache"

    @property
    def secrets_dir(self) -> Path:
        return self.data_dir / "secrets"

    @property
    def logs_dir(self) -> Path:
        return self.data_dir / "logs"


def table() -> list[tuple[str, str, str]]:
    """(variable, default, help) of every setting, the engines' last; ``docs/settings.md`` is made from this."""
    engines = fields(EngineDefaults)
    own = [item for item in fields(Settings) if item.name not in {each.name for each in engines}]
    rows = []
    for item in (*own, *engines):
        about = item.metadata
        help = f"{about['help']}; auto: {about['auto']}" if about["auto"] else about["help"]
        rows.append((PREFIX + item.name.upper(), default_text(item.default), help))
    return rows


def default_text(default: Any) -> str:
    """A default as it is written in the environment."""
    if default is None:
        return "auto"
    if isinstance(default, bool):
        return "1" if default else "0"
    return "none" if default == () else str(default)
