"""A model's whole life by the command line, against the running server: fetched, shown, changed, measured, deleted."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.server import JANFLASK, Server, environment, run, serving
from tests.models.tiny import TinyModels


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def source(tiny_models: TinyModels) -> Iterator[str]:
    """The URL of a small chat model."""
    handler = functools.partial(_Quiet, directory=str(tiny_models.chat.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/{tiny_models.chat.name}"
        server.shutdown()
        thread.join()


@pytest.fixture
def empty_server(tmp_path: Path) -> Iterator[Server]:
    own = {"JANFLASK_ALLOW_PRIVATE_SOURCES": "1", "JANFLASK_CTX_LEN": "256", "JANFLASK_N_PARALLEL": "2"}
    with serving(tmp_path / "data", **own) as server:
        yield server


def test_a_models_life(empty_server: Server, source: str, tiny_models: TinyModels) -> None:
    def janflask(*args: str, fails: bool = False) -> str:
        done = run([*JANFLASK, "models", *args], environment(empty_server.data_dir, empty_server.port))
        assert done.returncode == (1 if fails else 0), done.stderr
        return done.stderr if fails else done.stdout

    assert janflask("pull", source, "--id", "tiny") == "tiny (llama, 95936, F32, 390 kB, 512 tokens of context)\n"
    assert janflask("pull", source, "--id", "tiny") == ""
    assert "404" in janflask("pull", f"{source}.no.gguf", "--id", "none", fails=True)
    shown = janflask("show", "tiny")
    assert source in shown
    assert "1 CONVERSATION" in shown
    assert "settings.ctx_len is 128." in janflask("set", "tiny", "ctx_len=128", "parameters.temperature=0.5")
    assert empty_server.model("tiny")["settings"]["ctx_len"] == 128
    (pp, tg) = json.loads(janflask("bench", "tiny", "-p", "32", "-n", "8", "-r", "2", "--json"))
    assert (pp["test"], tg["test"], len(pp["samples_ts"])) == ("pp32", "tg8", 2)
    assert min(pp["avg_ts"], tg["avg_ts"]) > 0
    assert empty_server.engines() == [], "it did not run before"
    janflask("start", "tiny")
    assert "tiny" in janflask("ps")
    assert "running" in janflask("rm", "tiny", fails=True)
    janflask("stop", "tiny")
    assert janflask("rm", "tiny").startswith("tiny is deleted, which frees")
    assert "hard link" in janflask("import", "--id", "own", str(tiny_models.other_chat))
    assert janflask("start", "own") == "own is running.\n"
