"""The log as JSON: an object a line, whatever is in a message, with the id of the request that it is about."""

from __future__ import annotations

import json
import logging
from contextvars import Context, copy_context
from io import StringIO

import pytest

from janflask.ipc.request_id import CURRENT
from janflask.processes.logs import FIELDS, JsonFormatter, WithoutQuotes


def written(message: str, *args: object, **kwargs: object) -> dict[str, object]:
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter("worker"))
    logger = logging.Logger("janflask.test")
    logger.addHandler(handler)
    logger.warning(message, *args, **kwargs)  # type: ignore[arg-type]
    (line,) = stream.getvalue().splitlines()
    found: dict[str, object] = json.loads(line)
    return found


def test_a_line_is_an_object() -> None:
    told = Context().run(written, "two\nlines of %s", "words")
    assert {name: told[name] for name in ("level", "process", "logger", "message")} == {
        "level": "warning",
        "process": "worker",
        "logger": "janflask.test",
        "message": "two\nlines of words",
    }
    assert str(told["time"]).endswith("Z")
    assert "request_id" not in told


def test_it_says_which_request_it_is_about() -> None:
    def inside() -> dict[str, object]:
        CURRENT.set("req-1")
        return written("x")

    assert copy_context().run(inside)["request_id"] == "req-1"
    told = written("x", extra={FIELDS: {"request_id": "req-2", "slot": 3, "none": None}})
    assert (told["request_id"], told["slot"], "none" in told) == ("req-2", 3, False)


def test_an_exception_is_a_field() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        told = written("it failed", exc_info=True)
    assert "ValueError: no" in str(told["exception"])


@pytest.mark.parametrize(
    ("message", "left"),
    [
        (
            "Invalid request from ip=::1: Invalid HTTP method: 'my words'",
            "Invalid request from ip=::1: Invalid HTTP method",
        ),
        ("Ignored premature client disconnection. No more data after: b'words'", None),
        ("Error handling request GET /v1/threads?x=words", "Error handling request GET /v1/threads"),
        ("Booting worker with pid: 7 'as it is'", "Booting worker with pid: 7 'as it is'"),
    ],
)
def test_what_gunicorn_quotes_is_left_out(message: str, left: str | None) -> None:
    record = logging.LogRecord("gunicorn.error", logging.INFO, "", 0, "%s", (message,), None)
    assert WithoutQuotes().filter(record)
    assert record.getMessage() == left or (left is None and "words" not in record.getMessage())
