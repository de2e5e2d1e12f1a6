"""A model as the API shows it: Jan's fields, OpenAI's, and how it runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from janflask.models.catalog import source_urls
from janflask.models.engine_info import EngineInfo
from janflask.models.folder_ids import shown
from janflask.models.state import DownloadState, ModelState, ModelStatus
from janflask.models.upstream_health import upstream_object
from janflask.services.model import Model

# The words of Jan's reference for ``state``: one set in the list, another for a single model.
LIST_STATE: dict[ModelStatus, str | None] = {
    ModelStatus.NOT_DOWNLOADED: None,
    ModelStatus.DOWNLOADING: "downloading",
    ModelStatus.DOWNLOADED: "ready",
    ModelStatus.STARTING: "starting",
    ModelStatus.RUNNING: "ready",
    ModelStatus.STOPPING: "stopping",
    ModelStatus.STOPPED: "ready",
    ModelStatus.FAILED: None,
}
ONE_STATE: dict[ModelStatus, str] = {status: str(status) for status in ModelStatus} | {ModelStatus.FAILED: "stopped"}


def listed_model(model: Model) -> dict[str, Any]:
    """``model`` as an entry of the list."""
    return {**_common(model), "state": LIST_STATE[model.state.status]}


def single_model(model: Model) -> dict[str, Any]:
    """``model`` with all that is known of it."""
    info, common = model.state.info, _common(model)
    return {
        **common,
        "state": ONE_STATE[model.state.status],
        "metadata": common["metadata"] if info is None else {**common["metadata"], **_metadata(info)},
        "runtime": None if info is None else runtime(info, model.state),
        "stats": None if model.stats is None else asdict(model.stats),
    }


def model_event(model: Model) -> dict[str, Any]:
    """How ``model`` is, as an event that tells of a change."""
    status, download = model.state.status, model.state.download
    return {
        "id": model.card.id,
        "object": "model",
        "state": ONE_STATE[status],
        "status": str(status),
        "error": model.error,
        "download": None if download is None else _download(download),
    }


def _common(model: Model) -> dict[str, Any]:
    card, raw, download = model.card, model.card.raw, model.state.download
    return {
        "id": card.id,
        "folder": shown(card.folder) or None,
        "object": "model",
        "type": "model",
        "name": card.name,
        "version": _text(raw.get("version")) or "1.0",
        "description": _text(raw.get("description")) or "",
        "created": card.created,
        "owned_by": _text(card.metadata.get("author")) or ("local" if card.upstream is None else "upstream"),
        "source_url": next(iter(source_urls(card)), download and download.source),
        "format": "gguf" if card.upstream is None else "api",
        "status": str(model.state.status),
        "error": model.error,
        "notes": [*model.state.notes, *model.notes],
        "settings": card.settings,
        "parameters": card.parameters,
        "metadata": {"size": card.size_bytes, **card.metadata},
        "assets": [],
        "engine": _text(raw.get("engine")) or ("janflask" if card.upstream is None else str(card.upstream.kind)),
        "upstream": None if card.upstream is None else upstream_object(card.upstream, model.health),
        "download": None if download is None else _download(download),
    }


def _download(download: DownloadState) -> dict[str, Any]:
    transferred, total = download.transferred, download.total
    return {
        "stage": download.stage,
        "transferred": transferred,
        "total": total,
        "percent": round(100.0 * transferred / total, 1) if total else None,
        "bytes_per_second": download.bytes_per_second,
        "eta_seconds": download.eta_seconds,
        "error": download.error,
    }


def _metadata(info: EngineInfo) -> dict[str, Any]:
    return {
        "description": info.description,
        "architecture": info.architecture,
        "parameter_count": info.n_params,
        "context_length": info.ctx_train,
        "vocabulary_size": info.n_vocab,
        "gguf": info.metadata,
    }


def runtime(info: EngineInfo, state: ModelState) -> dict[str, Any]:
    """How a model runs."""
    return {
        "ctx_len": info.ctx_len,
        "n_parallel": info.n_parallel,
        "kv_cells": info.kv_cells,
        "prefix_sharing": info.can_share_prefix,
        "use_extra_bufts": info.use_extra_bufts,
        "knobs": asdict(info.knobs),
        "load_seconds": info.load_seconds,
        "memory_bytes": state.memory_bytes,
        "used_bytes": state.used_bytes,
        "embedding_width": info.embedding_width,
        "pid": state.pid,
        "started_at": state.started_at,
        "restarts": state.restarts,
        "llama_version": info.llama_version,
    }


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
