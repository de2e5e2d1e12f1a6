"""What a model is started with, and how one of its engines ended."""

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
    kv_bytes: int | None = None  # of its KV cache, once it has got room; None: nothing is known of it
    state_bytes: int = 0  # of KV states beside its slots, once it has got room
    notes: tuple[str, ...] = ()  # on what it got
    memory_bytes: int | None = None  # all that it takes, once it has got room

    def without_extra_bufts(self) -> Plan:
        """The same without llama.cpp's repacked CPU weights."""
        return replace(self, settings=replace(self.settings, use_extra_bufts=False))


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
