"""conf/nginx.conf under Debian's nginx, and gunicorn behind it: in folders of their own, on free ports."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.gunicorn_world import ROOT
from tests.integration.proxy_world import CERTIFICATE, Proxy, replaced
from tests.integration.waiting import LIMIT, free_port, wait_for

CONF = ROOT / "conf" / "nginx.conf"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
PREFIX = "/llm"

needs_nginx = pytest.mark.skipif(NGINX is None and "CI" not in os.environ, reason="needs nginx (Debian: nginx)")

# As Debian's own nginx.conf around its sites-enabled/, what it sets wrongly for streams (gzip) included.
MAIN = """
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
{user}
events {{ worker_connections 768; }}
http {{
    sendfile on;
    tcp_nopush on;
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;
    ssl_prefer_server_ciphers on;
    access_log {folder}/access.log;
    gzip on;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/answers;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


def with_certificate(site: str) -> str:
    """The site as its comment says that it is with a certificate."""
    found = re.findall(r"    # (?:listen \S+ ssl|ssl_)", site)
    assert len(found) == 5
    return re.sub(r"    # (listen \S+ ssl|ssl_)", r"    \1", site)


def below_prefix(site: str) -> str:
    """The site as its comment says that it is below a path."""
    site = replaced(site, "# proxy_set_header SCRIPT_NAME /llm;", "proxy_set_header SCRIPT_NAME /llm;")
    site = replaced(site, "location / {", "location /llm/ {")
    return replaced(site, "location ~ ^/v1/", "location ~ ^/llm/v1/")


def site_for(upstream: str, port: int, tls_port: int, below: bool = False) -> str:
    """conf/nginx.conf with its addresses exchanged; all else is as it is shipped, with the certificate's lines."""
    site = with_certificate(CONF.read_text())
    if below:
        site = below_prefix(site)
    for old, new in [
        ("server 127.0.0.1:1337;", f"server {upstream};"),
        ("listen 80;", f"listen 127.0.0.1:{port};"),
        ("    listen [::]:80;\n", ""),
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{tls_port} ssl http2;"),
        ("    listen [::]:443 ssl http2;\n", ""),
        ("/etc/ssl/certs/janflask.pem", str(CERTIFICATE)),
        ("/etc/ssl/private/janflask.key", str(CERTIFICATE)),
    ]:
        site = replaced(site, old, new)
    return site


def _main(folder: Path) -> str:
    return MAIN.format(folder=folder, user="user root;" if os.geteuid() == 0 else "")


def accepts(folder: Path, site: str) -> subprocess.CompletedProcess[str]:
    """What nginx says to a site."""
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(_main(folder))
    assert NGINX is not None, "nginx is missing: apt-get install nginx"
    command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-t"]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)


@contextmanager
def proxying(folder: Path, upstream: str, below: bool = False) -> Iterator[Proxy]:
    """nginx in front of ``upstream`` (host:port, or unix:PATH) from when it listens; its files are in ``folder``."""
    port, tls_port = free_port(), free_port()
    done = accepts(folder, site_for(upstream, port, tls_port, below))
    assert done.returncode == 0, done.stderr
    command = [str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: bool((folder / "nginx.pid").read_text()))  # `-t` leaves an empty one
            yield Proxy(folder, port, tls_port, "127.0.0.1")
        finally:
            process.terminate()
            process.wait(LIMIT)
