"""What others feel: gaps between tokens with long prompts about, shared prompts, cancelling."""

from __future__ import annotations

import socket
import time
from statistics import median
from typing import Any

from benchmarks.harness import Server, Stream, random_tokens, run_streams, serving
from benchmarks.report import Row

NEW_LONG = 320  # tokens: enough that all eight still generate when the last prompt is computed
LONG_GAP = 0.5  # of the median gap with flash attention and unified KV forced
SHARED = 3.0  # times less wall time with the prefix cache
STALL = 3.0  # times the ordinary gap
CANCEL_MS = 100.0  # beyond one step
ROUNDS = 3


def long_prompts() -> list[Row]:
    """8 clients with 900-token prompts: the median gap against an engine forced to flash attention and unified KV."""

    def gap(server: Server, seed: int) -> float:
        streams = [Stream(random_tokens(900, seed * 100 + i), NEW_LONG) for i in range(8)]
        run_streams(server.port, streams)
        last_started = max(stream.arrivals[0] for stream in streams)
        gaps = [
            later - earlier
            for stream in streams
            for earlier, later in zip(stream.arrivals, stream.arrivals[1:], strict=False)
            if earlier >= last_started
        ]
        return median(gaps) * 1e3

    ours, forced = [], []
    with serving() as tuned, serving(flash_attn=1, kv_unified=1) as other:
        knobs = tuned.model()["runtime"]["knobs"]
        for seed in range(ROUNDS):
            ours.append(gap(tuned, seed))
            forced.append(gap(other, seed))
    detail = {
        "ms": round(median(ours), 1),
        "forced_ms": round(median(forced), 1),
        "flash_attn": knobs["flash_attn"],
        "kv_unified": knobs["kv_unified"],
    }
    return [
        Row(
            "median gap, 900-token prompts, 8 clients, vs forced FA + unified",
            median(ours) / median(forced),
            LONG_GAP,
            "x",
            at_least=False,
            detail=detail,
        )
    ]


def shared_prefix() -> list[Row]:
    """24 requests from 8 clients with a common 440-token beginning: wall time against the prefix cache switched off."""

    def wall(server: Server, seed: int) -> float:
        system = random_tokens(440, 7000 + seed)
        streams = [Stream(system + random_tokens(20, seed * 100 + i), 32) for i in range(24)]
        return run_streams(server.port, streams, at_once=8)

    with_cache, without = [], []
    with serving() as on, serving(prefix_cache=0) as off:
        for seed in range(ROUNDS):
            with_cache.append(wall(on, seed))
            without.append(wall(off, seed))
    detail = {"seconds": round(median(with_cache), 2), "off_seconds": round(median(without), 2)}
    return [
        Row(
            "24 requests with a common 440-token prompt, vs cache off",
            median(without) / median(with_cache),
            SHARED,
            "x",
            detail=detail,
        )
    ]


def stall() -> list[Row]:
    """The longest gap in a stream while another client's 4,000-token prompt is computed."""
    ratios, plain_ratios, details = [], [], []
    with serving() as server:
        for seed in range(ROUNDS):
            talker = Stream(random_tokens(80, seed), 1200)
            long = Stream(random_tokens(4000, 5000 + seed), 8)
            gaps, during = _stall_round(server, talker, long)
            ordinary = median(during)
            ratios.append(max(during) / ordinary)
            plain_ratios.append(max(during) / median(gaps))
            details.append((max(during) * 1e3, ordinary * 1e3, median(gaps) * 1e3))
    longest, ordinary_ms, plain_ms = details[len(details) // 2]
    detail = {
        "longest_ms": round(longest, 1),
        "ordinary_ms": round(ordinary_ms, 1),
        "no_prompt_ms": round(plain_ms, 1),
        "vs_no_prompt": round(median(plain_ratios), 1),
    }
    return [
        Row(
            "longest gap while a 4,000-token prompt is computed, vs the ordinary one",
            median(ratios),
            STALL,
            "x",
            at_least=False,
            detail=detail,
        )
    ]


def _stall_round(server: Server, talker: Stream, long: Stream) -> tuple[list[float], list[float]]:
    """Gaps of the talker before the long prompt came and while it was computed."""
    import selectors

    selector = selectors.DefaultSelector()
    selector.register(talker.open(server.port), selectors.EVENT_READ, talker)
    sent = 0.0
    while not long.arrivals:
        if not sent and len(talker.arrivals) >= 60:
            selector.register(long.open(server.port), selectors.EVENT_READ, long)
            sent = time.perf_counter()
        for key, _ in selector.select(1.0):
            if not key.data.read():
                raise RuntimeError("a stream ended before the long prompt was computed")
    done = long.arrivals[0]
    for key in list(selector.get_map().values()):
        if isinstance(key.fileobj, socket.socket):
            key.fileobj.close()
    pairs = list(zip(talker.arrivals, talker.arrivals[1:], strict=False))
    before = [later - earlier for earlier, later in pairs[10:] if later < sent]
    during = [later - earlier for earlier, later in pairs if later > sent and earlier < done]
    return before, during


def cancel() -> list[Row]:
    """From the client's close to the sequence's slot being free, less one step."""
    waits, steps = [], []
    with serving() as server:
        for seed in range(9):
            stream = Stream(random_tokens(80, seed), 2000)
            sock = stream.open(server.port)
            sock.setblocking(True)
            while len(stream.arrivals) < 30:
                stream.read()
            steps.append(median(stream.gaps[5:]) * 1e3)
            closed = time.perf_counter()
            sock.close()
            while _stats(server)["busy"]:
                if time.perf_counter() - closed > 10:
                    raise RuntimeError("a cancelled sequence stays busy")
            waits.append((time.perf_counter() - closed) * 1e3)
            time.sleep(0.1)
    beyond = max(wait - step for wait, step in zip(waits, steps, strict=True))
    detail = {"median_ms": round(median(waits), 1), "max_ms": round(max(waits), 1), "step_ms": round(median(steps), 1)}
    return [
        Row(
            "cancel: close to free slot, beyond one step (worst of 9)",
            beyond,
            CANCEL_MS,
            "ms",
            at_least=False,
            detail=detail,
        )
    ]


def _stats(server: Server) -> dict[str, Any]:
    stats: dict[str, Any] = server.model()["stats"]
    return stats
