"""Models as text: tables, and how numbers are written. Reads the API's Model objects; any part may be missing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console

from janflask.cli.store import moment
from janflask.cli.terminal import Rows
from janflask.models.card import ModelCard
from janflask.models.catalog import source_urls
from janflask.models.folder_ids import shown
from janflask.models.memory_estimate import in_gib
from janflask.models.upstream_health import NobodyAsked, upstream_object

Json = Mapping[str, Any]

MISSING = "-"


def card_object(card: ModelCard) -> dict[str, Any]:
    """A model on disk in the shape of the API's Model object, for when no server runs."""
    return {
        "id": card.id,
        "folder": shown(card.folder),
        "object": "model",
        "name": card.name,
        "description": card.raw.get("description") or "",
        "source_url": next(iter(source_urls(card)), None),
        "created": card.created,
        "state": "downloaded" if card.present else "not_downloaded",
        "status": "downloaded" if card.present else "not_downloaded",
        "error": card.problem,
        "notes": [],
        "settings": card.settings,
        "parameters": card.parameters,
        "metadata": {**card.metadata, "size": card.size_bytes},
        "upstream": None if card.upstream is None else upstream_object(card.upstream, NobodyAsked().known(card)),
    }


def status_of(model: Json) -> str:
    """The state machine's word, or the shorter ``state`` of a server that tells no ``status``."""
    return str(model.get("status") or model.get("state") or "unknown")


def print_list(models: Iterable[Json], out: Console) -> None:
    """Models on disk or on a server, one a row."""
    models = list(models)
    headings = ["MODEL", "STATE", "SIZE", "QUANTIZATION", "PARAMETERS", "CONTEXT", "CREATED"]
    foreign, elsewhere = any(folder_of(model) for model in models), any(part(model, "upstream") for model in models)
    table = _table(*headings, *(["UPSTREAM"] if elsewhere else []), *(["FOLDER"] if foreign else []))
    for model in models:
        meta = part(model, "metadata")
        row = [str(model.get("id")), _state(model), size(meta.get("size")), text(meta.get("quantization"))]
        row += [quantity(meta.get("parameter_count")), text(meta.get("context_length"))]
        created = _number(model.get("created"))
        row.append(MISSING if created is None else moment(int(created * 1000)))
        row += [text(", ".join(base_urls(model)))] if elsewhere else []
        table.add_row(*row, *([text(folder_of(model))] if foreign else []))
    out.print(table)


def print_processes(models: Iterable[Json], out: Console) -> None:
    """Models that run here, then the servers of those that run elsewhere."""
    models = list(models)
    here, elsewhere = ([model for model in models if bool(part(model, "upstream")) is there] for there in (False, True))
    if here:
        _print_engines(here, out)
    if here and elsewhere:
        out.print()
    if elsewhere:
        _print_servers(elsewhere, out)


def _print_servers(models: Iterable[Json], out: Console) -> None:
    table = _table("MODEL", "UPSTREAM", "STATE", "FOR", "REQUESTS", "ERROR")
    for model in models:
        for server in servers(model):
            row = [str(model.get("id")), text(server.get("base_url")), reached(server), uptime(server.get("since"))]
            table.add_row(*row, requests(model, server), text(server.get("error")))
    out.print(table)


def _print_engines(models: Iterable[Json], out: Console) -> None:
    """Where the server tells no statistics there is a dash."""
    load = ("SLOTS", "WAITING", "KV", "TOKENS", "TOKENS/S")
    table = _table("MODEL", "STATE", "PID", *load, "MEMORY", "USED", "IDLE", "UPTIME")
    for model in models:
        runtime, stats = part(model, "runtime"), part(model, "stats")
        row = [str(model.get("id")), status_of(model), text(runtime.get("pid")), share(stats, "busy", "slots")]
        row += [text(stats.get("waiting")), share(stats, "kv_used", "kv_cells"), text(stats.get("generated_tokens"))]
        row += [_rate(stats), _memory(runtime.get("memory_bytes")), _memory(runtime.get("used_bytes")), _idle(stats)]
        table.add_row(*row, uptime(runtime.get("started_at")))
    out.print(table)


def with_rates(before: Iterable[Json], after: Iterable[dict[str, Any]], seconds: float) -> list[dict[str, Any]]:
    """``after`` with what each model generated since ``before`` in its ``stats``, as ``tokens_per_second``."""
    earlier = {model.get("id"): part(model, "stats").get("generated_tokens") for model in before}
    rated = []
    for model in after:
        stats, first = part(model, "stats"), earlier.get(model.get("id"))
        last = stats.get("generated_tokens")
        if isinstance(first, int) and isinstance(last, int) and last >= first:
            model = {**model, "stats": {**stats, "tokens_per_second": (last - first) / seconds}}
        rated.append(model)
    return rated


def one_liner(model: Json) -> str:
    """A model in one line: what it is, as far as that is known."""
    meta = part(model, "metadata")
    facts = [meta.get("architecture"), quantity(meta.get("parameter_count")), meta.get("quantization")]
    facts += [size(meta.get("size")), count(meta.get("context_length"), "tokens of context")]
    facts += [f"at {url}" for url in base_urls(model)]
    known = ", ".join(text(fact) for fact in facts if text(fact) != MISSING)
    return f"{model.get('id')} ({known})" if known else str(model.get("id"))


def servers(model: Json) -> list[Json]:
    """Of a model that another server runs, each of these; empty for one that runs here."""
    listed = part(model, "upstream").get("servers")
    return [server for server in listed if isinstance(server, Mapping)] if isinstance(listed, list) else []


def base_urls(model: Json) -> list[str]:
    """The same, their URLs alone."""
    return [str(server.get("base_url")) for server in servers(model)]


def reached(server: Json) -> str:
    """How a server of an upstream is, in a word or two."""
    words = {True: "reachable", False: "not reachable", None: "not asked yet"}
    return words.get(server.get("reachable"), MISSING)


def requests(model: Json, server: Json) -> str:
    """``3/64``: requests under way at a server of an upstream, of how many it gets at once."""
    return f"{text(server.get('under_way'))}/{text(part(model, 'upstream').get('max_concurrent'))}"


def folder_of(model: Json) -> str | None:
    """The name of a model's folder, which leads to it, too; None where that is its id."""
    folder = model.get("folder")
    return str(folder) if folder and folder != model.get("id") else None


def _state(model: Json) -> str:
    percent = part(model, "download").get("percent")
    state = status_of(model) if percent is None else f"{status_of(model)} {percent:.0f} %"
    return f"{state}: {model['error']}" if model.get("error") else state


def _rate(stats: Json) -> str:
    rate = stats.get("tokens_per_second")
    if rate is None and stats.get("busy") == 0:
        rate = 0.0
    return MISSING if rate is None else f"{rate:.1f}"


def _idle(stats: Json) -> str:
    seconds = stats.get("idle_seconds")
    return MISSING if stats.get("busy") or not isinstance(seconds, int | float) else duration(seconds)


def _memory(value: object) -> str:
    number = _number(value)
    return MISSING if number is None else in_gib(int(number))


def size(value: object) -> str:
    """Bytes of a file or a download, in the unit that suits them; ``in_gib`` is for memory."""
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


def _table(*headings: str) -> Rows:
    table = Rows()
    for heading in headings:
        table.add_column(heading, no_wrap=heading == "MODEL", overflow="fold")
    return table


def part(model: Json, name: str) -> Json:
    """One of the objects in it; empty where there is none."""
    value = model.get(name)
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def share(stats: Json, part: str, whole: str) -> str:
    """``3/8``: of the ``whole``, the ``part``."""
    return f"{stats[part]}/{stats[whole]}" if part in stats and whole in stats else MISSING


def count(value: object, unit: str) -> str | None:
    """A number with what it counts."""
    return None if value is None else f"{value} {unit}"


def in_seconds(value: object) -> str | None:
    """``1.2 s``."""
    number = _number(value)
    return None if number is None else f"{number:.1f} s"


def uptime(started_at: object) -> str:
    """Time since a moment in seconds since the epoch."""
    number = _number(started_at)
    return MISSING if number is None else duration(time.time() - number)


def ids(models: Iterable[Json]) -> str:
    """The models' ids, for a message."""
    return ", ".join(str(model.get("id")) for model in models)
