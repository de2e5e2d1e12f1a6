"""conf/Caddyfile under Debian's Caddy: in a folder of its own, on free ports."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.gunicorn_world import ROOT
from tests.integration.proxy_world import CERTIFICATE, Proxy, replaced
from tests.integration.waiting import LIMIT, free_port, wait_for

CONF = ROOT / "conf" / "Caddyfile"
CADDY = shutil.which("caddy")

needs_caddy = pytest.mark.skipif(CADDY is None and "CI" not in os.environ, reason="needs caddy (Debian: caddy)")


def site_for(upstream: str, port: int, tls_port: int, below: bool = False) -> str:
    """conf/Caddyfile with its addresses exchanged; all else is as it is shipped."""
    site = CONF.read_text()
    site = replaced(site, "\nllm.example.com {", "\n(site) {")
    if below:
        site = replaced(site, "reverse_proxy 127.0.0.1:1337 {", "reverse_proxy /llm/* 127.0.0.1:1337 {")
        site = replaced(site, "# header_up SCRIPT_NAME /llm", "header_up SCRIPT_NAME /llm")
        site = replaced(site, "\t\theader_up -SCRIPT_NAME\n", "")
    site = replaced(site, "127.0.0.1:1337", upstream)
    return f"""{{
    admin off
    auto_https off
}}
{site}
http://localhost:{port} {{
    import site
}}
https://localhost:{tls_port} {{
    tls {CERTIFICATE} {CERTIFICATE}
    import site
}}
"""


def log_of(folder: Path) -> str:
    return (folder / "log").read_text()


@contextmanager
def proxying(folder: Path, upstream: str, below: bool = False) -> Iterator[Proxy]:
    """Caddy in front of ``upstream`` (host:port) from when it listens; its files are in ``folder``."""
    assert CADDY is not None, "caddy is missing: apt-get install caddy"
    caddy = Proxy(folder, free_port(), free_port())
    (folder / "Caddyfile").write_text(site_for(upstream, caddy.port, caddy.tls_port, below))
    env = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    command = [CADDY, "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    with (folder / "log").open("w") as log:
        with subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:
            try:
                wait_for(lambda: "serving initial configuration" in log_of(folder) or process.poll() is not None)
                assert process.poll() is None, log_of(folder)
                yield caddy
            finally:
                process.kill()
                process.wait(LIMIT)
