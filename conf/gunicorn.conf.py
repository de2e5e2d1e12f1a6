"""gunicorn for janflask: ``gunicorn -c conf/gunicorn.conf.py wsgi:app`` brings up the workers and the supervisor.

Everything here follows the ``JANFLASK_*`` settings (docs/settings.md); gunicorn's own command line still wins.
"""

import os
from typing import Any

from gunicorn.http.body import Body

from janflask.processes import launcher
from janflask.processes.launcher import bind_address, on_exit, on_starting, post_worker_init, pre_exec, read_settings

__all__ = [
    "on_exit",
    "on_starting",
    "post_worker_init",
    "pre_exec",
    "pre_request",
    "when_ready",
]  # gunicorn finds its hooks by these names

_settings = read_settings()


def when_ready(server: Any) -> None:
    """The port is ours: start the supervisor, then say what to try."""
    launcher.when_ready(server)
    from janflask.cli.banner import welcome  # here: it loads Flask, which a refused start has no need of

    print(welcome(_settings, str(server.LISTENERS[0])), flush=True)


def pre_request(worker: Any, request: Any) -> None:
    """Lets the application say that its answer ends the connection (janflask/api/plumbing/unread_body.py)."""
    if isinstance(request.body, Body):
        request.body.close_connection = request.force_close  # type: ignore[attr-defined]


proc_name = "janflask"
bind = bind_address(_settings)
backlog = 1024

# One thread serves one open stream. The heartbeat is the main thread's: a long stream never looks like a dead worker.
worker_class = "gthread"
workers = _settings.workers
threads = _settings.threads
worker_connections = max(1000, 4 * threads)
timeout = 60
graceful_timeout = 30  # a reload or stop lets streams finish this long; the models stay up through a reload
keepalive = 75  # longer than nginx keeps idle upstream connections (60 s), so that it never writes into a closing one

# Each worker imports the application itself: a reload (SIGHUP) then takes new code, and no thread, lock or socket that
# the application makes at import is carried across a fork.
preload_app = False

limit_request_line = 8190  # bytes; a model may be named by its percent-encoded source URL
limit_request_fields = 100
limit_request_field_size = 8190

# gunicorn's control socket has one fixed place per user, which two servers would fight over.
control_socket_disable = True

# The heartbeat file belongs in memory: on a slow disk its updates can stall a worker.
if os.access("/dev/shm", os.W_OK):  # noqa: S108
    worker_tmp_dir = "/dev/shm"  # noqa: S108

loglevel = _settings.log_level
errorlog = "-"
accesslog = None  # nginx writes one; ``--access-logfile -`` turns it on here
