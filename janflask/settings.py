"""Every setting, in one table. ``Settings.from_env`` reads ``JANFLASK_*``; ``docs/settings.md`` is made from the table.

A setting is a field of ``Settings`` with its help in the metadata. Nothing is read at import.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from janflask.errors import SettingsError
from janflask.hosts import ANY, plain_host, plain_origin

PREFIX = "JANFLASK_"


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"must be a whole number from {low} to {high}") from None
        if not low <= value <= high:
            raise ValueError(f"must be from {low} to {high}")
        return value

    return parse


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("must be a number of seconds above 0") from None
    if not 0 < value < 1e7:
        raise ValueError("must be a number of seconds above 0")
    return value


def _seconds_or_never(text: str) -> float:
    return 0.0 if text.strip() in ("0", "0.0") else _seconds(text)


def _gigabytes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("must be a number of GiB above 0, or auto") from None
    if not 0 < value < 1e6:
        raise ValueError("must be a number of GiB above 0, or auto")
    return value


def _gigabytes_or_none(text: str) -> float:
    return 0.0 if text.strip() in ("0", "0.0") else _gigabytes(text)


def boolean(text: str) -> bool:
    """Yes or no, in the words that people use. Raises ValueError."""
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.strip().lower() not in words:
        raise ValueError("must be 1 or 0 (or true/false, yes/no, on/off)")
    return words[text.strip().lower()]


def choice(*words: str) -> Callable[[str], str]:
    """A parser that takes one of ``words``."""

    def parse(text: str) -> str:
        if text.strip().lower() not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text.strip().lower()

    return parse


def or_auto(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """``parse``, but for "auto" and nothing at all, which are None."""

    def parse_or_auto(text: str) -> Any:
        return None if text.strip().lower() in ("", "auto") else parse(text)

    return parse_or_auto


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


def _setting(default: Any, parse: Callable[[str], Any], help: str) -> Any:
    return field(default=default, metadata={"parse": parse, "help": help})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The server's settings. Engine settings here are defaults; a model's ``settings`` in model.json win over them."""

    # the server
    host: str = _setting("127.0.0.1", _host, "address to listen on")
    port: int = _setting(1337, _integer(0, 65535), "port to listen on; 0 takes a free one")
    data_dir: Path = _setting(
        Path("data"), _path, "folder of models/, threads/, assistants/, files/, runs/, cache/ and logs/"
    )
    runtime_dir: Path | None = _setting(
        None, or_auto(_path), "private folder (0700) for the sockets between processes; auto: a fresh one each time"
    )
    workers: int = _setting(1, _integer(1, 64), "gunicorn worker processes")
    threads: int = _setting(64, _integer(1, 1024), "threads of a worker; each open stream holds one")
    log_level: str = _setting("info", choice("debug", "info", "warning", "error"), "how much is logged")
    allowed_hosts: tuple[str, ...] = _setting(
        (),
        _list_of(_allowed_host),
        "names, beside loopback and JANFLASK_HOST, that requests may call the server by, with commas between them; "
        "*.example.com: all below it, *: any (403 for others)",
    )
    cors_origins: tuple[str, ...] = _setting(
        (),
        _list_of(_allowed_origin),
        "origins of web pages (https://example.com) that may use the server, with commas between them; *: all "
        "(403 for others that would change something)",
    )
    max_body_mb: int = _setting(32, _integer(1, 4096), "largest request body in MiB (413 above it)")

    # the store
    durability: str = _setting(
        "disk",
        choice("disk", "os"),
        "what an acknowledged write survives; disk: a power cut, os: an end of the server only, but writes are faster",
    )
    lock_timeout: float = _setting(5.0, _seconds, "longest wait for another writer of the same thread (503 after it)")
    max_message_mb: int = _setting(4, _integer(1, 1024), "largest message in MiB (413 above it)")
    max_upload_mb: int = _setting(512, _integer(1, 1 << 20), "largest uploaded file in MiB (413 above it)")
    upload_timeout: float = _setting(60.0, _seconds, "longest silence in the middle of a request's body (408 after it)")

    # models
    allow_private_sources: bool = _setting(
        False, boolean, "models may be fetched from loopback and private addresses, not only from the internet"
    )
    download_slots: int = _setting(2, _integer(1, 64), "downloads at once; further ones wait")
    max_model_gb: int = _setting(1024, _integer(1, 1 << 20), "largest file that is downloaded, in GiB")
    memory_budget_gb: float | None = _setting(
        None,
        or_auto(_gigabytes),
        "GiB that the running models may take together; auto: 80 % of the RAM, or of the VRAM",
    )
    idle_unload: float = _setting(
        1800.0, _seconds_or_never, "seconds without a request after which a model is stopped; 0: never"
    )
    spare_engine: bool = _setting(
        True, boolean, "an engine process without a model is kept ready, so that the next model starts sooner"
    )
    restore_models: bool = _setting(False, boolean, "the models that ran when the server ended are started with it")

    # runs
    run_timeout: float = _setting(600.0, _seconds, "seconds after which a run that is not done has expired")
    thread_titles: bool = _setting(True, boolean, "a thread without a title gets one from its first run")
    kv_snapshot_gb: float = _setting(
        4.0,
        _gigabytes_or_none,
        "GiB on disk for the KV states of conversations, so that a next turn computes new tokens only; 0: none",
    )

    # requests
    auto_start: bool = _setting(True, boolean, "a request starts its model if it is on disk and not running")
    keepalive: float = _setting(5.0, _seconds, "seconds of silence in a stream before an SSE comment is sent")
    request_timeout: float = _setting(600.0, _seconds, "longest silence from an engine before a request is given up")

    # engines
    start_timeout: float = _setting(600.0, _seconds, "longest time for loading a model and proving that it works")
    stop_timeout: float = _setting(3.0, _seconds, "time an engine has to end by itself before it is killed")
    queue_limit: int = _setting(64, _integer(0, 100000), "requests that may wait for a model; the next one gets 429")
    ctx_len: int | None = _setting(
        None,
        or_auto(_integer(16, 1 << 24)),
        "tokens of one conversation; auto: what the model was trained for, at most 8192",
    )
    n_parallel: int | None = _setting(
        None, or_auto(_integer(1, 256)), "sequences generated at once; auto: 8, fewer if memory says so"
    )
    cpu_threads: int | None = _setting(None, or_auto(_integer(1, 1024)), "CPU threads of an engine; auto: measured")
    ngl: int = _setting(-1, _integer(-1, 100000), "layers on the GPU; -1: as many as this build can place there")
    flash_attn: bool | None = _setting(None, or_auto(boolean), "flash attention; auto: measured")
    kv_unified: bool | None = _setting(None, or_auto(boolean), "one KV buffer for all sequences; auto: measured")
    slice_size: int | None = _setting(
        None, or_auto(_integer(1, 8192)), "prompt tokens of a step that also generates; auto: measured"
    )
    kv_cells: int | None = _setting(
        None, or_auto(_integer(16, 1 << 28)), "tokens in the KV cache over all sequences; auto: n_parallel * ctx_len"
    )
    prefix_cache: bool = _setting(True, boolean, "reuse computed prompt prefixes")
    use_extra_bufts: bool = _setting(True, boolean, "llama.cpp's repacked CPU weights (AMX and others)")

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
    def logs_dir(self) -> Path:
        return self.data_dir / "logs"


def table() -> list[tuple[str, str, str]]:
    """(variable, default, help) of every setting, in order; ``docs/settings.md`` and its test are made from this."""
    rows = []
    for item in fields(Settings):
        default = item.default
        if default is MISSING or default is None:
            text = "auto"
        elif isinstance(default, bool):
            text = "1" if default else "0"
        elif default == ():
            text = "none"
        else:
            text = str(default)
        rows.append((PREFIX + item.name.upper(), text, item.metadata["help"]))
    return rows
