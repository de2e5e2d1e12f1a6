"""What a model is started with, how often that is tried again, and how one of its engines ended."""

from __future__ import annotations

from dataclasses import dataclass, replace

from janflask.models.engine_settings import EngineSettings
from janflask.supervisor.engine_process import Exit


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a model is started with."""

    model_path: str
    settings: EngineSettings
    prompt_template: str | None = None  # the model's setting
    insists_on_extra_bufts: bool = False  # the request itself said use_extra_bufts=true
    displaces: bool = True  # idle models make room for it
    kv_limit: int | None = None  # bytes for its KV cache, once it has got room
    memory_bytes: int | None = None  # all that it takes, once it has got room

    def without_extra_bufts(self) -> Plan:
        """The same without llama.cpp's repacked CPU weights."""
        return replace(self, settings=replace(self.settings, use_extra_bufts=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """How soon, and how often, a dead engine is started again. Seconds."""

    first_delay: float = 0.5  # doubled after each further death
    max_delay: float = 30.0
    max_deaths: int = 5  # in a row; then the model has failed
    healthy_after: float = 60.0  # a life this long makes the deaths before it count no more

    def delay(self, deaths: int) -> float:
        """The pause after the ``deaths``-th death in a row."""
        return min(self.max_delay, self.first_delay * 2.0 ** (deaths - 1))


@dataclass(frozen=True, slots=True)
class Life:
    """One engine's life: how it ended, how long it served (None: it never got ready), the end of its log."""

    exit: Exit
    served: float | None
    log_tail: str

    def __str__(self) -> str:
        return str(self.exit)

    @property
    def last_words(self) -> str:
        """For the end of an error message: what the engine wrote last."""
        return f". The last lines of its log:\n{self.log_tail}" if self.log_tail else ""
