"""A model that another server runs: the ``upstream`` table of its ``model.json``.

Whoever writes that table decides where conversations and a key are sent, so only the server's owner does: no request,
no download and no import writes it. What it may name is narrow all the same, for a folder may have come from elsewhere:
an environment variable begins with ``JANFLASK_UPSTREAM_``, and a key's file ends in ``.key``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

ENV_PREFIX = "JANFLASK_UPSTREAM_"
KEY_EXTENSION = ".key"
MAX_BASE_URLS = 64
MAX_TEXT = 2048  # characters

_ENV_NAME = re.compile(ENV_PREFIX + "[A-Z0-9_]{1,100}")
_ROUTES = ("/chat/completions", "/completions", "/embeddings", "/models")


class ServerKind(StrEnum):
    """What runs there: it decides which fields beside OpenAI's own are understood, and how tokens are counted."""

    OPENAI = "openai"  # nothing more is known of it
    VLLM = "vllm"
    LLAMA_SERVER = "llama-server"
    LLAMA_CPP_PYTHON = "llama-cpp-python"
    JANFLASK = "janflask"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Where a model runs, and how it is asked.

    ``base_urls`` are what OpenAI's clients call so, e.g. ``http://10.0.0.2:8000/v1``: several share the load. The key
    is in a file or an environment variable, never here (``upstream_key``). Times are in seconds, files absolute paths.
    """

    base_urls: tuple[str, ...]
    model: str  # its name there
    kind: ServerKind = ServerKind.OPENAI
    api_key_file: str | None = None
    api_key_env: str | None = None
    ca_file: str | None = None  # PEM certificates to trust in place of the system's
    ctx_len: int | None = None  # tokens; None: what the upstream says
    max_concurrent: int = 64  # requests under way at each base URL; further ones wait in line
    connect_timeout: float = 5.0
    timeout: float = 600.0  # of silence in the middle of an answer, the first word included


def read_upstream(given: object, folder: Path) -> Upstream:
    """The table ``given`` of a ``model.json`` in ``folder``, from which relative names of files count.

    null counts as not given. Raises ValueError with everything that is wrong, by field. No value is repeated in it: one
    may be a key at the wrong place.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"upstream is {type(given).__name__}, not an object")
    wrong = [_unknown(name) for name in given if name not in _PARSERS]
    wrong += [f"upstream.{name} is missing" for name in ("base_urls", "model") if given.get(name) is None]
    if given.get("api_key_file") is not None and given.get("api_key_env") is not None:
        wrong.append("upstream has both api_key_file and api_key_env: name one")
    values: dict[str, Any] = {}
    for name, parse in _PARSERS.items():
        if given.get(name) is None:
            continue
        try:
            values[name] = parse(given[name])
        except ValueError as error:
            wrong.append(f"upstream.{name} {error}")
    if wrong:
        raise ValueError("; ".join(wrong))
    values |= {name: str(folder / values[name]) for name in ("api_key_file", "ca_file") if name in values}
    return Upstream(**values)


def read_base_url(given: object) -> str:
    """The URL without slashes at its end. Raises ValueError, to be read behind its name, that does not repeat it."""
    text = _text(given)
    if not re.fullmatch("[!-~]+", text) or "\\" in text:
        raise ValueError("must be a URL of plain characters, without spaces")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError("must be http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH")
    if "@" in parts.netloc:
        raise ValueError("must have no user or password in it: use api_key_file or api_key_env")
    if "?" in text or "#" in text:
        raise ValueError("must have no ? or # in it")
    return _normal(parts)


def _normal(parts: SplitResult) -> str:
    path = parts.path.rstrip("/")
    route = next((route for route in _ROUTES if path.endswith(route)), None)
    if route is not None:
        raise ValueError(f"must end before {route}")
    return f"{parts.scheme}://{parts.netloc.lower().rstrip(':')}{path}"


def _unknown(name: object) -> str:
    if name == "api_key":
        return "upstream.api_key: a key never stands in model.json; name its file in api_key_file, or api_key_env"
    known = ", ".join(_PARSERS)
    return f"upstream has no field {str(name)[:80]!r}; known are {known}"


def _text(given: object) -> str:
    if not isinstance(given, str) or not given.strip() or len(given) > MAX_TEXT:
        raise ValueError(f"must be text of 1 to {MAX_TEXT} characters")
    return given


def _base_urls(given: object) -> tuple[str, ...]:
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_BASE_URLS:
        raise ValueError(f"must be a list of 1 to {MAX_BASE_URLS} URLs")
    urls: list[str] = []
    for number, item in enumerate(given):
        try:
            url = read_base_url(item)
        except ValueError as error:
            raise ValueError(f"[{number}] {error}") from None
        if url in urls:
            raise ValueError(f"[{number}] is the same as [{urls.index(url)}]")
        urls.append(url)
    return tuple(urls)


def _model(given: object) -> str:
    text = _text(given)
    if not text.isprintable():
        raise ValueError("must be the model's name there, without control characters")
    return text


def _kind(given: object) -> ServerKind:
    if not isinstance(given, str) or given not in list(ServerKind):
        raise ValueError(f"must be one of {', '.join(ServerKind)}")
    return ServerKind(given)


def _place(given: object) -> str:
    text = _text(given)
    if not text.isprintable() or ".." in Path(text).parts:
        raise ValueError("must be an absolute path, or one below the model's folder")
    return text


def _key_file(given: object) -> str:
    text = _place(given)
    if not text.endswith(KEY_EXTENSION):
        raise ValueError(f"must be a file whose name ends in {KEY_EXTENSION}: no other file is ever sent as a key")
    return text


def _key_env(given: object) -> str:
    text = _text(given)
    if not _ENV_NAME.fullmatch(text):
        raise ValueError(
            f"must be a name that begins with {ENV_PREFIX} and has capitals, digits and _ only: no other variable is "
            "ever sent as a key"
        )
    return text


def _whole(low: int, high: int) -> Callable[[object], int]:
    def parse(given: object) -> int:
        if isinstance(given, bool) or not isinstance(given, int) or not low <= given <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return given

    return parse


def _seconds(high: float) -> Callable[[object], float]:
    def parse(given: object) -> float:
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= high:
            raise ValueError(f"must be a number of seconds above 0, at most {high:g}")
        return float(given)

    return parse


_PARSERS: Mapping[str, Callable[[object], Any]] = {
    "base_urls": _base_urls,
    "model": _model,
    "kind": _kind,
    "api_key_file": _key_file,
    "api_key_env": _key_env,
    "ca_file": _place,
    "ctx_len": _whole(16, 1 << 24),
    "max_concurrent": _whole(1, 10_000),
    "connect_timeout": _seconds(60),
    "timeout": _seconds(86_400),
}
if set(_PARSERS) != {item.name for item in fields(Upstream)}:
    raise TypeError("each field of Upstream has a parser, and nothing else has one")
