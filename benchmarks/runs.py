"""Runs beside plain chats, and streams that are joined again."""

from __future__ import annotations

import json
import random
import selectors
import socket
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.harness import MODEL, REPLY_LIMIT, Server, serving
from benchmarks.report import Row

SHARE = 0.95  # of the tokens a second of plain chats
CLIENTS = 8
TOKENS = 128  # of each answer
ROUNDS = 7
CUTS = 40  # streams that are left in the middle and joined again
QUESTION = "Tell me about the sea, the wind and the stars, and leave nothing out."


def streamed_runs() -> list[Row]:
    """8 streamed runs, their replies written to disk, vs 8 streamed chats of the same question; in turns."""
    chats, runs = [], []
    with serving(ctx_len=1024, n_parallel=CLIENTS) as server:
        for number in range(ROUNDS + 1):
            chat, run = _chats(server), _runs(server)
            if number:  # the first round fills the prefix cache
                chats.append(chat)
                runs.append(run)
    rate = CLIENTS * TOKENS
    ratio = median(chat / run for chat, run in zip(chats, runs, strict=True))
    detail = {"tokens_per_second": round(rate / median(runs)), "chat_tokens_per_second": round(rate / median(chats))}
    return [Row(f"{CLIENTS} streamed runs' tokens/s, vs {CLIENTS} streamed chats", ratio, SHARE, "x", detail=detail)]


def rejoined_runs() -> list[Row]:
    """Streams that are cut somewhere and joined again by ``Last-Event-ID``: how many got all events once, in order."""
    rng, whole = random.Random(1), 0
    with serving(ctx_len=1024, n_parallel=CLIENTS) as server:
        for _ in range(CUTS):
            thread = _thread(server)
            body = _body(max_completion_tokens=TOKENS) | {"stream": False}
            run = server.post(f"/v1/threads/{thread}/runs", json.dumps(body).encode())["id"]
            path = f"/v1/threads/{thread}/runs/{run}/events"
            heard = _numbers(_get(server, path, cut=rng.randrange(1, 20_000)))
            heard += _numbers(_get(server, path, after=heard[-1] if heard else 0))
            whole += heard == list(range(1, len(heard) + 1)) == _numbers(_get(server, path))
    return [Row("rejoined streams with all events, in order, once", whole / CUTS, 1.0, "", detail={"streams": CUTS})]


def _chats(server: Server) -> float:
    body = _body(max_tokens=TOKENS) | {"messages": [{"role": "user", "content": QUESTION}]}
    return _all(server, [_request("/v1/chat/completions", body)] * CLIENTS)


def _runs(server: Server) -> float:
    body = _body(max_completion_tokens=TOKENS) | {"instructions": ""}
    return _all(server, [_request(f"/v1/threads/{_thread(server)}/runs", body) for _ in range(CLIENTS)])


def _thread(server: Server) -> str:
    body = {"messages": [{"role": "user", "content": QUESTION}]}
    return str(server.post("/v1/threads", json.dumps(body).encode())["id"])


def _body(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "stream": True, "temperature": 0, "ignore_eos": True, **fields}


def _request(path: str, body: dict[str, Any]) -> bytes:
    payload = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(payload)}\r\n\r\n".encode() + payload


def _all(server: Server, requests: Sequence[bytes]) -> float:
    """Seconds until all of them are answered. Raises SystemExit for an answer that is not whole."""
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
                    tails[key.fd] = (tails[key.fd] + data)[-64:]
                    continue
                selector.unregister(key.data)
                key.data.close()
                if b"[DONE]" not in tails[key.fd]:
                    raise SystemExit(f"an answer broke off: {tails[key.fd]!r}")
    return time.perf_counter() - started


def _get(server: Server, path: str, *, after: int = 0, cut: int | None = None) -> bytes:
    """What comes, or its first ``cut`` bytes."""
    heard = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=REPLY_LIMIT) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nLast-Event-ID: {after}\r\n\r\n".encode())
        while (cut is None or len(heard) < cut) and (data := sock.recv(1 << 16)):
            heard += data
    return heard


def _numbers(stream: bytes) -> list[int]:
    """Of the events that are whole."""
    whole = stream[: stream.rfind(b"\n\n")]
    return [int(line[4:]) for line in whole.splitlines() if line.startswith(b"id: ")]
