"""Runs beside plain chats, and streams that are joined again."""

from __future__ import annotations

import json
import random
import re
import selectors
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import (
    MODEL,
    REPLY_LIMIT,
    ROOT,
    Server,
    in_turns,
    linked_data,
    post_request,
    serving,
    serving_store,
)
from benchmarks.report import Row

SHARE = 0.97  # of the tokens a second of plain chats
CLIENTS = 8
TOKENS = 128  # of each answer
ROUNDS = 7
LONG = 4000  # tokens of a long thread, about
TURNS = 5
UP, AGAIN = 10.0, 5.0  # times less to the first token than computing the whole thread
CUTS = 40  # streams that are left in the middle and joined again
QUESTION = "Tell me about the sea, the wind and the stars, and leave nothing out."


def streamed_runs() -> list[Row]:
    """8 streamed runs, their replies written to disk, vs 8 streamed chats of the same question; in turns.

    Each kind has a server of its own: what a run leaves to do (its KV state goes to disk when its slot is needed) is
    then done while the next runs are measured, not chats.
    """
    settings: dict[str, Any] = {"ctx_len": 1024, "n_parallel": CLIENTS}
    with serving(**settings) as server, serving(checkout=ROOT, **settings, **server.knobs()) as other:
        chats(server), _runs(other)  # fill the prefix cache
        times = in_turns("chats and runs", lambda _: chats(server), lambda _: _runs(other), ROUNDS)
    return [rates_row(f"{CLIENTS} streamed runs' tokens/s, vs {CLIENTS} streamed chats", times, SHARE, "chat")]


def rejoined_runs() -> list[Row]:
    """Streams that are cut somewhere and joined again by ``Last-Event-ID``: how many got all events once, in order."""
    rng, whole = random.Random(1), 0
    with serving(ctx_len=1024, n_parallel=CLIENTS) as server:
        for _ in range(CUTS):
            thread = _thread(server)
            body = body_of(max_completion_tokens=TOKENS) | {"stream": False}
            run = server.post(f"/v1/threads/{thread}/runs", json.dumps(body).encode())["id"]
            path = f"/v1/threads/{thread}/runs/{run}/events"
            heard = _numbers(_get(server, path, cut=rng.randrange(1, 20_000)))
            heard += _numbers(_get(server, path, after=heard[-1] if heard else 0))
            whole += heard == list(range(1, len(heard) + 1)) == _numbers(_get(server, path))
    return [Row("rejoined streams with all events, in order, once", whole / CUTS, 1.0, "", detail={"streams": CUTS})]


def chats(server: Server, model: str = MODEL) -> float:
    """Seconds of ``CLIENTS`` streamed chats at once, ``TOKENS`` tokens each."""
    body = body_of(model=model, max_tokens=TOKENS, stream_options={"include_usage": True})
    body["messages"] = [{"role": "user", "content": QUESTION}]
    return all_answered(server, [post_request("/v1/chat/completions", body)] * CLIENTS)


def rates_row(name: str, times: list[tuple[float, float]], share: float, first: str) -> Row:
    """Tokens a second of the rounds' second kind against the first, called ``first``; of ``CLIENTS`` answers each."""
    tokens = CLIENTS * TOKENS
    detail = {
        "tokens_per_second": round(tokens / median(second for _, second in times)),
        f"{first}_tokens_per_second": round(tokens / median(before for before, _ in times)),
    }
    return Row(name, median(before / second for before, second in times), share, "x", detail=detail)


def _runs(server: Server) -> float:
    body = body_of(max_completion_tokens=TOKENS) | {"instructions": ""}
    return all_answered(server, [post_request(f"/v1/threads/{_thread(server)}/runs", body) for _ in range(CLIENTS)])


def _thread(server: Server) -> str:
    body = {"messages": [{"role": "user", "content": QUESTION}]}
    return str(server.post("/v1/threads", json.dumps(body).encode())["id"])


def body_of(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "stream": True, "temperature": 0, "ignore_eos": True, **fields}


def all_answered(
    server: Server, requests: Sequence[bytes], end: bytes = b"[DONE]", tokens: str = "completion"
) -> float:
    """Seconds until all are answered, up to ``end``, with ``TOKENS`` tokens each. Raises SystemExit for another answer.

    ``tokens`` is what its usage calls them.
    """
    started = time.perf_counter()
    with selectors.DefaultSelector() as selector:
        tails: dict[int, bytes] = {}
        for request in requests:
            sock = socket.create_connection(("127.0.0.1", server.port))
            sock.sendall(request)
            selector.register(sock, selectors.EVENT_READ, sock)
            tails[sock.fileno()] = b""
        while selector.get_map():
            ready = selector.select(REPLY_LIMIT)
            if not ready:
                raise SystemExit("the server says nothing any more")
            for key, _ in ready:
                data = key.data.recv(1 << 16)
                if data:
                    tails[key.fd] = (tails[key.fd] + data)[-(1 << 16) :]
                    continue
                selector.unregister(key.data)
                key.data.close()
                counted = re.findall(rb'"%s_tokens": ?(\d+)' % tokens.encode(), tails[key.fd])
                if end not in tails[key.fd] or not counted or int(counted[-1]) != TOKENS:
                    raise SystemExit(f"an answer is not whole: {tails[key.fd][-1000:]!r}")
    return time.perf_counter() - started


def _get(server: Server, path: str, *, after: int = 0, cut: int | None = None) -> bytes:
    """What comes, or its first ``cut`` bytes."""
    heard = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=REPLY_LIMIT) as sock:
        sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nLast-Event-ID: {after}\r\n\r\n".encode()
        )
        while (cut is None or len(heard) < cut) and (data := sock.recv(1 << 16)):
            heard += data
    return heard


def _numbers(stream: bytes) -> list[int]:
    """Of the events that are whole."""
    whole = stream[: stream.rfind(b"\n\n")]
    return [int(line[4:]) for line in whole.splitlines() if line.startswith(b"id: ")]


# --- long threads ---------------------------------------------------------------------------------------------------


def next_turn() -> list[Row]:
    """The next turn of a long thread to its first token: the model up, and after a restart; vs computing it all."""
    with tempfile.TemporaryDirectory(prefix="janflask-bench-") as folder:
        data = linked_data(Path(folder))
        settings: dict[str, Any] = {"ctx_len": 8192, "n_parallel": 1}
        with serving_store(data, **settings) as server:
            thread = long_thread(server)
            first_token(server, thread)
            all_of_it = [first_token(server, thread, cache_prompt=False) for _ in range(TURNS)]
            first_token(server, thread)
            up = [first_token(server, thread) for _ in range(TURNS)]
        again = []
        for _ in range(TURNS):
            with serving_store(data, **settings) as server:
                server.put(f"/v1/models/{MODEL}/start")
                again.append(first_token(server, thread))
    whole = median(all_of_it)
    about = {"tokens": LONG, "computed_ms": round(1000 * whole)}
    return [
        Row("next turn, model up, vs computing it all", whole / median(up), UP, "x", detail=about),
        Row("next turn after a restart, vs computing it all", whole / median(again), AGAIN, "x", detail=about),
    ]


def long_thread(server: Server, nonce: str = "") -> str:
    """A thread of some 4,000 tokens; each message begins with ``nonce``."""
    turns = [
        {"role": role, "content": f"{nonce}{number}. " + "The quick brown fox jumps over the lazy dog. " * 12}
        for number in range(LONG // 250)
        for role in ("user", "assistant")
    ]
    return str(server.post("/v1/threads", json.dumps({"messages": turns}).encode())["id"])


def first_token(server: Server, thread: str, **fields: Any) -> float:
    """Seconds to the first text of a run with one more question."""
    added = [{"role": "user", "content": "And then?"}]
    body = body_of(max_completion_tokens=2) | {"instructions": "", "additional_messages": added} | fields
    started, first, heard = time.perf_counter(), 0.0, b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=REPLY_LIMIT) as sock:
        sock.sendall(post_request(f"/v1/threads/{thread}/runs", body))
        while data := sock.recv(1 << 16):
            heard += data
            if not first and b"thread.message.delta" in heard:
                first = time.perf_counter() - started
    if not first:
        raise SystemExit(f"no answer: {heard[-500:]!r}")
    return first
