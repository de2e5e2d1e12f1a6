"""Remembers measured knobs in a small JSON file: fingerprint of machine, library, model and settings -> knobs."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from janflask.engine.context import ContextOptions
from janflask.engine.cores import usable_cores
from janflask.engine.model import LLAMA_VERSION, Model
from janflask.files import by_path
from janflask.models.engine_info import Knobs
from janflask.models.engine_settings import EngineSettings

log = logging.getLogger(__name__)

FORMAT = 1  # of the cache file; another number means: measure again


def fingerprint(model: Model, settings: EngineSettings, options: ContextOptions) -> str:
    """What the measurement depends on: machine, library, model and settings."""
    facts: dict[str, Any] = {
        "format": FORMAT,
        "llama": LLAMA_VERSION,
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "model": [model.description, model.size_bytes, model.n_params],
        "settings": asdict(replace(settings, queue_limit=0, start_timeout=0.0)),
        "n_seq": options.n_seq,
        "ctx_len": options.ctx_len,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _cpu_name() -> str:
    try:
        with Path("/proc/cpuinfo").open() as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"


def recall(cache_file: Path, fingerprint: str) -> Knobs | None:
    """What was remembered under this fingerprint; None if nothing was, or if the file cannot be used."""
    try:
        entry = json.loads(cache_file.read_text())[fingerprint]
        return replace(Knobs(**entry), source="remembered")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        if not isinstance(error, KeyError):
            log.warning("%s cannot be used (%s): measuring again", cache_file, error)
        return None


def remember(cache_file: Path, fingerprint: str, knobs: Knobs) -> None:
    """Adds the entry; a cache that cannot be written costs a measurement at the next start, not this one."""
    try:
        entries = json.loads(cache_file.read_text())
    except (OSError, ValueError):
        entries = None
    if not isinstance(entries, dict):
        entries = {}
    entries[fingerprint] = asdict(knobs)
    try:
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        by_path.replace(cache_file, json.dumps(entries, indent=1).encode(), durable=False, mode=by_path.SHARED_MODE)
    except OSError as error:
        log.warning("the measured knobs cannot be remembered in %s: %s", cache_file, error)
