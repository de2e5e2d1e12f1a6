"""A WSGI application that tells which worker answers and where its runtime folder is; ``/slow`` takes a while."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], Any]) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/slow":
        time.sleep(1.0)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid(), "runtime_dir": os.environ["JANFLASK_RUNTIME_DIR"]}).encode()]
