"""The server as the API shows it: what is going on in it at one moment."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from janflask.api.answers.model_objects import runtime
from janflask.metrics.overview import MemoryUse, OpenRequest, Overview
from janflask.models.engine_info import EngineStats
from janflask.models.state import ModelState


def server_object(overview: Overview, version: str) -> dict[str, Any]:
    """``version``: of janflask."""
    return {
        "object": "server",
        "version": version,
        "started_at": None if overview.started_at is None else int(overview.started_at),
        "cores": overview.cores,
        "memory": _memory(overview.memory),
        "processes": [asdict(process) for process in overview.processes],
        "models": [_model(state, overview.stats.get(state.model_id)) for state in overview.models],
        "requests": [_request(request) for request in overview.requests],
        "missing": [asdict(silent) for silent in overview.missing],
    }


def _memory(memory: MemoryUse) -> dict[str, Any]:
    return {f"{name}_bytes": number for name, number in asdict(memory).items()}


def _model(state: ModelState, stats: EngineStats | None) -> dict[str, Any]:
    return {
        "id": state.model_id,
        "status": str(state.status),
        "memory_bytes": state.memory_bytes,
        "used_bytes": state.used_bytes,
        "runtime": None if state.info is None else runtime(state.info, state),
        "stats": None if stats is None else asdict(stats),
    }


def _request(request: OpenRequest) -> dict[str, Any]:
    answer = request.answer
    return {
        "id": answer.request_id,
        "model": request.model_id,
        "state": answer.state,
        "age_seconds": round(answer.age_seconds, 3),
        "prompt_tokens": answer.prompt_tokens,
        "cached_tokens": answer.cached_tokens,
        "computed_tokens": answer.computed_tokens,
        "answer_tokens": answer.answer_tokens,
        "tokens_per_second": round(answer.tokens_per_second, 2),
        "run_id": request.run_id,
        "thread_id": request.thread_id,
    }
