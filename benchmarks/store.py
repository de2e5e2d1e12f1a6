"""The store: what a durable message costs beside a bare write and fsync, and what reading costs when there is a lot."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import ROOT, Server, serving_store
from benchmarks.report import Row
from janflask.files import ids
from janflask.settings import Settings
from janflask.storage import open_repository
from janflask.storage.base import Page, Repository
from janflask.storage.jan import MESSAGES_FILE, THREAD_FILE, encode_message, encode_thread
from janflask.storage.records import Message, Thread

APPEND = 1.5  # times a bare write and fsync
APPEND_HTTP = 3.0  # times the time that bare writes and fsyncs take
PAGE_WARM_MS, PAGE_COLD_MS = 20.0, 1000.0
OWN_PAGE = 2.0  # times as long as a page of everybody's threads
LAST_MESSAGES_MS = 20.0
GROWTH_MIB = 4.0  # "flat": less than a hundredth of the file would be
GET_RATE, GET_SHARE = 1000.0, 0.7

CLIENTS = 8
WORKERS = 4  # twice the cores: which worker takes a connection is chance, and with few of them the load is uneven
ROUNDS = 7
SECONDS = 2.0  # of load in a round
THREADS, MESSAGES = 100_000, 100_000
OWNED, FEW, MANY = 10_000, "aaaaaaaaaaaa", "bbbbbbbbbbbb"
TEXT = "The quick brown fox jumps over the lazy dog. " * 6


@contextmanager
def folder_on_disk() -> Iterator[Path]:
    """A folder on the disk that data is kept on, which a temporary folder may not be."""
    disk = Path(os.environ.get("JANFLASK_DATA_DIR", ROOT / "data"))
    disk.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=disk) as folder:
        yield Path(folder)


def _repository(folder: Path, **settings: Any) -> Repository:
    return open_repository(Settings(data_dir=folder / "data", **settings))


def _thread(title: str, at_ms: int | None = None) -> Thread:
    at_ms = ids.now_ms() if at_ms is None else at_ms
    return Thread(id=ids.new_id(ids.THREAD, at_ms), created_ms=at_ms, updated_ms=at_ms, title=title)


def _message(thread_id: str) -> Message:
    content = ({"type": "text", "text": {"value": TEXT, "annotations": []}},)
    return Message(id=ids.new_id(ids.MESSAGE), thread_id=thread_id, created_ms=ids.now_ms(), content=content)


def _bare(file: Path, data: bytes, count: int) -> list[float]:
    """Seconds that each of ``count`` writes with its fsync takes."""
    times = []
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for _ in range(count):
            started = time.perf_counter()
            os.write(fd, data)
            os.fsync(fd)
            times.append(time.perf_counter() - started)
    finally:
        os.close(fd)
    return times


# --- writing --------------------------------------------------------------------------------------------------------


def append() -> list[Row]:
    """One message through the repository, against a bare write and fsync of the same bytes on the same disk."""
    count = 400
    ours: list[float] = []
    bare: list[float] = []
    with folder_on_disk() as folder:
        threads = _repository(folder).threads
        thread_id = threads.create(_thread("append")).id
        line = encode_message(_message(thread_id))
        for _ in range(ROUNDS):
            bare += _bare(folder / "bare", line, count)
            for message in [_message(thread_id) for _ in range(count)]:
                started = time.perf_counter()
                threads.append(thread_id, [message])
                ours.append(time.perf_counter() - started)
    detail = {"ms": round(median(ours) * 1e3, 3), "bare_ms": round(median(bare) * 1e3, 3), "bytes": len(line)}
    name = "durable append, vs a bare write + fsync of the same bytes"
    return [Row(name, median(ours) / median(bare), APPEND, "x", at_least=False, detail=detail)]


def append_http() -> list[Row]:
    """8 clients post messages, each to a thread of its own, against the rate of bare writes and fsyncs."""
    rates, bare = [], []
    body = json.dumps({"role": "user", "content": TEXT}).encode()
    with folder_on_disk() as folder, serving_store(folder / "data", workers=WORKERS) as server:
        names = [server.post("/v1/threads", b"{}")["id"] for _ in range(CLIENTS)]
        requests = [request("POST", f"/v1/threads/{name}/messages", body) for name in names]
        line = encode_message(_message(names[0]))
        for _ in range(ROUNDS):
            times = _bare(folder / "bare", line, 2000)
            bare.append(len(times) / sum(times))
            rates.append(load(server, requests))
    detail = {"per_second": round(median(rates)), "bare_per_second": round(median(bare))}
    name = "POST message, 8 clients on 8 threads, vs the bare fsync rate"
    # Round by round, each with its own bare rate: what slows the machine for a while slows both.
    times_slower = median(alone / ours for alone, ours in zip(bare, rates, strict=True))
    return [Row(name, times_slower, APPEND_HTTP, "x", at_least=False, detail=detail)]


# --- reading --------------------------------------------------------------------------------------------------------

# What a new process does for its first page, timed from when the store is opened; then the same page again and again.
_COLD = """
import json, sys, time
from pathlib import Path
from statistics import median
import psutil
from janflask.settings import Settings
from janflask.storage import open_repository
from janflask.storage.base import Page
settings = Settings(data_dir=Path(sys.argv[1]))
open_repository(settings)  # what it imports
process = psutil.Process()
def once():
    started = time.perf_counter()
    {call}
    return (time.perf_counter() - started) * 1e3
before = process.memory_info().rss
threads = open_repository(settings).threads
first = once()
again = median([once() for _ in range(200)])
print(json.dumps({{"first": first, "again": again, "growth": (process.memory_info().rss - before) / 2**20}}))
"""


def _in_new_process(folder: Path, call: str, *arguments: str) -> dict[str, float]:
    command = [sys.executable, "-c", _COLD.format(call=call), str(folder / "data"), *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def threads_page() -> list[Row]:
    """A page of 20 of 100,000 threads: again, in a new process, and in one that finds no index."""
    page = "assert len(threads.list(Page(limit=20)).items) == 20; threads.count()"
    with folder_on_disk() as folder:
        write_threads(folder / "data" / "threads", THREADS)
        unindexed = _in_new_process(folder, page)
        cold, warm = [], []
        for _ in range(ROUNDS):
            figures = _in_new_process(folder, page)
            cold.append(figures["first"])
            warm.append(figures["again"])
        threads = _repository(folder).threads
        deep = median(_paged_through(lambda after: [x.id for x in threads.list(Page(after=after)).items]))
        removed = []
        for _ in range(3):
            shutil.rmtree(folder / "data" / "cache")
            removed.append(_in_new_process(folder, page)["first"])
    detail = {"first_of_all_ms": round(unindexed["first"], 1), "page_after_page_ms": round(deep, 2)}
    name = f"20 of {THREADS:,} threads"
    return [
        Row(f"{name}, warm", median(warm), PAGE_WARM_MS, "ms", at_least=False, detail=detail),
        Row(f"{name}, in a new process", median(cold), PAGE_COLD_MS, "ms", at_least=False),
        Row(f"{name}, in a new process, no index", median(removed), PAGE_COLD_MS, "ms", at_least=False),
    ]


def own_page() -> list[Row]:
    """A page of 20 of a key's threads, of which it has ten in 10,000 or all but ten, against a page of all of them."""
    with folder_on_disk() as folder:
        write_threads(folder / "data" / "threads", OWNED, lambda number: FEW if number % (OWNED // 10) == 0 else MANY)
        times: dict[str, list[float]] = {}
        firsts = []
        for _ in range(3):
            for owner in (None, FEW, MANY):
                page = f"len(threads.list(Page(limit=20, owner={owner!r})).items); threads.count({owner!r})"
                figures = _in_new_process(folder, page)
                times.setdefault(owner or "all", []).append(figures["again"])
                firsts.append(figures["first"])
    every = median(times["all"])
    detail = {"all_ms": round(every, 2), "owners_read_ms": round(max(firsts))}
    return [
        Row(
            f"20 of {OWNED:,} threads, a key's {name}, vs everybody's",
            median(times[owner]) / every,
            OWN_PAGE,
            "x",
            at_least=False,
            detail={**detail, "ms": round(median(times[owner]), 2)},
        )
        for name, owner in (("ten", FEW), ("all but ten", MANY))
    ]


def write_threads(root: Path, count: int, owner_of: Callable[[int], str | None] = lambda _: None) -> None:
    """As many threads, as they are on disk; through the repository it would take minutes."""
    start = ids.now_ms() - count * 1000
    for number in range(count):
        thread = replace(_thread(f"thread {number}", start + number * 1000), owner=owner_of(number))
        folder = root / thread.id
        folder.mkdir(parents=True)
        (folder / THREAD_FILE).write_bytes(encode_thread(thread))
        (folder / MESSAGES_FILE).touch()


def _paged_through(page: Callable[[str | None], Sequence[str]], pages: int = 100) -> list[float]:
    """Milliseconds of each page after the other."""
    times = []
    after: str | None = None
    for _ in range(pages):
        started = time.perf_counter()
        after = page(after)[-1]
        times.append((time.perf_counter() - started) * 1e3)
    return times


def long_thread() -> list[Row]:
    """The last 20 messages of a thread with 100,000, in new processes, and how much these grow."""
    page = "assert len(threads.list_messages(sys.argv[2], Page(limit=20)).items) == 20"
    with folder_on_disk() as folder:
        threads = _repository(folder, durability="os").threads
        thread_id = threads.create(_thread("long")).id
        for _ in range(MESSAGES // 1000):
            threads.append(thread_id, [_message(thread_id) for _ in range(1000)])
        size = (folder / "data" / "threads" / thread_id / MESSAGES_FILE).stat().st_size
        figures = [_in_new_process(folder, page, thread_id) for _ in range(ROUNDS)]
        started = time.perf_counter()
        found = threads.list_messages(thread_id, Page(limit=20, before=threads.message_ids(thread_id)[50_000]))
        middle = (time.perf_counter() - started) * 1e3
    first, again, growth = (median([each[name] for each in figures]) for name in ("first", "again", "growth"))
    detail = {"first_ms": round(first, 2), "file_mib": size >> 20, "middle_ms": round(middle), "got": len(found.items)}
    name = f"last 20 of {MESSAGES:,} messages"
    return [
        Row(name, again, LAST_MESSAGES_MS, "ms", at_least=False, detail=detail),
        Row(f"{name}, in a new process", first, LAST_MESSAGES_MS, "ms", at_least=False),
        Row(f"{name}, growth of the process", growth, GROWTH_MIB, "MiB", at_least=False),
    ]


def get_thread() -> list[Row]:
    """GET one thread with 8 clients, against an empty Flask view behind the same gunicorn."""
    rates, empty = [], []
    with (
        folder_on_disk() as folder,
        serving_store(folder / "data", workers=WORKERS) as server,
        serving_store(folder / "data", "benchmarks.empty_app:app", workers=WORKERS) as other,
    ):
        name = server.post("/v1/threads", b'{"messages":[{"role":"user","content":"Hello"}]}')["id"]
        requests = [request("GET", f"/v1/threads/{name}")] * CLIENTS
        for _ in range(ROUNDS):
            rates.append(load(server, requests))
            empty.append(load(other, requests))
    detail = {"empty_per_second": round(median(empty))}
    return [
        Row("GET one thread, 8 clients", median(rates), GET_RATE, "/s", detail=detail),
        Row("GET one thread, vs an empty Flask view", median(rates) / median(empty), GET_SHARE, "x"),
    ]


# --- over HTTP ------------------------------------------------------------------------------------------------------


def request(method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    head += "".join(f"{name}: {text}\r\n" for name, text in (headers or {}).items())
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def load(server: Server, requests: list[bytes]) -> float:
    """Answers a second."""
    command = [sys.executable, "-m", "benchmarks.load", str(server.port), str(SECONDS)]
    given = "\n".join(request.hex() for request in requests)
    done = subprocess.run(command, cwd=ROOT, input=given, stdout=subprocess.PIPE, text=True, check=True)
    figures = json.loads(done.stdout)
    rate: float = figures["count"] / figures["seconds"]
    return rate
