"""What keys have to do with the time to the first token: nothing for one's own prompts, all of it for another's."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from benchmarks.harness import MODEL, Server, Stream, linked_data, random_tokens, run_streams, serving_store, settle
from benchmarks.report import Row
from janflask.access.key_file import KeyFile
from janflask.access.keys import NO_LIMITS, Keyring, new_key
from janflask.access.scopes import USUAL
from janflask.settings import Settings

PROMPT = 400  # tokens
ROUNDS = 7
ANEW = 0.95  # of a new prompt's time, for another key's
AGAIN = 1.1  # times the time without keys


def apart() -> list[Row]:
    """In turns: a new prompt, the same with another key, again with the first one; and new and again without keys."""
    times: list[tuple[float, float, float, float]] = []
    with tempfile.TemporaryDirectory(prefix="janflask-bench-") as folder:
        data = linked_data(Path(folder))
        file = KeyFile(Settings(data_dir=data).secrets_dir)
        (one, first), (two, second) = (new_key(name, USUAL, NO_LIMITS, 1) for name in ("one", "two"))
        with serving_store(data, ctx_len=2048, n_parallel=8) as server:
            server.put(f"/v1/models/{MODEL}/start")
            settle(server)
            for number in range(ROUNDS):
                file.change(lambda _: Keyring().with_key(one).with_key(two))
                new, other, again = (_first_ms(server, number, key) for key in (first, second, first))
                file.change(lambda _: Keyring())
                _first_ms(server, ROUNDS + number)
                times.append((new, other, again, _first_ms(server, ROUNDS + number)))
    new, other, again, plain = (median(column) for column in zip(*times, strict=True))
    return [
        Row(
            "first token of another key's prompt, vs a new prompt",
            median(other / new for new, other, _, _ in times),
            ANEW,
            "x",
            detail={"ms": round(other, 1), "new_ms": round(new, 1)},
        ),
        Row(
            "first token of one's own prompt again, vs without keys",
            median(again / plain for _, _, again, plain in times),
            AGAIN,
            "x",
            at_least=False,
            detail={"ms": round(again, 1), "plain_ms": round(plain, 1)},
        ),
    ]


def _first_ms(server: Server, seed: int, key: str | None = None) -> float:
    stream = Stream(random_tokens(PROMPT, seed), 2, key=key)
    run_streams(server.port, [stream])
    return 1e3 * (stream.arrivals[0] - stream.started)
