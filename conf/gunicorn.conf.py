"""gunicorn for janflask: ``gunicorn -c conf/gunicorn.conf.py wsgi:app`` brings up the workers and the supervisor.

Everything here follows the ``JANFLASK_*`` settings (docs/settings.md); gunicorn's own command line still wins.
"""

import contextlib
import math
import os
import ssl
import threading
from typing import Any

from gunicorn.http.body import Body

from janflask.connections.secured import SecuredWorker
from janflask.processes import https, launcher, logs
from janflask.processes.drain import LAST_WORDS, has_connected
from janflask.processes.launcher import (
    bind_address,
    on_exit,
    on_reload,
    on_starting,
    post_fork,
    pre_exec,
    read_settings,
    when_ready,
)
from janflask.processes.proxied import place, trusted_addresses

__all__ = [
    "on_exit",
    "on_reload",
    "on_starting",
    "post_fork",
    "post_worker_init",
    "pre_exec",
    "pre_request",
    "ssl_context",
    "when_ready",
]  # gunicorn finds its hooks by these names

_settings = read_settings()


def post_worker_init(worker: Any) -> None:
    """A worker is about to take requests; the server's first one says what to try."""
    launcher.post_worker_init(worker)
    if worker.age == 1 and worker.alive:
        url = str(worker.sockets[0])
        if worker.cfg.is_ssl:
            url = url.replace("http://", "https://", 1)  # gunicorn calls those with an IPv6 address http
        threading.Thread(target=_say_welcome, args=(url,), name="welcome", daemon=True).start()


def _say_welcome(url: str) -> None:
    from janflask.cli.banner import welcome  # here: the master need not import it, nor a start that is refused

    with contextlib.suppress(OSError):  # nobody reads it
        print(welcome(_settings, url), flush=True)


def pre_request(worker: Any, request: Any) -> None:
    """Lets the application say that its answer ends the connection (janflask/api/plumbing/unread_body.py).

    A path that is not below the server's prefix is answered, too.
    """
    place(request)
    if isinstance(request.body, Body):
        request.body.close_connection = request.force_close


def ssl_context(cfg: Any, factory: Any) -> ssl.SSLContext:
    """The one that all connections share. gunicorn's own would be made anew, from the files, for each of them."""
    return https.context()


class Worker(SecuredWorker):
    """One that leaves lets its port go at once: gunicorn's own keeps it open, and who connects meanwhile hangs."""

    header_timeout = _settings.header_timeout
    send_timeout = _settings.send_timeout
    client_connections = _settings.client_connections
    trusted_proxies = _settings.trusted_proxies
    context = staticmethod(https.context)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Takes who has connected already, so that nobody is cut off, and closes the port if this worker ends."""
        ends = not enabled and not self.alive
        for listener in self.sockets if ends else []:
            for _ in range(backlog):  # no more: others may listen there, too, and somebody always comes
                if not has_connected(listener):
                    break
                self.accept(listener)
        super().set_accept_enabled(enabled)
        for listener in self.sockets if ends else []:
            listener.close()


proc_name = "janflask"
bind = bind_address(_settings)
backlog = 1024
certfile, keyfile = https.files(_settings)
do_handshake_on_connect = False

# One thread serves one open stream. The heartbeat is the main thread's: a long stream never looks like a dead worker.
worker_class = Worker
workers = _settings.workers
threads = _settings.threads
worker_connections = max(1000, 4 * threads)
timeout = 60
# A reload or stop lets streams finish this long; the models stay up through a reload.
graceful_timeout = math.ceil(_settings.drain_timeout + LAST_WORDS)
keepalive = 75  # longer than nginx keeps idle upstream connections (60 s), so that it never writes into a closing one

# Each worker imports the application itself: a reload (SIGHUP) then takes new code, and no thread, lock or socket that
# the application makes at import is carried across a fork.
preload_app = False

limit_request_line = 8190  # bytes; a model may be named by its percent-encoded source URL
limit_request_fields = 100
limit_request_field_size = 8190

# The same that the application believes: the scheme, and the path that it is below (SCRIPT_NAME).
forwarded_allow_ips = trusted_addresses(_settings)

# gunicorn's control socket has one fixed place per user, which two servers would fight over.
control_socket_disable = True

# The heartbeat file belongs in memory: on a slow disk its updates can stall a worker.
if os.access("/dev/shm", os.W_OK):  # noqa: S108
    worker_tmp_dir = "/dev/shm"  # noqa: S108

loglevel = _settings.log_level
if _settings.log_format == logs.JSON:
    logconfig_dict = logs.for_gunicorn(_settings.log_level)
errorlog = "-"
accesslog = None  # nginx writes one; ``--access-logfile -`` turns it on here
