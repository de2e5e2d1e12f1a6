"""What open streams that say nothing cost those that do."""

from __future__ import annotations

import json
import selectors
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

from benchmarks.harness import MODEL, Server, Stream, post_request, random_tokens, serving
from benchmarks.report import Row
from benchmarks.store import request

CLIENTS = 8
IDLE = 500  # half of them ask for a place, half of them watch a run that waits for one
LONGEST = 2400  # tokens of each active stream: enough until all idle ones are there
MEASURED = 150  # of them, from where all idle ones are there; alone, the same ones
WORD = " the"
ROUNDS = 5
SHARE = 0.95
LIMIT = 60.0  # seconds


def idle_streams() -> list[Row]:
    """The rate of 8 active streams beside 500 idle ones, against theirs alone right after, for the same tokens.

    The active ones say one word all the time, so that each token is a chunk, and nothing is guessed ahead of it.
    """
    rates = []
    with serving(ctx_len=2560, n_parallel=CLIENTS, workers=2, threads=300, queue_limit=2 * IDLE, drafts=0) as server:
        print("  with / without ", end="", flush=True)
        for number in range(ROUNDS):
            beside, first = _moments(server, number, IDLE)
            alone, _ = _moments(server, number, 0, first)
            rates.append((_rate(beside, first), _rate(alone, first)))
            print(f"{rates[-1][0] / rates[-1][1]:.3f} ", end="", flush=True)
    print()
    detail = {"tokens_per_second": round(median(first for first, _ in rates)), "idle": IDLE}
    share = median(first / second for first, second in rates)
    return [Row(f"{CLIENTS} streams' tokens/s beside {IDLE} idle ones, vs alone", share, SHARE, "x", detail=detail)]


def _moments(server: Server, seed: int, idle: int, first: int = 0) -> tuple[list[float], int]:
    """When all active streams had so many tokens each, and how many that were when the idle ones were there.

    Without idle ones: ``first``.
    """
    (word,) = server.post("/v1/tokenize", json.dumps({"model": MODEL, "content": WORD}).encode())["tokens"]
    said: dict[str, object] = {"logit_bias": {str(word): 100}}
    streams = [Stream(random_tokens(20, 100 * seed + i), LONGEST, said) for i in range(CLIENTS)]
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stack.enter_context(stream.open(server.port)), selectors.EVENT_READ, stream)
        _read(selector, streams, 1)
        if idle:
            stack.enter_context(_idle(server, idle))
            _read(selector, streams, 0)  # what came meanwhile came at once
            first = min(len(stream.arrivals) for stream in streams) + 1
        _read(selector, streams, min(first + MEASURED, LONGEST - 1))
    return [max(moments) for moments in zip(*(stream.arrivals for stream in streams), strict=False)], first


def _rate(moments: list[float], first: int) -> float:
    """Tokens a second of all active streams together."""
    if first + MEASURED > LONGEST - 1:
        raise SystemExit("the active streams had ended before all idle ones were there")
    return CLIENTS * MEASURED / (moments[first + MEASURED - 1] - moments[first - 1])


def _read(selector: selectors.BaseSelector, streams: list[Stream], least: int) -> None:
    """What is there, and until each has so many tokens."""
    while True:
        there = min(len(stream.arrivals) for stream in streams) >= least
        ready = selector.select(0 if there else LIMIT)
        if there and not ready:
            return
        if not ready:
            raise SystemExit("the active streams say nothing any more")
        for key, _ in ready:
            if not key.data.read():
                raise SystemExit("an active stream has ended before it was measured")
        if there and least:
            return


@contextmanager
def _idle(server: Server, count: int) -> Iterator[None]:
    """They are open, and the server has answered all of them, while it lasts."""
    messages = [{"role": "user", "content": "Wait."}]
    body = {"model": MODEL, "prompt": [1000], "max_tokens": 1, "stream": True}
    run = {"model": MODEL, "assistant_id": "jan", "thread": {"messages": messages}, "max_completion_tokens": 1}
    with ExitStack() as stack:
        begun = server.post("/v1/threads/runs", json.dumps(run).encode())
        watched = request("GET", f"/v1/threads/{begun['thread_id']}/runs/{begun['id']}/events")
        asked = post_request("/v1/completions", body)
        opened = []
        for number in range(count):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), LIMIT))
            sock.sendall(asked if number % 2 else watched)
            opened.append(sock)
        for sock in opened:
            if not sock.recv(1 << 16).startswith(b"HTTP/1.1 200"):
                raise SystemExit("an idle stream was refused")
        yield
    cancel = post_request(f"/v1/threads/{begun['thread_id']}/runs/{begun['id']}/cancel", {})
    with socket.create_connection(("127.0.0.1", server.port), LIMIT) as sock:
        sock.sendall(cancel)
        sock.recv(1 << 16)
