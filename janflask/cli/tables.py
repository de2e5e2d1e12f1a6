"""Models as text: tables, and the lines of ``models show``. Reads the API's Model objects; any part may be missing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from janflask.types import ModelCard

Json = Mapping[str, Any]

MISSING = "-"
KNOBS = {
    "flash_attn": "flash attention",
    "kv_unified": "KV layout",
    "slice_size": "slice",
    "cpu_threads": "threads",
}


def card_object(card: ModelCard) -> dict[str, Any]:
    """A model on disk in the shape of the API's Model object, for when no server runs."""
    return {
        "id": card.id,
        "object": "model",
        "name": card.name,
        "created": card.created,
        "state": "not_downloaded" if card.path is None else "downloaded",
        "status": "not_downloaded" if card.path is None else "downloaded",
        "error": card.problem,
        "notes": [],
        "settings": card.settings,
        "parameters": card.parameters,
        "metadata": {**card.metadata, "size": card.size_bytes},
    }


def status_of(model: Json) -> str:
    """The state machine's word, or the shorter ``state`` of a server that tells no ``status``."""
    return str(model.get("status") or model.get("state") or "unknown")


def print_list(models: Iterable[Json], out: Console) -> None:
    """Models on disk or on a server, one a row."""
    table = _table("MODEL", "STATE", "SIZE", "QUANTIZATION", "PARAMETERS", "CONTEXT")
    for model in models:
        meta = _part(model, "metadata")
        state = f"{status_of(model)}: {model['error']}" if model.get("error") else status_of(model)
        row = [str(model.get("id")), state, size(meta.get("size")), text(meta.get("quantization"))]
        table.add_row(*row, quantity(meta.get("parameter_count")), text(meta.get("context_length")))
    out.print(table)


def print_processes(models: Iterable[Json], out: Console) -> None:
    """Running models; where the server tells no statistics there is a dash."""
    table = _table("MODEL", "STATE", "PID", "SLOTS", "WAITING", "KV", "TOKENS", "UPTIME")
    for model in models:
        runtime, stats = _part(model, "runtime"), _part(model, "stats")
        row = [str(model.get("id")), status_of(model), text(runtime.get("pid")), _share(stats, "busy", "slots")]
        row += [text(stats.get("waiting")), _share(stats, "kv_used", "kv_cells"), text(stats.get("generated_tokens"))]
        table.add_row(*row, _uptime(runtime.get("started_at")))
    out.print(table)


def print_model(model: Json, out: Console) -> None:
    """One model: what it is, how it runs (the knobs, and whether they were measured or pinned), and what to know."""
    meta, runtime = _part(model, "metadata"), _part(model, "runtime")
    rows = [
        ("model", model.get("id")),
        ("name", model.get("name")),
        ("description", model.get("description")),
        ("state", status_of(model)),
        ("error", model.get("error")),
        ("format", meta.get("description") or meta.get("quantization")),
        ("size", size(meta.get("size"))),
        ("parameters", quantity(meta.get("parameter_count"))),
        ("trained for", _count(meta.get("context_length"), "tokens")),
        *_runtime_rows(runtime),
        *_load_rows(_part(model, "stats")),
        ("settings", pairs(_part(model, "settings"))),
        ("defaults", pairs(_part(model, "parameters"))),
        *(("note", note) for note in model.get("notes") or ()),
    ]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in rows:
        if text(value) != MISSING:
            table.add_row(label, text(value))
    out.print(table)


def _runtime_rows(runtime: Json) -> list[tuple[str, object]]:
    return [
        ("context", _count(runtime.get("ctx_len"), "tokens")),
        ("slots", runtime.get("n_parallel")),
        ("KV cells", runtime.get("kv_cells")),
        *_knob_rows(_part(runtime, "knobs")),
        ("llama.cpp", runtime.get("llama_version")),
        ("loaded in", _seconds(runtime.get("load_seconds"))),
        ("pid", runtime.get("pid")),
        ("uptime", _uptime(runtime.get("started_at"))),
        ("restarts", runtime.get("restarts") or None),
    ]


def _load_rows(stats: Json) -> list[tuple[str, object]]:
    if not stats:
        return []
    tokens = [
        ("generated_tokens", "generated"),
        ("prompt_tokens", "of prompts"),
        ("cached_tokens", "from the prefix cache"),
    ]
    return [
        ("busy", f"{_share(stats, 'busy', 'slots')} slots, {text(stats.get('waiting'))} waiting"),
        ("KV used", _share(stats, "kv_used", "kv_cells")),
        ("tokens", ", ".join(f"{text(stats.get(name))} {words}" for name, words in tokens)),
    ]


def _knob_rows(knobs: Json) -> list[tuple[str, object]]:
    if not knobs:
        return []
    words: dict[str, object] = {name: knobs.get(name) for name in KNOBS}
    words["flash_attn"] = "on" if knobs.get("flash_attn") else "off"
    words["kv_unified"] = "unified" if knobs.get("kv_unified") else "a stream for each slot"
    words["slice_size"] = f"{text(knobs.get('slice_size'))} tokens"
    rows: list[tuple[str, object]] = [(label, words[name]) for name, label in KNOBS.items()]
    measured = ", ".join(f"{name} {float(value):.1f} ms" for name, value in _part(knobs, "measurements").items())
    return [*rows, ("knobs", f"{text(knobs.get('source'))}{': ' + measured if measured else ''}")]


def size(value: object) -> str:
    """Bytes, in the unit that suits them."""
    number = _number(value)
    if number is None:
        return MISSING
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def quantity(value: object) -> str:
    """A count, short: 135M, 1.2B. What is no number is shown as it is."""
    number = _number(value)
    if number is None:
        return text(value)
    for limit, unit in ((1e9, "B"), (1e6, "M")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """3s, 2m05s, 1h02m, 3d04h."""
    minutes, second = divmod(max(0, int(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02d}h"
    if hours:
        return f"{hours}h{minute:02d}m"
    return f"{minutes}m{second:02d}s" if minutes else f"{second}s"


def text(value: object) -> str:
    """A value for a cell; a dash where there is none."""
    return MISSING if value is None or value in ("", MISSING) else str(value)


def pairs(values: Json) -> str:
    """``name=value`` for a model's settings; unset ones are left out."""
    return "  ".join(f"{name}={value}" for name, value in values.items() if value not in (None, "", []))


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=heading == "MODEL", overflow="fold")
    return table


def _part(model: Json, name: str) -> Json:
    value = model.get(name)
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def _share(stats: Json, part: str, whole: str) -> str:
    return f"{stats[part]}/{stats[whole]}" if part in stats and whole in stats else MISSING


def _count(value: object, unit: str) -> str | None:
    return None if value is None else f"{value} {unit}"


def _seconds(value: object) -> str | None:
    number = _number(value)
    return None if number is None else f"{number:.1f} s"


def _uptime(started_at: object) -> str:
    number = _number(started_at)
    return MISSING if number is None else duration(time.time() - number)


def ids(models: Iterable[Json]) -> str:
    """The models' ids, for a message."""
    return ", ".join(str(model.get("id")) for model in models)
