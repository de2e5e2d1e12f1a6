"""Text from elsewhere on its way out: to a terminal, which must not obey it, or into a pipe, which gets it as it is.

A character that the encoding lacks becomes a sign in its place, never a traceback. Everything that the commands print
goes through here: plain text through ``echo``, tables through ``Rows``, errors and the log's warnings through
``Command`` and ``Group``.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import click
from rich.console import Console
from rich.progress import TextColumn
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 400  # columns when nobody looks: rows of a table are never broken

_SIGN = "\ufffd"
# What a terminal would obey: control characters, which escape sequences begin with, and what turns the direction of the
# text behind it. Tabs and line ends are text; so is what joins or parts characters (emoji, Persian).
_OBEYED = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)]
_VISIBLE: dict[int, str | None] = {**dict.fromkeys(_OBEYED, _SIGN), ord("\t"): "\t", ord("\n"): "\n", ord("\r"): None}
_CHANGEABLE = ("strict", "surrogateescape")  # how a stream treats what it cannot encode, if nobody has asked for more


def visible(text: str) -> str:
    """Text without what a terminal would obey; tabs and line ends stay."""
    return text.translate(_VISIBLE)


def one_line(text: str) -> str:
    """Text for a cell."""
    return visible(" ".join(text.split()))


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Prints text: visible at a terminal, elsewhere just as it is."""
    stream = sys.stderr if err else sys.stdout
    # Left to itself, click takes escape sequences out of a pipe, and gives an ASCII terminal UTF-8.
    click.echo(visible(text) if stream.isatty() else text, file=stream, nl=nl, color=True)


def show_error(error: click.ClickException) -> None:
    """Tells an error that is not the end."""
    echo(f"Error: {error.format_message()}", err=True)


def confirm(question: str) -> None:
    """Asks at the terminal; no is the end."""
    click.confirm(_fitting(question, sys.stderr), abort=True, err=True)


def console(*, stderr: bool = False) -> Console:
    """The terminal as it is now. No markup: ids and messages from elsewhere are printed as they are."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)


def status_text(text: str) -> Text:
    """Text for a spinner, which would take brackets for markup."""
    return Text(one_line(text))


def column(text: str = "{task.description}") -> TextColumn:
    """A column of a progress bar; the same."""
    return _Column(text, markup=False)


class _Column(TextColumn):
    def render(self, task: Any) -> Text:
        return status_text(super().render(task).plain)


class Rows(Table):
    """A plain table whose cells are text from anywhere."""

    def __init__(self, *, show_header: bool = True) -> None:
        super().__init__(box=None, pad_edge=False, header_style="bold", show_header=show_header)

    def add_row(self, *cells: Any, **about: Any) -> None:
        """Each cell on one line."""
        super().add_row(*(one_line(cell) if isinstance(cell, str) else cell for cell in cells), **about)


class _Notices(logging.Handler):
    """Warnings where no log is set up. They name files, which may be called anything."""

    def emit(self, record: logging.LogRecord) -> None:
        """A line on standard error."""
        echo(self.format(record), err=True)


class Command(click.Command):
    """A command whose output and errors bear any text."""

    def invoke(self, ctx: click.Context) -> Any:
        """Raises what the command does, its error's message fit to be printed."""
        for stream in (sys.stdout, sys.stderr):
            _bear_anything(stream)
        logging.lastResort = _Notices(logging.WARNING)
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            error.message = _fitting(error.message, sys.stderr)  # type: ignore[misc]  # nobody has read it yet
            raise


class Group(Command, click.Group):
    """The same for a group of commands."""


def _bear_anything(stream: TextIO) -> None:
    encoding, errors, change = (getattr(stream, name, None) for name in ("encoding", "errors", "reconfigure"))
    exact = str(encoding).lower() == "utf-8" and errors == "surrogateescape"  # file names come out as they went in
    if change is not None and errors in _CHANGEABLE and not exact:
        change(errors="replace")


def _fitting(text: str, stream: TextIO) -> str:
    text = visible(text) if stream.isatty() else text
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
