"""The shipped units: what systemd says to them, and the server with a real model under all their limits."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from janflask.settings import Settings
from tests.e2e.container import refused
from tests.e2e.machine import UNSHARE, Machine, machine, why_not
from tests.e2e.server import LIMIT, MODEL, ROOT, follow_settings, wait_for

UNIT = ROOT / "conf" / "janflask.service"
MOST_EXPOSED = 20  # tenths: systemd calls below 2.0 "OK"; without any sandbox it is 92

pytestmark = pytest.mark.skipif(why_not() is not None and "CI" not in os.environ, reason=str(why_not()))
namespaces = pytest.mark.skipif(why_not() is None and refused(UNSHARE) is not None, reason=str(refused(UNSHARE)))


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    program = tmp_path / "janflask" / ".venv" / "bin" / "gunicorn"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in ("janflask.service", "janflask.socket"):
        text = (ROOT / "conf" / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/janflask", str(tmp_path / "janflask")))
    done = analyze("verify", "--man=no", str(tmp_path / "janflask.service"), str(tmp_path / "janflask.socket"))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_sandbox_is_close() -> None:
    done = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", str(UNIT))
    assert done.returncode == 0, done.stdout


def test_systemd_waits_as_long_as_a_drain_takes(tmp_path: Path) -> None:
    """Also the Containerfile's comment, and both documents."""
    settings = Settings(data_dir=tmp_path)
    needed = settings.drain_delay + settings.drain_timeout + settings.stop_timeout + 10
    stop = re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert stop is not None
    assert needed <= int(stop[1]) <= needed + 10
    assert f"--stop-timeout {stop[1]} " in (ROOT / "Containerfile").read_text()


@pytest.fixture
def server(tmp_path: Path, data_dir: Path) -> Iterator[Machine]:
    with machine(tmp_path, follow_settings(data_dir), "janflask.service janflask.socket") as found:
        wait_for(lambda: found.about("ActiveState") == "active", "the service to be up")
        yield found


def ask(server: Machine, **body: object) -> str:
    given = json.dumps({"model": MODEL, "prompt": "One, two,", "temperature": 0, "ignore_eos": True, **body})
    return server.curl("/v1/completions", "-N", "--json", given)


def workers(server: Machine) -> set[str]:
    return set(server.run("pgrep", "-f", "wsgi:app").split()) - {server.about("MainPID")}


def engines(server: Machine) -> list[str]:
    return server.run("pgrep", "-f", "janflask.engine", check=False).split()


@namespaces
def test_the_server_works_under_the_units_limits(server: Machine) -> None:
    status = server.run("cat", f"/proc/{server.about('MainPID')}/status")
    for line in ("NoNewPrivs:\t1", "Seccomp:\t2", "CapBnd:\t0000000000000000", "Uid:\t987\t987\t987\t987"):
        assert line in status
    said = json.loads(ask(server, max_tokens=8))
    assert said["usage"]["completion_tokens"] == 8
    assert json.loads(server.curl("/readyz"))["status"] == "ready"
    assert 'janflask:processes{process="engine"} ' in server.curl("/metrics")
    thread = json.loads(server.curl("/v1/threads", "--json", '{"messages": [{"role": "user", "content": "Hi"}]}'))
    run = server.curl(f"/v1/threads/{thread['id']}/runs", "--json", json.dumps({"model": MODEL, "max_tokens": 4}))
    assert json.loads(run)["object"] == "thread.run"
    server.run("dd", "if=/dev/zero", "of=/run/upload", "bs=1M", "count=8")
    made = json.loads(server.curl("/v1/files", "-F", "purpose=assistants", "-F", "file=@/run/upload"))
    assert made["bytes"] == 8 << 20

    engine, before = engines(server), workers(server)
    server.run("systemctl", "reload", "janflask")
    wait_for(lambda: bool(workers(server)) and not workers(server) & before, "new workers")
    assert {*engine} <= {*engines(server)}, "the models stay up"  # a spare one may have come meanwhile

    server.run("kill", "-KILL", server.about("MainPID"))
    wait_for(lambda: server.about("NRestarts") == "1" and server.about("ActiveState") == "active", "a restart")
    assert json.loads(ask(server, max_tokens=8))["choices"] == said["choices"]


@namespaces
def test_a_restart_refuses_nobody_and_cuts_no_stream(server: Machine) -> None:
    json.loads(ask(server, max_tokens=1))
    said: list[str] = []
    stream = threading.Thread(target=lambda: said.append(ask(server, max_tokens=200, stream=True)), daemon=True)
    stream.start()
    wait_for(lambda: 'num_requests_running{model_name="' + MODEL + '"} 1.0' in server.curl("/metrics"), "the stream")
    master = server.about("MainPID")
    restart = threading.Thread(target=lambda: server.run("systemctl", "restart", "janflask"), daemon=True)
    restart.start()
    codes = []
    while restart.is_alive() or len(codes) < 5:
        codes.append(server.curl("/livez", "-o", "/dev/null", "-w", "%{http_code}"))
    stream.join(LIMIT)
    assert set(codes) == {"200"}
    assert server.about("MainPID") != master
    assert said[0].rstrip().endswith("data: [DONE]")
    assert server.about("Result") == "success"

    server.run("systemctl", "stop", "janflask.socket", "janflask.service")
    assert (server.about("ActiveState"), server.about("Result")) == ("inactive", "success")
    assert server.run("pgrep", "-u", "janflask", check=False) == ""
