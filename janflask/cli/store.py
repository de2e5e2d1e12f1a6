"""What the commands about the data folder share: the store, its errors, progress bars, times and JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from janflask.cli.options import current_settings
from janflask.cli.terminal import Rows, column, console, echo, one_line
from janflask.errors import JanflaskError
from janflask.files import ids
from janflask.settings import Settings

if TYPE_CHECKING:
    from janflask.storage.base import Repository
    from janflask.transfer.service import PortableService


MAX_NAME = 60  # characters in a table


class _ThreadName(click.ParamType[str]):
    """The id of a thread, which may be named as a conversation."""

    name = "thread"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return ids.thread_id(value)


THREAD_NAME = _ThreadName()


def open_store() -> tuple[Settings, Repository]:
    """The settings and the store in their data folder, with or without a running server."""
    from janflask.storage import open_repository

    settings = current_settings()
    return settings, open_repository(settings)


def portable() -> PortableService:
    """Import and export over that store."""
    from janflask.transfer.service import PortableService

    return PortableService(*open_store())


@contextmanager
def explained() -> Iterator[None]:
    """Errors of the store and the disk as one line, with exit code 1."""
    try:
        yield
    except (JanflaskError, OSError) as error:
        raise click.ClickException(str(error)) from None
    except UnicodeEncodeError as error:
        raise click.ClickException(f"what was given is no text: {error}") from None


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function that is told how far it is, with a bar where somebody looks."""
    out = console(stderr=True)
    columns = column(), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def moment(ms: int) -> str:
    """A time in milliseconds as a date and time here."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(ms / 1000))
    except (OverflowError, ValueError, OSError):
        return "-"


def table(*headings: str) -> Rows:
    """A plain table whose first column is never broken."""
    made = Rows()
    for number, heading in enumerate(headings):
        made.add_column(heading, no_wrap=number == 0, overflow="fold")
    return made


def named(text: str) -> str:
    """A name for a cell: a dash for none, and cut where it would make the table too wide to read."""
    line = one_line(text) or "-"
    return line if len(line) <= MAX_NAME else f"{line[: MAX_NAME - 1].rstrip()}…"


def print_json(value: Any) -> None:
    """JSON, for scripts."""
    echo(json.dumps(value, indent=2))


def counted(number: int, what: str) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{number} {what}{'' if number == 1 else 's'}"
