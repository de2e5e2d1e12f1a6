"""A model that another server runs: the ``upstream`` table of its ``model.json``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
    is in a file or an environment variable, never here. Times are in seconds.
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
