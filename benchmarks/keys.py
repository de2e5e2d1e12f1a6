"""What a key costs a request."""

from __future__ import annotations

from statistics import median

from benchmarks.harness import in_turns, serving_store
from benchmarks.report import Row
from benchmarks.store import CLIENTS, ROUNDS, WORKERS, folder_on_disk, load, request
from janflask.access.key_file import KeyFile
from janflask.access.keys import Keyring, Limits, new_key
from janflask.access.scopes import USUAL
from janflask.settings import Settings

SHARE = 0.93  # of the rate without keys
NO_END = 10**9  # of a limit that costs what a limit costs, and is not reached


def keys() -> list[Row]:
    """GET one thread with 8 clients, with a key that has limits, against the same server while it asks for none."""
    with folder_on_disk() as folder, serving_store(folder / "data", workers=WORKERS) as server:
        file = KeyFile(Settings(data_dir=folder / "data").secrets_dir)
        key, text = new_key("bench", USUAL, Limits(NO_END, NO_END), 1)
        file.change(lambda _: Keyring().with_key(key))
        name = server.post("/v1/threads", b'{"messages":[{"role":"user","content":"Hello"}]}', key=text)["id"]
        plain = [request("GET", f"/v1/threads/{name}")] * CLIENTS
        keyed = [request("GET", f"/v1/threads/{name}", headers={"Authorization": f"Bearer {text}"})] * CLIENTS

        def with_key(_: int) -> float:
            file.change(lambda _: Keyring().with_key(key))
            return load(server, keyed)

        def without(_: int) -> float:
            file.change(lambda _: Keyring())
            return load(server, plain)

        pairs = in_turns("with / without", with_key, without, ROUNDS)
    detail = {"per_second": round(median(first for first, _ in pairs))}
    share = median(first / second for first, second in pairs)
    return [Row("GET one thread with a key and limits, vs without keys", share, SHARE, "x", detail=detail)]
