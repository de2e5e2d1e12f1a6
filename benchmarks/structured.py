"""Answers under a JSON schema against free ones of the same number of tokens, and what they wait for."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.harness import Server, Stream, random_tokens, run_streams, serving
from benchmarks.report import Row

PROMPT, NEW = 80, 128
ROUNDS = 5
CLIENTS = (1, 8)
FORCED_TARGET = 1.3  # of free answers' tokens/s
DRAWN_TARGET = 0.95  # the same where every token is drawn
WAIT_TARGET = 0.02  # of the time, with 8 clients
FIRST_TARGET = 0.150  # seconds that a large schema may cost before the first token
GAPS_TARGET = 3.0  # ordinary gaps of another stream meanwhile


def run() -> list[Row]:
    """Free and constrained rounds alternate; ratios are of the medians."""
    with serving() as server:
        rows = [row for clients in CLIENTS for row in _speed(server, clients)]
        return [*rows, *_large_schema(server)]


def _record(keys: int) -> dict[str, Any]:
    kinds: list[dict[str, Any]] = [
        {"type": "string", "maxLength": 24},
        {"type": "integer", "minimum": 0, "maximum": 10_000},
        {"enum": ["planned", "running", "finished"]},
        {"type": "boolean"},
    ]
    properties = {f"measured_value_{i}": kinds[i % len(kinds)] for i in range(keys)}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _endless() -> dict[str, Any]:
    """No answer under it is ever whole, so each one has as many tokens as it may."""
    return {"type": "array", "items": _record(12), "minItems": 1000}


def _streams(clients: int, seed: int, **extra: object) -> list[Stream]:
    return [Stream(random_tokens(PROMPT, seed * 100 + i), NEW, extra) for i in range(clients)]


def _speed(server: Server, clients: int) -> list[Row]:
    """Tokens with log-probabilities are drawn, each one, also where only one can come."""
    free: list[float] = []
    held: list[float] = []
    drawn: list[float] = []
    waits: list[float] = []
    forced = 0
    schema = _endless()
    run_streams(server.port, _streams(1, 0, json_schema=schema))  # compiled once
    for number in range(ROUNDS):
        seed = clients * 1000 + number
        free.append(_rate(server, _streams(clients, seed)))
        before = server.model()["stats"]
        streams = _streams(clients, seed, json_schema=schema)
        rate = _rate(server, streams)
        held.append(rate)
        after = server.model()["stats"]
        forced += after["forced_tokens"] - before["forced_tokens"]
        waits.append((after["mask_seconds"] - before["mask_seconds"]) * rate / (clients * NEW))
        plain = _rate(server, _streams(clients, seed + 100, logprobs=0))
        drawn.append(_rate(server, _streams(clients, seed + 100, logprobs=0, json_schema=schema)) / plain)
    detail = {
        "held": round(median(held), 1),
        "free": round(median(free), 1),
        "forced": round(forced / (ROUNDS * clients * NEW), 2),
    }
    return [
        Row(
            f"tokens/s under a schema of 12 keys vs free, {clients} clients",
            median(held) / median(free),
            FORCED_TARGET,
            "x",
            detail=detail,
        ),
        Row(f"the same where every token is drawn, {clients} clients", median(drawn), DRAWN_TARGET, "x"),
        Row(
            f"share of the time that the loop waits for masks, {clients} clients",
            median(waits),
            WAIT_TARGET,
            "",
            at_least=False,
        ),
    ]


def _rate(server: Server, streams: list[Stream]) -> float:
    seconds = run_streams(server.port, streams)
    told: int = sum(stream.usage["completion_tokens"] for stream in streams)
    if told != len(streams) * NEW:
        raise RuntimeError(f"{told} tokens, not {len(streams) * NEW}: the answers cannot be compared")
    return told / seconds


# --- a schema as large as an agent's tools ----------------------------------------------------------------------


def _tools(number: int) -> dict[str, Any]:
    """58 tools' arguments, 87 kB; another one each time, so that none is compiled already."""
    about = "What it is for and when to use it, at some length, as tools have it. " * 10
    tools = []
    for i in range(58):
        properties = {
            "name": {"const": f"tool_{number}_{i}"},
            **{f"argument_{j}": {"type": "string", "description": about[: 100 + j]} for j in range(8)},
        }
        tools.append({"type": "object", "properties": properties, "required": ["name"], "description": about})
    return {"anyOf": tools}


def _large_schema(server: Server) -> list[Row]:
    """The first token under it against that of a free answer, and the longest gap of another stream meanwhile."""
    costs: list[float] = []
    stalls: list[float] = []
    plain_stalls: list[float] = []  # beside a request without a schema
    for number in range(ROUNDS):
        free = Stream(random_tokens(PROMPT, 9000 + number), 4)
        run_streams(server.port, [free])
        held = Stream(random_tokens(PROMPT, 9000 + number)[::-1], 4, {"json_schema": _tools(number)})
        run_streams(server.port, [held])
        costs.append((held.arrivals[0] - held.started) - (free.arrivals[0] - free.started))
        stalls.append(_stall(server, number, {"json_schema": _tools(1000 + number)}))
        plain_stalls.append(_stall(server, 100 + number, {}))
    return [
        Row(
            "seconds to the first token of 58 tools' schemas, over none",
            median(costs),
            FIRST_TARGET,
            "s",
            at_least=False,
        ),
        Row(
            "longest gap of another stream meanwhile",
            median(stalls),
            GAPS_TARGET,
            "gaps",
            at_least=False,
            detail={"without": round(median(plain_stalls), 2)},
        ),
    ]


def _stall(server: Server, number: int, extra: dict[str, object]) -> float:
    """The longest gap of a stream while another request comes, in its ordinary gaps."""
    other = Stream(random_tokens(PROMPT, 9500 + number), 64)
    run_streams(server.port, [other, Stream(random_tokens(8, 9700 + number), 4, extra)])
    return max(other.gaps) / median(other.gaps)
