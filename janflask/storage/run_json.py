"""Runs as JSON on disk, and back.

A run's file is written by the server alone, but earlier versions and hands may have put anything into it. What can be
meant is read, so that no file stands in its thread's way; a run that was not over, and of which something cannot be
meant, has failed with that as its reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

import msgspec

from janflask.decoding import convert, json_decoder
from janflask.errors import StoreDamagedError
from janflask.files import ids
from janflask.models.parameters import is_storable, shown
from janflask.storage.jan import decode_object
from janflask.storage.records import Run, RunKind, RunStatus

MAX_DEPTH = 64  # of what a run holds, such as ``metadata``
_TYPES = get_type_hints(Run)
_DECODER = json_decoder(Run)
STEP = "step_"  # what the id of a run's step begins with


def decode_run(data: bytes, thread_id: str, run_id: str) -> Run:
    """The run in a file, by the names of its folder and file, which count. Raises StoreDamagedError."""
    try:
        run = _DECODER.decode(data)
        msgspec.msgpack.encode(run)  # it goes to other processes
    except (msgspec.DecodeError, OverflowError, RecursionError):
        pass
    else:
        if (run.thread_id, run.id, run.kind) == (thread_id, run_id, kind_of(run_id)):
            return run
    return run_from_json(decode_object(data, f"run {run_id}"), thread_id, run_id)[0]


def kind_of(run_id: str) -> RunKind:
    """What its id says of a run."""
    if ids.thread_of(run_id) is None:
        return RunKind.RUN
    return RunKind.RESPONSE if run_id.startswith(ids.RESPONSE) else RunKind.CHAT


def run_from_json(raw: Mapping[str, Any], thread_id: str, run_id: str) -> tuple[Run, dict[str, str]]:
    """The run, and by their names the fields of which nothing could be made, with the reason.

    Raises StoreDamagedError for what is no run at all.
    """
    values: dict[str, Any] = _stand_ins(run_id)
    if not raw.keys() & values.keys():
        raise StoreDamagedError(f"run {run_id} cannot be read: its file holds no run; `janflask doctor` tells more")
    odd = {name: "is missing" for name in values if name not in raw}
    for name in raw.keys() & (_TYPES.keys() - {"id", "thread_id", "kind"}):
        try:
            values[name] = _understood(raw[name], _TYPES[name])
        except (ValueError, msgspec.MsgspecError) as error:
            odd[name] = f"is {shown(raw[name])}: {error}"
    run = Run(id=run_id, thread_id=thread_id, kind=kind_of(run_id), **values)
    if raw.get("kind", RunKind.RUN) != run.kind:
        odd["kind"] = f"is {shown(raw.get('kind'))}: its id is that of a {run.kind}"
    if not odd or (run.status.is_final and "status" not in odd):
        return run, odd
    told = "; ".join(f"{name} {reason}" for name, reason in sorted(odd.items()))
    failed = dataclasses.replace(
        run,
        status=RunStatus.FAILED,
        failed_ms=run.created_ms,
        error_code=StoreDamagedError.code,
        error_message=f"the run's file {run_id}.json cannot be understood: {told}",
    )
    return failed, odd


def _understood(value: Any, kind: Any) -> Any:
    """Raises ValueError and msgspec's errors."""
    if not is_storable(value, MAX_DEPTH):
        raise ValueError(f"must be nested at most {MAX_DEPTH} deep, and hold no whole number beyond 64 bits")
    return convert(value, kind, strict=False)


def _stand_ins(run_id: str) -> dict[str, Any]:
    """For the fields that every run has."""
    created, rest = ids.time_of(run_id) or 0, ids.tail_of(run_id)
    return {
        "assistant_id": "",
        "message_id": (ids.MESSAGE + rest)[:128],
        "step_id": (STEP + rest)[:128],
        "created_ms": created,
        "expires_ms": created,
        "model": "",
    }
