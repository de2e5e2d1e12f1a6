"""Remembers what was measured in a small JSON file: fingerprint of machine, library, model and settings -> figures."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from janflask.engine.context import ContextOptions
from janflask.engine.cores import usable_cores
from janflask.engine.figures import Figure, Figures
from janflask.engine.model import LLAMA_VERSION, Model
from janflask.engine.served import Served
from janflask.files import by_path
from janflask.models.engine_settings import EngineSettings

log = logging.getLogger(__name__)

FORMAT = 3  # of the cache file; another number means: measure again


def fingerprint(model: Model, settings: EngineSettings, options: ContextOptions) -> str:
    """What a figure depends on: machine, library, model, and the settings that a step's time depends on."""
    facts: dict[str, Any] = {
        "format": FORMAT,
        "llama": LLAMA_VERSION,
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "model": [model.description, model.size_bytes, model.n_params],
        "threads": options.cpu_threads,
        "n_seq": options.n_seq,
        "kv": [options.cache_type_k, options.cache_type_v, options.kv_unified],
        "weights": [settings.ngl, settings.use_extra_bufts, settings.lora],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _cpu_name() -> str:
    try:
        with Path("/proc/cpuinfo").open() as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"


@dataclass(slots=True)
class Memory:
    """What is known of one model under one fingerprint."""

    figures: Figures
    served: Served
    flash: str | None = None  # the choice of flash attention that is used; None: the guess
    proved: dict[str, float] = field(default_factory=dict)  # by the kernels: ms that a context's first token took


def recall(cache_file: Path, fingerprint: str, n_seq: int) -> Memory:
    """What was remembered under this fingerprint; nothing if the file cannot be used."""
    memory = Memory(Figures(), Served(n_seq))
    try:
        entry = json.loads(cache_file.read_text())[fingerprint]
        for name, value in entry["figures"].items():
            memory.figures[name] = _figure(value)
        memory.served.take(entry["served"])
        memory.flash = None if entry["flash"] is None else str(entry["flash"])
        for kernels, ms in entry.get("proved", {}).items():  # not in earlier files
            memory.proved[kernels] = _positive(ms)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        if not isinstance(error, KeyError) or error.args != (fingerprint,):
            log.warning("%s cannot be used (%s): measuring again", cache_file, error)
        return Memory(Figures(), Served(n_seq))
    return memory


def _positive(value: Any) -> float:
    """Raises ValueError, TypeError."""
    if not 0 < (number := float(value)) < float("inf"):
        raise ValueError(f"{number} ms")
    return number


def _figure(value: Any) -> Figure:
    """Raises ValueError, TypeError, KeyError, AttributeError for what is none."""
    ms = {str(choice): float(best) for choice, best in value["ms"].items()}
    figure = Figure(int(value["depth"]), ms, int(value["rounds"]), float(value["spread"]))
    if not ms or min(ms.values()) <= 0:
        raise ValueError("a figure without times")
    return figure


def remember(cache_file: Path, fingerprint: str, memory: Memory) -> None:
    """Puts it in place of what was there; a cache that cannot be written costs measuring at the next start."""
    try:
        entries = json.loads(cache_file.read_text())
    except (OSError, ValueError):
        entries = None
    if not isinstance(entries, dict):
        entries = {}
    entries[fingerprint] = {
        "figures": {name: asdict(figure) for name, figure in memory.figures.items()},
        "served": memory.served.as_json(),
        "flash": memory.flash,
        "proved": memory.proved,
    }
    try:
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        by_path.replace(cache_file, json.dumps(entries, indent=1).encode(), durable=False, mode=by_path.SHARED_MODE)
    except OSError as error:
        log.warning("what was measured cannot be remembered in %s: %s", cache_file, error)
