"""A download whose process is killed again and again: it goes on where it was, and what comes is the file."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from janflask.models.catalog import ModelCatalog
from tests.fakes.file_server import gguf, serving

SIZE = 96 << 20  # bytes
DEATHS = 20
LIMIT = 120.0  # seconds

# What the supervisor does with its downloads, in a process of its own.
DOWNLOADER = """
import sys, time
from janflask.models.catalog import ModelCatalog
from janflask.downloads.manager import DownloadManager
from janflask.settings import Settings
from janflask.models.state import DownloadRequest
settings = Settings.from_env({"JANFLASK_DATA_DIR": sys.argv[1], "JANFLASK_ALLOW_PRIVATE_SOURCES": "1"})
manager = DownloadManager(settings, ModelCatalog(settings.models_dir), {})
manager.resume()
if not manager.states():
    manager.start(DownloadRequest(source=sys.argv[2], model_id="m"))
while states := manager.states():
    if states["m"].stage == "failed":
        sys.exit(states["m"].error)
    time.sleep(0.01)
"""


def downloader(data: Path, url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", DOWNLOADER, str(data), url])


def test_twenty_deaths_cost_hardly_a_byte(tmp_path: Path) -> None:
    body = gguf(SIZE)
    rng = random.Random(20)
    marks = sorted(rng.randrange(0, len(body)) for _ in range(DEATHS))
    with serving(body) as server:
        server.pause = 0.0005
        url = server.url("whole")
        for mark in marks:
            process = downloader(tmp_path, url)
            deadline = time.monotonic() + LIMIT
            while server.served < mark:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            assert process.wait(LIMIT) == -signal.SIGKILL
            assert ModelCatalog(tmp_path / "models").list() == []
        assert downloader(tmp_path, url).wait(LIMIT) == 0
        assert server.served < 1.1 * len(body)
    (card,) = ModelCatalog(tmp_path / "models").list()
    assert card.path is not None
    assert hashlib.sha256(Path(card.path).read_bytes()).digest() == hashlib.sha256(body).digest()
    assert card.metadata["sha256"] == hashlib.sha256(body).hexdigest()
    left = [path.name for path in (tmp_path / "models").rglob("*") if path.is_file()]
    assert sorted(left) == ["m.gguf", "model.json"]
