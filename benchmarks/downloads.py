"""A large download over loopback, hashed and flushed to the disk, beside curl's of the same file to the same disk."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import ROOT
from benchmarks.report import Row

SHARE = 0.85  # of curl's rate
MEMORY_MIB = 100.0
SIZE_MIB = 2048
ROUNDS = 5
LIMIT = 300.0  # seconds for one download
CHUNK = 8 * 1024 * 1024

# Serves one file, once a connection, as fast as the kernel can.
_SERVER = """
import os, socket, sys
path, size = sys.argv[1], os.path.getsize(sys.argv[1])
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    with connection, open(path, "rb") as file:
        request = b""
        while b"\\r\\n\\r\\n" not in request:
            request += connection.recv(65536)
        head = f"HTTP/1.1 200 OK\\r\\nContent-Length: {size}\\r\\nETag: \\"one\\"\\r\\nConnection: close\\r\\n\\r\\n"
        connection.sendall(head.encode())
        connection.sendfile(file)
"""

# What the supervisor does with one file; says how long it took and how large the process was.
_OURS = """
import json, resource, sys, time
from pathlib import Path
from janflask.downloads.fetch import Fetch, Limits, RemoteFile
from janflask.downloads.safety import Web
fetch = Fetch(RemoteFile(sys.argv[1], "m.gguf"), Path(sys.argv[2]), Web(allow_private=True), Limits(), lambda *_: None)
started = time.perf_counter()
sha256 = fetch.run()
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "sha256": sha256, "peak_mib": peak / 1024}))
"""


def run(size_mib: int = SIZE_MIB, rounds: int = ROUNDS) -> list[Row]:
    """Rounds of both, one after the other; each ratio is within its round."""
    if shutil.which("curl") is None:
        raise SystemExit("the benchmark of downloads needs curl")
    with _folder() as folder:
        source = folder / "source.bin"
        sha256 = _write(source, size_mib)
        ours, curl, flushed, memory = [], [], [], []
        with _serving(source) as url:
            for number in range(rounds + 1):
                took, synced = _curl(url, folder / "curl.bin")
                figures = _ours(url, folder / "ours", sha256)
                if number:  # the first round warms the page cache
                    curl.append(took)
                    flushed.append(synced)
                    ours.append(figures["seconds"])
                    memory.append(figures["peak_mib"])
    mib = {name: round(size_mib / median(times)) for name, times in (("ours", ours), ("curl", curl), ("sync", flushed))}
    name = f"a {size_mib} MiB download over loopback, hashed and flushed"
    detail = {"mib_per_second": mib["ours"], "curl_mib_per_second": mib["curl"], "rounds": rounds}
    ratio = median(theirs / mine for theirs, mine in zip(curl, ours, strict=True))
    even = median(theirs / mine for theirs, mine in zip(flushed, ours, strict=True))
    return [
        Row(f"{name}, vs curl", ratio, SHARE, "x", detail=detail),
        Row(f"{name}, vs curl and a flush", even, None, "x", detail={"curl_flushed_mib_per_second": mib["sync"]}),
        Row("largest size of the process", median(memory), MEMORY_MIB, "MiB", at_least=False),
    ]


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder on the disk that data is kept on, which a temporary folder may not be."""
    disk = Path(os.environ.get("JANFLASK_DATA_DIR", ROOT / "data"))
    disk.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=disk) as folder:
        yield Path(folder)


def _write(path: Path, mib: int) -> str:
    """A file that begins like a model and does not compress; its sha256."""
    rng = random.Random(1)
    digest = hashlib.sha256()
    left = mib << 20
    with path.open("wb") as file:
        block = b"GGUF" + rng.randbytes(min(CHUNK, left) - 4)
        while left:
            piece = block[:left]
            file.write(piece)
            digest.update(piece)
            left -= len(piece)
            block = rng.randbytes(CHUNK)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


@contextmanager
def _serving(path: Path) -> Iterator[str]:
    command = [sys.executable, "-c", _SERVER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None:
                raise RuntimeError("no pipe")
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/m.gguf"
        finally:
            process.kill()


def _curl(url: str, out: Path) -> tuple[float, float]:
    """Seconds that curl takes, and with a flush to the disk behind it."""
    started = time.perf_counter()
    subprocess.run(["curl", "-sS", "--max-time", str(LIMIT), "-o", str(out), url], check=True)
    took = time.perf_counter() - started
    with out.open("rb") as file:
        os.fsync(file.fileno())
    synced = time.perf_counter() - started
    out.unlink()
    return took, synced


def _ours(url: str, folder: Path, sha256: str) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", _OURS, url, str(folder)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=LIMIT)
    figures: dict[str, Any] = json.loads(done.stdout)
    if figures.pop("sha256") != sha256:
        raise SystemExit("the download has the wrong sha256")
    shutil.rmtree(folder)
    return figures


def main() -> None:
    """``python -m benchmarks.downloads --mib 256``: a quick look."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=SIZE_MIB)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    for row in run(options.mib, options.rounds):
        print(row.line())


if __name__ == "__main__":
    main()
