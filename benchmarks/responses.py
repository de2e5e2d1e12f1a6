"""Responses beside chats, one response among very many, and a stream that is replayed."""

from __future__ import annotations

import http.client
import json
import random
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from benchmarks.harness import MODEL, REPLY_LIMIT, ROOT, Server, in_turns, post_request, serving, serving_store
from benchmarks.report import Row
from benchmarks.runs import CLIENTS, QUESTION, ROUNDS, TOKENS, all_answered, body_of, chats, rates_row
from benchmarks.store import folder_on_disk
from janflask.files import ids
from janflask.settings import Settings
from janflask.storage import open_repository
from janflask.storage.jan import MESSAGES_FILE, THREAD_FILE, encode_message, encode_thread
from janflask.storage.records import Message, Run, RunKind, RunStatus, Thread

STORED_SHARE, SHARE = 0.95, 0.98  # of the tokens a second of plain chats
GET_MS = 20.0
REPLAY = 10.0  # times real time
MANY = 100_000
ASKED = 300  # of these
EVENTS = 2000
TEXT = "The quick brown fox jumps over the lazy dog. " * 6


# --- beside chats -----------------------------------------------------------------------------------------------------


def streamed_responses() -> list[Row]:
    """8 streamed responses, stored or not, vs 8 streamed chats of the same question; in turns.

    Each kind has a server of its own, as of runs: what one leaves to do is not done while the other is measured.
    """
    return [_beside_chats("stored", True, STORED_SHARE), _beside_chats("store: false", False, SHARE)]


def _beside_chats(kind: str, store: bool, share: float) -> Row:
    settings: dict[str, Any] = {"ctx_len": 1024, "n_parallel": CLIENTS}
    with serving(**settings) as server, serving(checkout=ROOT, **settings, **server.knobs()) as other:
        chats(server), _responses(other, store)  # fill the prefix cache
        what = f"chats and responses ({kind})"
        times = in_turns(what, lambda _: chats(server), lambda _: _responses(other, store), ROUNDS)
    return rates_row(
        f"{CLIENTS} streamed responses' tokens/s ({kind}), vs {CLIENTS} streamed chats", times, share, "chat"
    )


def _responses(server: Server, store: bool) -> float:
    body = body_of(max_output_tokens=TOKENS, input=QUESTION, store=store)
    requests = [post_request("/v1/responses", body)] * CLIENTS
    return all_answered(server, requests, b"event: response.incomplete", "output")


# --- one of many ------------------------------------------------------------------------------------------------------


def get_response() -> list[Row]:
    """One response of 100,000: each in a thread of its own, or all in one thread."""
    rows = []
    for name, write in (("each in a thread of its own", _in_many_threads), ("all in one thread", _in_one_thread)):
        with folder_on_disk() as folder:
            names = write(folder / "data", MANY)
            asked = random.Random(1).sample(names, ASKED)
            with serving_store(folder / "data") as server:
                times = list(_get_each(server, asked))
        ordered = sorted(times)
        detail = {
            "first_ms": round(times[0], 1),
            "p95_ms": round(ordered[len(ordered) * 95 // 100], 1),
            "slowest_ms": round(ordered[-1], 1),
        }
        rows.append(Row(f"GET a response of {MANY:,}, {name}", median(times), GET_MS, "ms", False, detail))
    return rows


def _get_each(server: Server, names: Sequence[str]) -> Iterator[float]:
    """Milliseconds of each, over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=REPLY_LIMIT)
    for name in names:
        started = time.perf_counter()
        connection.request("GET", f"/v1/responses/{name}")
        reply = connection.getresponse()
        said = json.loads(reply.read())
        took = (time.perf_counter() - started) * 1e3
        if said.get("id") != name or not said["output"]:
            raise SystemExit(f"no response: {said}")
        yield took
    connection.close()


def _in_many_threads(data: Path, count: int) -> list[str]:
    """As they are on disk; through the repository it would take very long."""
    names = []
    start = ids.now_ms() - count * 1000
    for number in range(count):
        at_ms = start + number * 1000
        thread = Thread(id=ids.new_id(ids.THREAD, at_ms), created_ms=at_ms, updated_ms=at_ms, title=f"thread {number}")
        run, messages = _answer(thread.id, at_ms)
        folder = data / "threads" / thread.id
        (folder / "runs").mkdir(parents=True)
        (folder / THREAD_FILE).write_bytes(encode_thread(thread))
        (folder / MESSAGES_FILE).write_bytes(b"".join(map(encode_message, messages)))
        (folder / "runs" / f"{run.id}.json").write_bytes(msgspec.json.encode(run))
        names.append(run.id)
    return names


def _in_one_thread(data: Path, count: int) -> list[str]:
    """The same, each behind the one before."""
    names = []
    start = ids.now_ms() - count * 1000
    threads = open_repository(Settings(data_dir=data, durability="os")).threads
    thread = Thread(id=ids.new_id(ids.THREAD, start), created_ms=start, updated_ms=start, title="long")
    threads.create(thread)
    runs = data / "threads" / thread.id / "runs"
    runs.mkdir()
    said: list[Message] = []
    for number in range(count):
        run, messages = _answer(thread.id, start + number * 1000)
        (runs / f"{run.id}.json").write_bytes(msgspec.json.encode(run))
        names.append(run.id)
        said += messages
        if len(said) >= 1000:
            threads.append(thread.id, said)
            said = []
    threads.append(thread.id, said)
    return names


def _answer(thread_id: str, at_ms: int) -> tuple[Run, list[Message]]:
    """A response that is done, with its question."""
    run_id = ids.new_answer_id(ids.RESPONSE, thread_id)
    asked, reply = (
        Message(
            id=ids.new_id(ids.MESSAGE),
            thread_id=thread_id,
            created_ms=at_ms,
            role=role,
            content=({"type": "text", "text": {"value": TEXT, "annotations": []}},),
            run_id=run_id if role == "assistant" else None,
            completed_ms=at_ms,
        )
        for role in ("user", "assistant")
    )
    run = Run(
        id=run_id,
        thread_id=thread_id,
        assistant_id="jan",
        message_id=reply.id,
        step_id=ids.new_id("step_"),
        created_ms=at_ms,
        expires_ms=at_ms + 600_000,
        model=MODEL,
        status=RunStatus.COMPLETED,
        kind=RunKind.RESPONSE,
        input_ids=(asked.id,),
        started_ms=at_ms,
        replied_ms=at_ms,
        completed_ms=at_ms,
        prompt_tokens=100,
        cached_tokens=0,
        completion_tokens=100,
    )
    return run, [asked, reply]


# --- again ------------------------------------------------------------------------------------------------------------


def replayed_response() -> list[Row]:
    """The stream of a response of 2,000 events as it was, and told once more from its log."""
    shares, times = [], []
    with serving(ctx_len=4096, n_parallel=1) as server:
        for number in range(3):
            body = body_of(max_output_tokens=EVENTS, input=f"{number}. {QUESTION}", store=True)
            first, heard = _stream(server, post_request("/v1/responses", body))
            name = json.loads(heard.split(b"data: ", 1)[1].split(b"\n", 1)[0])["response"]["id"]
            request = f"GET /v1/responses/{name}?stream=true HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            for _ in range(ROUNDS):
                again, told = _stream(server, request.encode())
                if _events(told) != _events(heard) or len(_events(told)) < EVENTS:
                    raise SystemExit(f"{name} is told otherwise: {len(_events(told))} events of {len(_events(heard))}")
                shares.append(first / again)
                times.append(again * 1e3)
    name = f"replaying a stream of {EVENTS:,} events, vs real time"
    return [Row(name, median(shares), REPLAY, "x", detail={"ms": round(median(times), 1)})]


def _stream(server: Server, request: bytes) -> tuple[float, bytes]:
    """Seconds that it took, and what was heard."""
    heard, started = bytearray(), time.perf_counter()
    with socket.create_connection(("127.0.0.1", server.port), timeout=REPLY_LIMIT) as sock:
        sock.sendall(request)
        while data := sock.recv(1 << 16):
            heard += data
    return time.perf_counter() - started, bytes(heard)


def _events(stream: bytes) -> list[bytes]:
    """All but comments and the times of beginning and end."""
    return [line for line in stream.split(b"\n") if line.startswith(b"event: ") or b'"delta"' in line]
