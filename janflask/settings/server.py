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
    Choice,
    Integer,
    OrAuto,
    boolean,
    gigabytes,
    gigabytes_or_none,
    seconds,
    seconds_or_never,
    setting,
)
from janflask.settings.hosts import ANY, plain_host, plain_network, plain_origin

PREFIX = "JANFLASK_"
_OTHER_NAMES = {f"{PREFIX}TRUSTED_PROXIES": "FORWARDED_ALLOW_IPS"}  # gunicorn's own, which holds where ours is not set


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


def _proxy(text: str) -> str:
    return ANY if text == ANY else plain_network(text)


def _path(text: str) -> Path:
    if not text.strip():
        raise ValueError("must be the path of a folder")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:  # ~name of a user that does not exist
        raise ValueError(str(error)) from None


def _file(text: str) -> Path:
    if not text.strip():
        raise ValueError("must be the path of a file")
    return _path(text)


def _check_tls(settings: Settings) -> None:
    """Raises SettingsError for settings that do not go together."""
    if settings.tls_self_signed and settings.tls_cert is not None:
        raise SettingsError(
            "JANFLASK_TLS_SELF_SIGNED=1 makes a certificate, and JANFLASK_TLS_CERT names one: set one of the two",
            param="JANFLASK_TLS_CERT",
        )
    if settings.tls_key is not None and settings.tls_cert is None:
        raise SettingsError(
            "JANFLASK_TLS_KEY is set and JANFLASK_TLS_CERT is not: name the certificate, too", param="JANFLASK_TLS_CERT"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(EngineDefaults):
    """The server's settings. Engine settings here are defaults; a model's ``settings`` in model.json win over them."""

    # the server
    host: str = setting("127.0.0.1", _host, "address to listen on")
    port: int = setting(1337, Integer(0, 65535), "port to listen on; 0 takes a free one")
    data_dir: Path = setting(
        Path("data"),
        _path,
        "folder of models/, threads/, assistants/, files/, runs/, cache/, secrets/, usage/, idempotency/, webhooks/ "
        "and logs/",
    )
    runtime_dir: Path | None = setting(
        None,
        OrAuto(_path),
        "private folder (0700) for the sockets between processes",
        auto="a fresh one each time",
    )
    workers: int = setting(1, Integer(1, 64), "gunicorn worker processes")
    threads: int = setting(64, Integer(1, 1024), "threads of a worker; each open stream holds one")
    log_format: str = setting(
        "text", Choice(("text", "json")), "how the log is written: lines for people, or a JSON object a line"
    )
    log_level: str = setting("info", Choice(("debug", "info", "warning", "error")), "how much is logged")
    log_prompts: bool = setting(False, boolean, "what models are asked and what they answer is written to the log")
    allowed_hosts: tuple[str, ...] = setting(
        (),
        _list_of(_allowed_host),
        "names, beside loopback and JANFLASK_HOST, that requests may call the server by, with commas between them; "
        "*.example.com: all below it, *: any (403 for others)",
    )
    trusted_proxies: tuple[str, ...] = setting(
        ("127.0.0.1", "::1"),
        _list_of(_proxy),
        "addresses and networks of proxies, with commas between them, that are believed in who sent a request, over "
        "https or not, and below which path; *: all, none: only those at a Unix socket",
    )
    drain_delay: float = setting(
        0.0,
        seconds_or_never,
        "seconds from SIGTERM on in which new requests are still answered while /readyz says 503 already",
    )
    drain_timeout: float = setting(
        30.0,
        seconds,
        "seconds that requests under way then get to end by themselves; longer ones are told so and cut off",
    )
    cors_origins: tuple[str, ...] = setting(
        (),
        _list_of(_allowed_origin),
        "origins of web pages (https://example.com) that may use the server, with commas between them; *: all "
        "(403 for others)",
    )
    allow_keyless: bool = setting(
        False,
        boolean,
        "the server may be reached from other machines though there are no keys: whoever reaches it may do everything",
    )
    tls_cert: Path | None = setting(
        None, OrAuto(_file), "file with the server's certificate in PEM, with which it speaks HTTPS", auto="plain HTTP"
    )
    tls_key: Path | None = setting(
        None, OrAuto(_file), "file with the certificate's key in PEM", auto="it is in the certificate's file"
    )
    tls_min_version: str = setting("1.2", Choice(("1.2", "1.3")), "lowest version of TLS that is spoken")
    tls_self_signed: bool = setting(
        False, boolean, "the server speaks HTTPS with a certificate that it makes itself, and renews"
    )
    max_body_mb: int = setting(32, Integer(1, 4096), "largest request body in MiB (413 above it)")
    max_json_items: int = setting(
        1_100_000,
        Integer(1000, 1 << 30),
        "most values in a JSON body, those inside of others too: each takes memory (400 above it)",
    )
    header_timeout: float = setting(20.0, seconds, "seconds that a request's line and headers may take (408 after it)")
    send_timeout: float = setting(
        120.0, seconds, "seconds in which a client may take nothing of its answer; then its connection is closed"
    )
    client_connections: int = setting(
        100,
        Integer(0, 1 << 20),
        "connections that one address may have open with a worker, this machine and trusted proxies apart (429 above "
        "it); 0: any number",
    )

    # the store
    durability: str = setting(
        "disk",
        Choice(("disk", "os")),
        "what an acknowledged write survives; disk: a power cut, os: an end of the server only, but writes are faster",
    )
    lock_timeout: float = setting(5.0, seconds, "longest wait for another writer of the same thread (503 after it)")
    max_message_mb: int = setting(4, Integer(1, 1024), "largest message in MiB (413 above it)")
    max_upload_mb: int = setting(512, Integer(1, 1 << 20), "largest uploaded file in MiB (413 above it)")
    data_quota_gb: float = setting(
        0.0,
        gigabytes_or_none,
        "GiB on disk that conversations and files may take together (507 above it); what comes in within some seconds "
        "may go beyond it; 0: no limit",
    )
    upload_timeout: float = setting(60.0, seconds, "longest silence in the middle of a request's body (408 after it)")

    # models
    allow_private_sources: bool = setting(
        False, boolean, "models may be fetched from loopback and private addresses, not only from the internet"
    )
    download_slots: int = setting(2, Integer(1, 64), "downloads at once; further ones wait")
    max_model_gb: int = setting(1024, Integer(1, 1 << 20), "largest file that is downloaded, in GiB")
    memory_budget_gb: float | None = setting(
        None,
        OrAuto(gigabytes),
        "GiB that the running models may take together",
        auto="80 % of the RAM, or of the VRAM",
    )
    admit_by_use: bool = setting(
        False,
        boolean,
        "a running model counts with 1.25 times the RAM that it uses, not with its whole promise: more models "
        "run at once, and if all grow the machine runs short",
    )
    idle_unload: float = setting(
        1800.0, seconds_or_never, "seconds without a request after which a model is stopped; 0: never"
    )
    spare_engine: bool = setting(
        True, boolean, "an engine process without a model is kept ready, so that the next model starts sooner"
    )
    restore_models: bool = setting(False, boolean, "the models that ran when the server ended are started with it")
    ready_models: tuple[str, ...] = setting(
        (),
        _list_of(str),
        "ids of models that are started with the server and never make room for others; /readyz is 503 until they run",
    )

    # runs
    run_timeout: float = setting(600.0, seconds, "seconds after which a run that is not done has expired")
    thread_titles: bool = setting(True, boolean, "a thread without a title gets one from its first run")
    kv_snapshot_gb: float = setting(
        4.0,
        gigabytes_or_none,
        "GiB on disk for KV states, so that a next turn computes new tokens only, also after a restart; 0: none",
    )
    kv_ram_gb: float = setting(
        0.5,
        gigabytes_or_none,
        "GiB of memory that each engine may use, where they are free, for KV states that lost their place, and for "
        "checkpoints; 0: none",
    )
    share_prefixes: bool = setting(
        False,
        boolean,
        "a prompt may go on from what was computed for another key's: less is computed, and how soon an answer begins "
        "tells each key what others have asked",
    )

    # requests
    auto_start: bool = setting(True, boolean, "a request starts its model if it is on disk and not running")
    keepalive: float = setting(5.0, seconds, "seconds of silence in a stream before an SSE comment is sent")
    request_timeout: float = setting(600.0, seconds, "longest silence from an engine before a request is given up")

    # engines; their own settings are those of EngineDefaults
    stop_timeout: float = setting(3.0, seconds, "time an engine has to end by itself before it is killed")
    hang_timeout: float = setting(
        120.0,
        seconds_or_never,
        "seconds in which an engine has to answer, and its loop to come round; one that does not is killed and started "
        "again (longer where its own steps are long; 0: never)",
    )

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Raises SettingsError naming the variable, its value and what would be right."""
        env = os.environ if env is None else env
        values: dict[str, Any] = {}
        for item in fields(cls):
            name = PREFIX + item.name.upper()
            if name not in env:
                name = _OTHER_NAMES.get(name, name)
            text = env.get(name)
            if text is None:
                continue
            try:
                values[item.name] = item.metadata["parse"](text)
            except ValueError as error:
                raise SettingsError(f"{name}={text!r}: {error}", param=name) from None
        values.setdefault("data_dir", _path("data"))
        settings = cls(**values)
        _check_tls(settings)
        return settings

    def to_env(self) -> dict[str, str]:
        """The variables that make ``from_env`` give these settings again, for a child process."""
        return {PREFIX + item.name.upper(): text_of(getattr(self, item.name)) for item in fields(self)}

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
    def usage_dir(self) -> Path:
        return self.data_dir / "usage"

    @property
    def idempotency_dir(self) -> Path:
        return self.data_dir / "idempotency"

    @property
    def webhooks_dir(self) -> Path:
        return self.data_dir / "webhooks"

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
        rows.append((PREFIX + item.name.upper(), text_of(item.default), help))
    return rows


def text_of(value: Any) -> str:
    """A setting's value as it is written in the environment."""
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, tuple):
        return ",".join(value) or "none"
    return str(value)
