"""Who may import whom: the one table, which ``tests/unit/test_imports.py`` holds and ``docs/architecture.md`` shows."""

from __future__ import annotations

from collections.abc import Mapping

BASE = frozenset({"errors", "settings", "decoding"})

# Each room of janflask, from the ground up, and the rooms it may import; every room may import itself.
ALLOWED: Mapping[str, frozenset[str]] = {
    "errors": frozenset(),
    "settings": frozenset({"errors"}),
    "decoding": frozenset(),
    "files": BASE,
    "access": BASE | {"files"},
    "tls": BASE | {"files"},
    "parsing": frozenset(),
    "models": BASE | {"files"},
    "webhooks": BASE | {"files"},
    "storage": BASE | {"files", "models", "webhooks"},
    "ipc": BASE | {"models", "storage", "parsing"},
    "downloads": BASE | {"files", "models", "webhooks"},
    "deliveries": BASE | {"files", "webhooks", "downloads"},
    "transfer": BASE | {"files", "models", "storage"},
    "inference": BASE | {"access", "parsing", "models", "storage", "ipc"},
    "services": BASE | {"access", "files", "models", "storage", "ipc", "inference", "webhooks"},
    "metrics": BASE | {"files", "models", "ipc", "webhooks"},
    "container": BASE | {"access", "models", "storage", "ipc", "transfer", "inference", "services", "metrics"},
    "schemas": BASE | {"files", "models", "storage", "inference"},
    "processes": BASE | {"files", "ipc", "access", "tls"},
    "connections": BASE,
    "engine": BASE | {"parsing", "files", "models", "ipc", "processes"},
    "supervisor": BASE | {"files", "models", "ipc", "downloads", "processes", "webhooks"},
    "runner": BASE
    | {"access", "files", "models", "storage", "ipc", "processes", "inference", "services", "container", "deliveries"},
    "api": BASE
    | {"access", "files", "models", "storage", "ipc", "parsing", "inference", "services", "metrics", "container"}
    | {"schemas", "__init__"},
    "cli": BASE
    | {"access", "files", "models", "storage", "downloads", "tls", "transfer", "services", "schemas", "supervisor"}
    | {"webhooks", "deliveries", "__init__"},
    "__init__": BASE | {"api"},
}

WEB = frozenset({"flask", "flask_smorest", "werkzeug", "marshmallow", "webargs", "apispec", "gunicorn"})
NATIVE = frozenset({"llama_cpp", "llguidance", "janflask_ext", "numpy"})

# Libraries that a room must not touch.
FORBIDDEN: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(ALLOWED, WEB | NATIVE),
    "api": NATIVE,
    "schemas": NATIVE,
    "cli": NATIVE,
    "connections": NATIVE | (WEB - {"gunicorn"}),
    "__init__": NATIVE,
    "engine": WEB,
}
STANDARD_LIBRARY_ONLY = frozenset({"errors", "settings"})
