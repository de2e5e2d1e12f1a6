"""The page in Debian's Chromium: what it transfers and holds, what its main thread does, what it takes from a model.

The scripts of ``benchmarks/page/`` drive the browser, by playwright-core of ``ui/node_modules``.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import IO, Any

from benchmarks.harness import MODEL, ROOT, Server, in_turns, linked_data, serving_store, settle
from benchmarks.report import Row
from benchmarks.store import write_threads

SCRIPTS = Path(__file__).parent / "page"
PAGE = ROOT / "janflask" / "page"
MOST_KB = 150.0  # all of the page's files, compressed; a kB has 1,000 bytes
THREADS, OPENED, MOST_OPENING_MS = 10_000, 15, 300.0  # at a fourth of the CPU's speed
KINDS = ("mixed", "code", "paragraph", "list", "table")
MOST_TASK_MS = 50.0
ANSWERS, GROWTH = 100, 1.05  # the heap after all answers, by that after half of them: code is compiled for a while
SHARE = 0.98  # of the tokens a second without a page
TOKENS, TURNS = 700, 7
QUESTION = "Tell me about the sea, the wind and the stars, and leave nothing out."


def page() -> list[Row]:
    """All of them; the page is built before (``make ui``)."""
    return [_transfer(), *opening(), *streaming(), remembering(), speed()]


def _transfer() -> Row:
    """All files, those that come later included, as they are sent."""
    sizes = {str(file.relative_to(PAGE)): _sent(file) for file in PAGE.rglob("*") if file.is_file()}
    if "index.html" not in sizes:
        raise SystemExit(f"{PAGE} has no page: run `make ui`")
    largest = dict(sorted(sizes.items(), key=lambda item: -item[1])[:3])
    detail = {"files": len(sizes), **{name: round(size / 1000, 1) for name, size in largest.items()}}
    return Row("transfer of the page", sum(sizes.values()) / 1000, MOST_KB, "kB", at_least=False, detail=detail)


def _sent(file: Path) -> int:
    return len(gzip.compress(file.read_bytes(), 9))


def opening() -> list[Row]:
    """In a tab with an empty cache: until there are conversations in the list and words in the field."""
    with tempfile.TemporaryDirectory(prefix="janflask-bench-") as folder:
        data = linked_data(Path(folder))
        write_threads(data / "threads", THREADS)
        with serving_store(data, workers=2) as server:
            server.get("/v1/threads?limit=1&branches=false")  # the index knows them
            opened = _script("open.js", _url(server), OPENED)
    rounds, away = opened["rounds"], sorted(set(opened["away"]))
    used = [found["main_ms"] for found in rounds]
    detail = {
        "worst": round(max(used)),
        "empty_page": round(median(found["main_ms"] for found in opened["empty"])),
        "until_idle": round(median(found["settled_ms"] for found in rounds)),
        "wall_ms": round(median(found["wall_ms"] for found in rounds)),
        "links": opened["links"],
        "kB": round(opened["bytes"] / 1000, 1),
    }
    name = f"main thread until usable, {THREADS} threads, CPU at a fourth"
    return [
        Row(name, median(used), MOST_OPENING_MS, "ms", at_least=False, detail=detail),
        Row("requests that leave the server", len(away), 0, "", at_least=False, detail={"to": away} if away else {}),
    ]


def streaming() -> list[Row]:
    """An answer of 4,000 tokens at 400 a second; the longest task of the main thread meanwhile."""
    rows = []
    for kind in KINDS:
        found = _script("stream.js", kind)
        detail = {name: round(found[name], 1) for name in ("longest_cpu_ms", "above", "busy_ms", "seconds")}
        name = f"longest task while 4,000 tokens stream, {kind}"
        rows.append(Row(name, found["longest_ms"], MOST_TASK_MS, "ms", at_least=False, detail=detail))
    return rows


def remembering() -> Row:
    """Without garbage, and with no conversation open."""
    after = _script("memory.js", ANSWERS)["after"]
    first, last = after[len(after) // 2 - 1], after[-1]
    detail = {
        "first_MB": round(first["heap"] / 1e6, 2),
        "last_MB": round(last["heap"] / 1e6, 2),
        "first_nodes": first["nodes"],
        "last_nodes": last["nodes"],
    }
    name = f"heap after {ANSWERS} answers, by that after {ANSWERS // 2}"
    return Row(name, last["heap"] / first["heap"], GROWTH, "x", at_least=False, detail=detail)


def speed() -> Row:
    """The same run, asked in the page and by curl, in turns; by the times in the run's file, which know no client."""
    with tempfile.TemporaryDirectory(prefix="janflask-bench-") as folder:
        data = linked_data(Path(folder))
        with serving_store(data, ctx_len=1024) as server, _asking(server) as ask:
            server.put(f"/v1/models/{MODEL}/start")
            settle(server)

            def by_page(_: int) -> float:
                thread = _thread(server)
                ask(thread)
                return _rate(data, thread)

            def by_curl(_: int) -> float:
                thread = _thread(server)
                _curl(server, thread)
                return _rate(data, thread)

            by_page(0), by_curl(0)
            rates = in_turns("page and curl", by_page, by_curl, TURNS)
    detail = {
        "tokens_per_second": round(median(paged for paged, _ in rates), 1),
        "by_curl": round(median(curled for _, curled in rates), 1),
    }
    share = median(paged / curled for paged, curled in rates)
    return Row("tokens/s with the page open and streaming, by curl's", share, SHARE, "x", detail=detail)


def _thread(server: Server) -> str:
    parameters = {"max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
    body = {"title": "speed", "model_id": MODEL, "parameters": parameters}
    return str(server.post("/v1/threads", json.dumps(body).encode())["id"])


def _curl(server: Server, thread: str) -> None:
    question = {"additional_messages": [{"role": "user", "content": QUESTION}]}
    body = json.dumps({"assistant_id": "jan", "model": MODEL, "stream": True, **question})
    command = ["curl", "-sNf", "-H", "Content-Type: application/json", "-d", body, "-o", os.devnull]
    subprocess.run([*command, f"{_url(server)}v1/threads/{thread}/runs"], check=True)


def _rate(data: Path, thread: str) -> float:
    """Tokens a second of the thread's only run."""
    (file,) = (data / "threads" / thread / "runs").glob("run_*.json")
    run = json.loads(file.read_text())
    if (run["status"], run["completion_tokens"]) not in (("incomplete", TOKENS), ("completed", TOKENS)):
        raise SystemExit(f"{thread} has no answer of {TOKENS} tokens: {run['status']}, {run['completion_tokens']}")
    return 1000 * TOKENS / float(run["completed_ms"] - run["replied_ms"])


def _url(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}/"


# --- scripts ----------------------------------------------------------------------------------------------------------


def _script(name: str, *arguments: object) -> Any:
    """What the script says, on its last line."""
    done = subprocess.run(_node(name, arguments), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def _asking(server: Server) -> Iterator[Callable[[str], None]]:
    """Asks the question in a thread by the page, until it is answered; between two calls no page is open."""
    process = subprocess.Popen(
        _node("speed.js", [_url(server)]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "QUESTION": QUESTION},
    )
    said, told = process.stdin, process.stdout
    if said is None or told is None:
        raise SystemExit("speed.js has no pipes")

    def ask(thread: str) -> None:
        print(thread, file=said, flush=True)
        _line(told)

    try:
        _line(told)  # it is ready
        yield ask
    finally:
        said.close()
        process.wait(60)


def _line(told: IO[str]) -> None:
    if not told.readline():
        raise SystemExit("speed.js ended before it had an answer")


def _node(name: str, arguments: Sequence[object]) -> list[str]:
    return ["node", str(SCRIPTS / name), *map(str, arguments)]
