"""``janflask models pull``: asks the server for a download and shows how far it is, until the model is there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from janflask.cli import tables
from janflask.cli.client import Client, ServerError, ServerUnreachableError, error_of
from janflask.cli.options import client_for, json_option, url_option
from janflask.cli.store import print_json
from janflask.cli.terminal import column, console, echo, one_line

Json = Mapping[str, Any]
Show = Callable[[Json], None]

LINE_PAUSE = 5.0  # seconds between two lines where there is no terminal for a bar
FIRST_NAP, LONGEST_NAP = 0.25, 4.0  # seconds between two tries to reach a server that has gone
GIVE_UP = 60.0  # seconds without a word of the server
INTERRUPTED = 130  # exit code: 128 + SIGINT, as shells have it


@click.command(short_help="Fetch a model.")
@click.argument("source", metavar="SOURCE")
@click.option("--id", "model_id", metavar="ID", help="What to call it here.  [default: from the file's name]")
@click.option("--name", metavar="TEXT", help="Its name for people.")
@click.option("--sha256", metavar="HEX", help="Of the file (the first of a split one): anything else is refused.")
@url_option
@json_option
@click.pass_context
def pull(context: click.Context, /, source: str, url: str | None, as_json: bool, **fields: str | None) -> None:
    """Fetch a model from SOURCE, and show how far it is.

    \b
    hf:org/repo:Q4_K_M         the repository's file of that quantization
    hf:org/repo/file.gguf      this file of it
    https://...                any URL of a GGUF, the hub's pages too

    The server does the work. Ctrl-C ends this command only: the same command again shows the rest, and
    `janflask models rm ID` ends the download. One that a server's end cut short goes on with the next server.
    """  # noqa: D301 - click reads the backspace
    names = {"model_id": "id"}
    request = {"source_url": source, **{names.get(key, key): value for key, value in fields.items() if value}}
    client = client_for(url)
    try:
        model_id = str(client.pull(request).get("id"))
    except ServerError as error:
        if error.code != "model_exists":
            raise
        echo(error.message, err=True)
        return
    try:
        with _display() as show:
            follow(client, model_id, show, GIVE_UP)
    except KeyboardInterrupt:
        echo(f"The server goes on with the download; `janflask models rm {model_id}` ends it.", err=True)
        context.exit(INTERRUPTED)
    try:
        model = client.model(model_id)
    except ServerUnreachableError:  # it ended right after the download, which is no failure of that
        model = {"id": model_id, "object": "model", "status": "downloaded"}
    if as_json:
        print_json(model)
    else:
        echo(tables.one_liner(model))


# --- following ------------------------------------------------------------------------------------------------------


def follow(client: Client, model_id: str, show: Show, give_up: float) -> None:
    """Shows each state of the model until its download is done. A server that goes away is waited for.

    Raises ClickException when the download failed, was cancelled, or the server said nothing for ``give_up`` seconds.
    """
    heard, nap, reason = time.monotonic(), FIRST_NAP, "it does not answer"
    while True:
        try:
            with client.watch(model_id) as events:
                for event in events:
                    heard, nap = time.monotonic(), FIRST_NAP
                    if not event.comment and _shown(event.text, model_id, show):
                        return
        except ServerUnreachableError:
            pass  # it may be starting again
        except ServerError as error:
            if error.status == 404:
                raise click.ClickException(f"the download of {model_id} was cancelled") from None
            if error.status is not None and error.status < 500:
                raise
            reason = error.message
        if time.monotonic() - heard > give_up:
            raise click.ClickException(
                f"the server at {client.url} is gone ({reason}). What was fetched of {model_id} is kept, and the "
                "download goes on when a server runs again"
            )
        time.sleep(nap)
        nap = min(2 * nap, LONGEST_NAP)


def _shown(data: str, model_id: str, show: Show) -> bool:
    """Shows the state in an event; whether it is the last one."""
    try:
        state = json.loads(data)
    except ValueError:
        state = None
    if not isinstance(state, dict):
        raise click.ClickException(f"the server sent an event that is no JSON object: {data[:80]!r}")
    if isinstance(state.get("error"), dict):
        raise error_of(state, fallback="the events ended with an error")
    show(state)
    return is_done(model_id, state)


def is_done(model_id: str, state: Json) -> bool:
    """Whether the model is there. Raises ClickException when it will not come."""
    download = download_of(state)
    if download.get("stage") == "failed":
        reason = download.get("error") or state.get("error") or "the server gives no reason"
        raise click.ClickException(f"{model_id} could not be fetched: {one_line(str(reason))}")
    status = tables.status_of(state)
    if status == "not_downloaded":
        reason = state.get("error")
        raise click.ClickException(
            f"{model_id} could not be fetched: {one_line(str(reason))}"
            if reason
            else f"the download of {model_id} was cancelled"
        )
    return status != "downloading"


def download_of(state: Json) -> Json:
    """The part of a model's state that tells how far its download is; empty when there is none."""
    download = state.get("download")
    return download if isinstance(download, Mapping) else {}


# --- showing --------------------------------------------------------------------------------------------------------


def amount(download: Json) -> str:
    """``1.2 GB of 4.1 GB``, or what is known of it."""
    transferred, total = download.get("transferred") or 0, download.get("total")
    done = tables.size(transferred) if transferred else "0 B"
    return f"{done} of {tables.size(total)}" if total else done if transferred else ""


def pace(download: Json) -> tuple[str, str]:
    """Its rate and the time left; empty where nobody knows."""
    rate, left = download.get("bytes_per_second") or 0, download.get("eta_seconds")
    return f"{tables.size(rate)}/s" if rate else "", "" if left is None else f"{tables.duration(left)} left"


def line(model_id: str, download: Json) -> str:
    """How far a download is, for a log."""
    parts = [f"{model_id}: {download.get('stage')}"]
    if shown := amount(download):
        percent = download.get("percent")
        parts.append(shown if percent is None else f"{shown} ({percent:.0f} %)")
    return ", ".join([*parts, *(part for part in pace(download) if part)])


class Lines:
    """A line when the stage changes, and every few seconds."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._stage: object = None
        self._last = 0.0

    def __call__(self, state: Json) -> None:
        download, now = download_of(state), self._clock()
        stage = download.get("stage")
        if stage in (None, "failed") or (stage == self._stage and now - self._last < LINE_PAUSE):
            return
        self._stage, self._last = stage, now
        self._write(line(str(state.get("id")), download))


class Bar:
    """A bar with the stage, bytes, rate and time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    @staticmethod
    def columns() -> tuple[TextColumn | BarColumn, ...]:
        """What ``progress`` must have been made with."""
        fields = ("amount", "rate", "left")
        return (
            column(),
            BarColumn(),
            *(column(f"{{task.fields[{name}]}}") for name in fields),
        )

    def __call__(self, state: Json) -> None:
        download = download_of(state)
        if (stage := download.get("stage")) is None:
            return
        rate, left = pace(download)
        values: dict[str, Any] = {
            "description": f"{state.get('id')} {stage}",
            "completed": download.get("transferred") or 0,
            "total": download.get("total"),
            "amount": amount(download),
            "rate": rate,
            "left": left,
        }
        if self._task is None:
            self._task = self._progress.add_task(**values)
        else:
            self._progress.update(self._task, **values)


@contextmanager
def _display() -> Iterator[Show]:
    out = console(stderr=True)
    if not out.is_terminal:
        yield Lines(lambda text: echo(text, err=True))
        return
    with Progress(*Bar.columns(), console=out, transient=True) as progress:
        yield Bar(progress)
