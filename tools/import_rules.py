"""Who may import whom: the one table, which ``tests/unit/test_imports.py`` holds and ``docs/architecture.md`` shows."""

from __future__ import annotations

from collections.abc import Mapping

BASE = frozenset({"errors", "settings"})

# Each room of janflask, from the ground up, and the rooms it may import; every room may import itself.
ALLOWED: Mapping[str, frozenset[str]] = {
    "errors": frozenset(),
    "settings": frozenset({"errors"}),
    "files": BASE,
    "parsing": frozenset(),
    "models": BASE | {"files"},
    "storage": BASE | {"files", "models"},
    "ipc": BASE | {"models", "storage", "parsing"},
    "downloads": BASE | {"files", "models"},
    "transfer": BASE | {"files", "models", "storage"},
    "inference": BASE | {"parsing", "models", "storage", "ipc"},
    "services": BASE | {"files", "models", "storage", "ipc", "inference"},
    "container": BASE | {"models", "storage", "ipc", "transfer", "inference", "services"},
    "schemas": BASE | {"files", "models", "storage", "inference"},
    "processes": BASE | {"files", "ipc"},
    "engine": BASE | {"parsing", "files", "models", "ipc", "processes"},
    "supervisor": BASE | {"files", "models", "ipc", "downloads", "processes"},
    "runner": BASE | {"files", "models", "storage", "ipc", "processes", "inference", "services", "container"},
    "api": BASE
    | {"files", "models", "storage", "ipc", "parsing", "inference", "services", "container", "schemas", "__init__"},
    "cli": BASE
    | {"files", "models", "storage", "downloads", "transfer", "services", "schemas", "supervisor", "__init__"},
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
    "__init__": NATIVE,
    "engine": WEB,
}
STANDARD_LIBRARY_ONLY = frozenset({"errors", "settings"})
