"""How every process writes its log: lines for people, or a JSON object a line. Standard library only.

Neither holds what was asked or answered: of a request its id, its kind, its numbers and how it ended are logged. But
where a setting asks for it, ``WORDS`` says what was said.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import re
import sys
import time
from typing import Any, TextIO

from janflask.ipc.request_id import CURRENT

JSON = "json"
WORDS = "janflask.words"  # the logger of prompts and answers
FIELDS = "fields"  # of a record: what it tells beside its message, {"logger.info(..., extra={FIELDS: {...}})"}

_TEXT = "[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s"
_QUOTE = re.compile(r"""b?['"]""")
_TIMES = "%Y-%m-%d %H:%M:%S %z"


class JsonFormatter(logging.Formatter):
    """One object a line: time (UTC), level, process, pid, logger, message; request_id and more where there is more."""

    def __init__(self, who: str = "server") -> None:
        super().__init__()
        self.who = who

    def format(self, record: logging.LogRecord) -> str:
        """Never more than one line, whatever the message holds."""
        told: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "process": self.who,
            "pid": record.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields: dict[str, Any] = getattr(record, FIELDS, {})
        request_id = fields.get("request_id") or CURRENT.get()
        if request_id is not None:
            told["request_id"] = request_id
        told.update((name, value) for name, value in fields.items() if value is not None)
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            told["stack"] = self.formatStack(record.stack_info)
        return json.dumps(told, ensure_ascii=False, default=repr)


def crashes_too() -> None:
    """A process that dies in a library says where: the functions that each of its threads was in, and no word more."""
    faulthandler.enable(sys.__stderr__ or 2)


def configure(who: str, form: str, level: str, text: str = _TEXT, stream: TextIO | None = None) -> None:
    """For a process of its own: everything that is logged goes to ``stream`` (standard error)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(who) if form == JSON else logging.Formatter(text, _TIMES))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def let_words_through() -> None:
    """What was asked and answered is logged from now on, whatever the level, and where nobody listens to the rest."""
    words = logging.getLogger(WORDS)
    words.setLevel(logging.INFO)
    if not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(_TEXT, _TIMES))
        words.addHandler(handler)


def for_gunicorn(level: str) -> dict[str, Any]:
    """gunicorn's ``logconfig_dict``: its own log and its workers', which are ours, as JSON."""
    quiet = {"level": level.upper(), "handlers": ["console"], "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "root": {"level": level.upper(), "handlers": ["console"]},
        "loggers": {"gunicorn.error": quiet, "gunicorn.access": quiet},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "formatters": {"json": {"()": JsonFormatter, "who": "master"}},
    }


class WithoutQuotes(logging.Filter):
    """Takes out of gunicorn's messages what they quote of a request: it may be a body that was taken for a request."""

    PREFIXES = ("Invalid request from ip", "Ignored premature client disconnection", "Closing connection")

    def filter(self, record: logging.LogRecord) -> bool:
        """Every record passes."""
        message = record.getMessage()
        if message.startswith(self.PREFIXES):
            record.msg, record.args = _QUOTE.split(message, maxsplit=1)[0].rstrip(": "), ()
        elif message.startswith("Error handling request"):
            record.msg, record.args = message.partition("?")[0], ()
        return True


def rename(who: str) -> None:
    """What this process calls itself from now on: a worker was its master a moment ago."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, JsonFormatter):
            handler.formatter.who = who
