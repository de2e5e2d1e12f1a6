"""A model's card, the lines of ``models show``: what it is, how it runs, and the memory that it would need."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from janflask.cli.options import current_settings
from janflask.cli.tables import (
    MISSING,
    count,
    folder_of,
    in_seconds,
    pairs,
    part,
    quantity,
    reached,
    requests,
    servers,
    share,
    size,
    status_of,
    text,
    uptime,
)
from janflask.cli.terminal import Rows, one_line
from janflask.errors import InvalidRequestError
from janflask.models.card import ModelCard
from janflask.models.default_layout import layout_name, layout_note
from janflask.models.engine_settings import engine_settings
from janflask.models.gguf_header import GgufError, GgufHeader, read_header
from janflask.models.memory_estimate import GIB, in_gib
from janflask.settings import Settings
from janflask.supervisor.demand import Demand
from janflask.supervisor.machine_memory import Amount, limits

Json = Mapping[str, Any]

LENGTHS = (2048, 8192, 32768, 131072)  # contexts whose memory is told
SHOWN = 100  # characters of a template

# What is found in one family's chat templates only.
TEMPLATES = {
    "<|im_start|>": "ChatML",
    "<|start_header_id|>": "Llama 3",
    "<|header_start|>": "Llama 4",
    "<start_of_turn>": "Gemma",
    "<|channel|>": "Harmony",
    "<|start_of_role|>": "Granite",
    "[INST]": "Mistral or Llama 2",
    "<|end|>": "Phi 3",
    "<|user|>": "Zephyr",
}
KNOBS = {
    "flash_attn": "flash attention",
    "kv_unified": "KV layout",
    "slice_size": "slice",
    "cpu_threads": "threads",
}


def print_model(model: Json, out: Console, card: ModelCard | None = None) -> None:
    """One model: what it is, how it runs (the knobs, and whether they were measured or pinned), and what to know.

    ``card`` is the same model on this machine's disk, if it is there: what memory it would need is told from its file.
    """
    header = _header(card)
    template = "prompt_template"
    settings = {name: value for name, value in part(model, "settings").items() if name != template}
    rows = [
        *_identity_rows(model, header),
        *_template_rows(model, header),
        *_upstream_rows(model),
        *_download_rows(part(model, "download")),
        *_runtime_rows(part(model, "runtime")),
        *_load_rows(part(model, "stats")),
        ("settings", pairs(settings)),
        ("defaults", pairs(part(model, "parameters"))),
        *(("note", note) for note in model.get("notes") or ()),
    ]
    table = Rows(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in rows:
        if text(value) != MISSING:
            table.add_row(label, text(value))
    out.print(table)
    if card is not None and header is not None:
        out.print()
        print_memory(card, header, current_settings(), out)


def _identity_rows(model: Json, header: GgufHeader | None) -> list[tuple[str, object]]:
    meta = part(model, "metadata")
    architecture = meta.get("architecture") or (header and header.architecture)
    parameters = meta.get("parameter_count") or (header and header.parameter_count)
    return [
        ("model", model.get("id")),
        ("folder", folder_of(model)),
        ("name", model.get("name")),
        ("description", model.get("description")),
        ("state", status_of(model)),
        ("error", model.get("error")),
        ("source", model.get("source_url")),
        ("architecture", architecture),
        ("format", meta.get("description")),
        ("size", size(meta.get("size"))),
        ("parameters", quantity(parameters)),
        ("quantization", meta.get("quantization") or (header and header.quantization)),
        (
            "context" if part(model, "upstream") else "trained for",
            count(meta.get("context_length") or (header and header.context_length), "tokens"),
        ),
    ]


def _upstream_rows(model: Json) -> list[tuple[str, object]]:
    upstream = part(model, "upstream")
    if not upstream:
        return []
    rows: list[tuple[str, object]] = [("upstream", upstream.get("kind")), ("named there", upstream.get("model"))]
    for server in servers(model):
        error = f" ({server['error']})" if server.get("error") else ""
        state = f"{reached(server)}{error}, {requests(model, server)} requests"
        rows.append(("server", f"{text(server.get('base_url'))}  {state}"))
    return rows


def _download_rows(download: Json) -> list[tuple[str, object]]:
    if not download:
        return []
    of = f"{size(download.get('transferred'))} of {size(download.get('total'))}"
    return [("download", f"{download.get('stage')}, {of}"), ("download error", download.get("error"))]


def _runtime_rows(runtime: Json) -> list[tuple[str, object]]:
    return [
        ("context", count(runtime.get("ctx_len"), "tokens")),
        ("slots", runtime.get("n_parallel")),
        ("KV cells", runtime.get("kv_cells")),
        *_knob_rows(part(runtime, "knobs")),
        ("llama.cpp", runtime.get("llama_version")),
        ("loaded in", in_seconds(runtime.get("load_seconds"))),
        ("pid", runtime.get("pid")),
        ("uptime", uptime(runtime.get("started_at"))),
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
        ("busy", f"{share(stats, 'busy', 'slots')} slots, {text(stats.get('waiting'))} waiting"),
        ("KV used", _kv_used(stats)),
        ("tokens", ", ".join(f"{text(stats.get(name))} {words}" for name, words in tokens)),
    ]


def _kv_used(stats: Json) -> str:
    """Tokens, and the RAM that they take, if that is known."""
    tokens, taken = share(stats, "kv_used", "kv_cells"), stats.get("kv_bytes")
    return f"{tokens} tokens, {in_gib(taken)}" if isinstance(taken, int) else tokens


def _knob_rows(knobs: Json) -> list[tuple[str, object]]:
    if not knobs:
        return []
    words: dict[str, object] = {name: knobs.get(name) for name in KNOBS}
    words["flash_attn"] = "on" if knobs.get("flash_attn") else "off"
    words["kv_unified"] = "unified" if knobs.get("kv_unified") else "a stream for each slot"
    words["slice_size"] = f"{text(knobs.get('slice_size'))} tokens"
    rows: list[tuple[str, object]] = [(label, words[name]) for name, label in KNOBS.items()]
    measured = ", ".join(f"{name} {float(value):.1f} ms" for name, value in part(knobs, "measurements").items())
    sure = knobs.get("sure")
    source = text(knobs.get("source"))
    if source in ("measured", "remembered") and isinstance(sure, int | float) and sure < 1:
        source = f"{source}, {sure:.0%} for sure"
    return [*rows, ("knobs", f"{source}{': ' + measured if measured else ''}")]


# --- the template ---------------------------------------------------------------------------------------------------


def template_name(template: object) -> str | None:
    """What a chat template is called by what is typical of it, or else how it begins."""
    if not isinstance(template, str) or not template.strip():
        return None
    for mark, name in TEMPLATES.items():
        if mark in template:
            return name
    begin = one_line(template)
    return begin if len(begin) <= SHOWN else f"{begin[:SHOWN]}…"


def _template_rows(model: Json, header: GgufHeader | None) -> list[tuple[str, object]]:
    """Its name; of a text model without one what is used in its place, and what to know of that."""
    given = part(model, "settings").get("prompt_template") or part(model, "metadata").get("chat_template")
    name = template_name(given or (header and header.chat_template))
    if name is not None or header is None or header.is_embedding:
        return [("template", name)]
    note = layout_note(header.knows_chatml)
    told = note in (model.get("notes") or ())  # by its engine
    return [("template", f"none: {layout_name(header.knows_chatml)}"), *([] if told else [("note", note)])]


# --- memory ---------------------------------------------------------------------------------------------------------


def print_memory(card: ModelCard, header: GgufHeader, settings: Settings, out: Console) -> None:
    """What the model would take at several lengths of the context, and whether models may take that much here."""
    try:
        engine = engine_settings(card.settings, settings)
    except InvalidRequestError as error:
        out.print(one_line(f"What memory it would need cannot be told: {error.message}."))
        return
    most = limits(settings)
    demand = Demand(
        settings=engine,
        header=header,
        file_bytes=card.size_bytes,
        on_gpu=most.vram > 0,
        state_bytes=int(settings.kv_ram_gb * GIB),
    )
    at_once, usual = demand.parallel[0], next(iter(demand.longer_within(most)), demand.ctx_len)
    shown = Rows()
    parallels = sorted({1, at_once})
    for heading in ("CONTEXT", *("1 CONVERSATION" if number == 1 else f"{number} AT ONCE" for number in parallels)):
        shown.add_column(heading, no_wrap=True)
    for ctx_len in context_lengths(header.context_length, usual):
        row = [f"{ctx_len}{' *' if ctx_len == usual else ''}"]
        for parallel in parallels:
            fits = demand.amount(demand.estimate(parallel, ctx_len)).fits(most)
            total = in_gib(demand.wanted(parallel, ctx_len).total)
            row.append(total if fits else f"{total} (too much)")
        shown.add_row(*row)
    out.print(shown)
    out.print(
        f"Estimates; * as it is set. Models may take {in_gib(budget(most))} together here (JANFLASK_MEMORY_BUDGET_GB)."
        f"{_beside(demand)}"
    )


def _beside(demand: Demand) -> str:
    """What is counted in that it does not need."""
    if not demand.states:
        return ""
    return f" {in_gib(demand.states)} of each, where they fit, are for KV states beside the slots (JANFLASK_KV_RAM_GB)."


def context_lengths(trained: int | None, usual: int) -> list[int]:
    """Lengths worth telling: up to what the model was trained for, and the usual one."""
    most = trained or max(LENGTHS[1], usual)
    return sorted({length for length in (*LENGTHS, most) if length <= most} | {usual})


def budget(most: Amount) -> int:
    """Bytes that the running models may take together: of the GPUs' memory where there is a GPU to use."""
    return most.vram or most.ram


def _header(card: ModelCard | None) -> GgufHeader | None:
    """Of the model's file; None where there is none that can be read, which its state tells."""
    if card is None or card.path is None:
        return None
    try:
        return read_header(Path(card.path))
    except (OSError, GgufError):
        return None
