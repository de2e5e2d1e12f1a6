"""The doctor's look at a thread's runs, and at their event logs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

from janflask.errors import StoreDamagedError
from janflask.files import ids
from janflask.files.disk import opened_folder, read_plain
from janflask.storage.doctor.case import NOT_A_FILE, Case, Finding
from janflask.storage.file_runs import MAX_RUN_FILE, OPEN, RUNS
from janflask.storage.records import Run
from janflask.storage.run_json import run_from_json
from janflask.storage.run_log import decode_events
from janflask.storage.run_log_file import LOG_SUFFIX

MAX_LOG = 1 << 30  # bytes


def check_runs(case: Case, thread: int, thread_id: str) -> Iterator[Finding]:
    """The runs of the thread in the folder ``thread``, whose lock is held."""
    try:
        with opened_folder(RUNS, thread) as fd:
            for name in sorted(os.listdir(fd)):  # noqa: PTH208 - a descriptor
                yield from _check(case, fd, thread_id, name)
    except FileNotFoundError:
        return
    except OSError:
        yield Finding(f"threads/{thread_id}/{RUNS}", NOT_A_FILE.replace("plain file", "folder"))


def _check(case: Case, fd: int, thread_id: str, name: str) -> Iterator[Finding]:
    path = f"threads/{thread_id}/{RUNS}/{name}"
    stem, _, suffix = name.rpartition(".")
    try:
        if suffix == "json" and ids.is_id(stem):
            yield from _check_run(case, fd, thread_id, stem, path)
        elif f".{suffix}" == LOG_SUFFIX:
            decode_events(read_plain(fd, name, MAX_LOG, "it")[0])
        elif name == OPEN:
            read_plain(fd, name, 256, "it")
    except FileNotFoundError:  # it is over meanwhile
        return
    except StoreDamagedError as error:
        yield Finding(path, error.message.split("; `janflask doctor`")[0])
    except OSError:
        yield Finding(path, NOT_A_FILE)


def _check_run(case: Case, fd: int, thread_id: str, run_id: str, path: str) -> Iterator[Finding]:
    name = f"{run_id}.json"

    def put(run: Run) -> str | None:
        return case.put(fd, name, msgspec.json.encode(run))

    try:
        run, odd = run_from_json(case.read_object(fd, name, MAX_RUN_FILE), thread_id, run_id)
    except StoreDamagedError as error:
        finding = Finding(path, f"{error.message}; the run is lost, and listed no more")
        yield case.mended(finding, lambda: _set_aside(case, fd, name))
        return
    if odd:
        told = "; ".join(f"{field} {reason}" for field, reason in sorted(odd.items()))
        yield case.mended(Finding(path, told), lambda: put(run))


def _set_aside(case: Case, fd: int, name: str) -> str | None:
    kept = case.keep(fd, name)
    os.unlink(name, dir_fd=fd)
    return kept
