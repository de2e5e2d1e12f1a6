"""``janflask threads``: the conversations in the data folder. Works with or without a running server."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from janflask.cli.options import client_for, json_option, url_option
from janflask.cli.store import (
    THREAD_NAME,
    counted,
    explained,
    moment,
    named,
    open_store,
    portable,
    print_json,
    progress_bar,
    table,
)
from janflask.cli.terminal import Group, confirm, console, echo, one_line
from janflask.files import by_path
from janflask.storage.records import Message, Thread

if TYPE_CHECKING:
    from janflask.storage.items import Item
    from janflask.transfer.service import ExportReport, ImportReport, PortableService

_ZIP = b"PK"


@click.group(cls=Group)
def threads() -> None:
    """List, show, move and delete conversations."""


@threads.command("list")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the newest N.")
@json_option
def list_threads(limit: int | None, as_json: bool) -> None:
    """List the conversations, newest first."""
    from janflask.storage.base import Page

    with explained():
        found = open_store()[1].threads.list(Page(limit=limit)).items
    if as_json:
        print_json([_plain(thread) for thread in found])
    else:
        print_threads(found, "There are no conversations.")


@threads.command()
@click.argument("thread_id", metavar="THREAD", type=THREAD_NAME)
@click.argument("text", metavar="TEXT")
@click.option("--model", metavar="ID", help="Who answers.  [default: as thread or assistant say]")
@click.option("--last", type=click.IntRange(1, 10_000), metavar="N", help="Show the model the newest N messages only.")
@click.option("--no-tools", is_flag=True, help="Answer without the assistant's tools and without attached files.")
@url_option
def ask(thread_id: str, text: str, model: str | None, last: int | None, no_tools: bool, url: str | None) -> None:
    """Ask something in a conversation, and print the answer. Needs a running server; both are stored.

    What the model could not be shown, a picture or an attached file, is refused: --last and --no-tools do without.
    """
    from janflask.cli.chat import say
    from janflask.cli.stored import StoredConversation

    options: dict[str, Any] = {"tool_choice": "none"} if no_tools else {}
    if last is not None:
        options["truncation_strategy"] = {"type": "last_messages", "last_messages": last}
    say(StoredConversation(client_for(url), thread_id, model, options), text)


@threads.command()
@click.argument("query", metavar="WORDS...", nargs=-1, required=True)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the newest N.")
@json_option
def search(query: tuple[str, ...], limit: int | None, as_json: bool) -> None:
    """Find the conversations that have all the words, in the title or in a message."""
    from janflask.storage.base import Page

    with explained():
        found = open_store()[1].threads.search(" ".join(query), Page(limit=limit)).items
    if as_json:
        print_json([_plain(thread) for thread in found])
    else:
        print_threads(found, "No conversation has these words.")


@threads.command()
@click.argument("thread_id", metavar="THREAD", type=THREAD_NAME)
@json_option
def show(thread_id: str, as_json: bool) -> None:
    """Show one conversation with its messages."""
    from janflask.storage.jan import message_to_json

    with explained():
        store = open_store()[1].threads
        thread, messages, files = store.get(thread_id), store.all_messages(thread_id), store.files(thread_id)
        if as_json:
            shown = {**_plain(thread), "messages": [message_to_json(message) for message in messages]}
            print_json({**shown, "files": [dataclasses.asdict(file) for file in files]})
            return
        echo(f"{thread.title or '(no title)'}\n{thread.id}  {moment(thread.created_ms)}")
        for file in files:
            echo(f"file {file.name}  {file.bytes} bytes")
        for message in messages:
            _print_message(message)


@threads.command()
@click.argument("thread_ids", metavar="THREAD...", nargs=-1, type=THREAD_NAME)
@click.option("-o", "--output", metavar="FILE", help="Where to; - is the standard output.  [default: -]")
@click.option("--all", "everything", is_flag=True, help="Everything, as one zip archive.")
@click.option("--to", "folder", metavar="FOLDER", type=click.Path(path_type=Path), help="Into a data folder of Jan's.")
def export(thread_ids: tuple[str, ...], output: str | None, everything: bool, folder: Path | None) -> None:
    """Write a conversation as a JSON document, all as a zip archive, or some or all into a Jan folder."""
    if everything and thread_ids:
        raise click.UsageError("name conversations or say --all, not both")
    if folder is not None:
        if output is not None:
            raise click.UsageError("--to and --output are two ways: choose one")
        _export_to(folder, thread_ids)
    elif everything:
        with explained():
            _write(portable().export_all(), output)
    elif len(thread_ids) == 1:
        with explained():
            _write(portable().export_thread(thread_ids[0]), output)
    else:
        raise click.UsageError("name one conversation, or say --all, or --to FOLDER")


@threads.command("import")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@json_option
def import_threads(paths: tuple[str, ...], as_json: bool) -> None:
    """Take in exported conversations (JSON), archives (zip) and folders of Jan's; - is the standard input."""
    reports = []
    for path in paths:
        with explained(), progress_bar(f"importing {path}") as progress:
            report = _import(portable(), path, progress)
        reports.append(report)
        if not as_json:
            _print_import(path, report)
    if as_json:
        print_json([dataclasses.asdict(report) for report in reports])


@threads.command()
@click.argument("thread_ids", metavar="THREAD...", nargs=-1, required=True, type=THREAD_NAME)
@click.option("--yes", is_flag=True, help="Don't ask.")
def delete(thread_ids: tuple[str, ...], yes: bool) -> None:
    """Delete conversations with their messages, for good."""
    with explained():
        store = open_store()[1].threads
        for thread_id in thread_ids:
            title = one_line(store.get(thread_id).title)
            if not yes:
                confirm(f"Delete {thread_id} {title!r} for good?")
            store.delete(thread_id)
            echo(f"{thread_id} is deleted.")


# --- printing ---------------------------------------------------------------------------------------------------------


def _plain(thread: Thread) -> dict[str, Any]:
    from janflask.storage.jan import thread_to_json

    return thread_to_json(thread)


def print_threads(
    found: Sequence[Thread], nothing: str, heading: str = "THREAD", name_of: Callable[[str], str] = str
) -> None:
    """A table of threads under the names that ``name_of`` makes of their ids; ``nothing`` is said if there are none."""
    if not found:
        echo(nothing)
        return
    rows = table(heading, "UPDATED", "MODEL", "TITLE")
    for thread in found:
        rows.add_row(name_of(thread.id), moment(thread.updated_ms), named(_model(thread)), named(thread.title))
    console().print(rows)


def _model(thread: Thread) -> str:
    models = (assistant.model.get("id") for assistant in thread.assistants)
    return thread.model_id or next((name for name in models if isinstance(name, str) and name), "-")


def _print_message(message: Message) -> None:
    from janflask.storage.items import readable_items

    other = [str(part.get("type")) for part in message.content if part.get("type") != "text"]
    held = [*other, *(f"file {file_id}" for file_id in message.files)]
    note = f"  [{', '.join(held)}]" if held else ""
    echo(f"\n{message.role}  {moment(message.created_ms)}{note}")
    for text in [told(item) for item in readable_items(message)] or [message.text]:
        echo(text)


def told(item: Item) -> str:
    """What an item says; what is no message is marked."""
    match item.kind:
        case "function_call" if item.call is not None:
            return f"[calls {one_line(item.call.name)}({item.call.arguments})]"
        case "function_call_output" if item.call is not None:
            return f"[{one_line(item.call.name or item.call.id)} gave back] {item.text}"
        case "reasoning":
            return f"[thinks] {item.text}"
        case "compaction":
            return f"[stands for what is above] {item.text}"
    return item.text


def _print_import(path: str, report: ImportReport) -> None:
    parts = [counted(len(report.threads), "conversation"), counted(len(report.assistants), "assistant")]
    parts.append(counted(len(report.files), "file"))
    echo(f"{path}: {', '.join(parts)} imported.")
    for thread_id in report.threads:
        echo(f"  {thread_id}")
    for old, new in report.renamed.items():
        echo(f"  {old} is {new} here")
    for item in report.skipped:
        echo(f"  left out: {item.path}: {item.reason}", err=True)


# --- writing and reading ----------------------------------------------------------------------------------------------


def _write(pieces: Iterable[bytes], output: str | None) -> None:
    """To the standard output, or to a file that is there only once it is whole."""
    if output is None or output == "-":
        if sys.stdout.isatty():
            raise click.UsageError("this would fill the terminal: name a file with -o, or write into a pipe")
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    target = Path(output)
    with by_path.replacing(target, durable=False, mode=by_path.SHARED_MODE) as out:
        for piece in pieces:
            out.write(piece)
    echo(f"{target} has {target.stat().st_size} bytes.", err=True)


def _export_to(folder: Path, thread_ids: tuple[str, ...]) -> None:
    with explained(), progress_bar(f"exporting to {folder}") as progress:
        report: ExportReport = portable().export_folder(folder, list(thread_ids) or None, progress)
    for item in report.skipped:
        echo(f"left out: {item.path}: {item.reason}", err=True)
    echo(f"{counted(len(report.threads), 'conversation')} written to {folder}.")


def _import(service: PortableService, path: str, progress: Any) -> ImportReport:
    """A folder, an archive or a document, told apart by what it is."""
    if path != "-" and Path(path).is_dir():
        return service.import_folder(Path(path), progress)
    source = nullcontext(sys.stdin.buffer) if path == "-" else Path(path).open("rb")  # noqa: SIM115
    with source as stream, tempfile.TemporaryFile() as copy:
        file = cast(BinaryIO, stream)
        if not file.seekable():
            shutil.copyfileobj(file, copy)
            file = cast(BinaryIO, copy)
        file.seek(0)
        if file.read(len(_ZIP)) == _ZIP:
            return service.import_archive(file, progress)
        file.seek(0)
        return _import_document(service, file, path)


def _import_document(service: PortableService, file: BinaryIO, path: str) -> ImportReport:
    from janflask.transfer.service import ImportReport

    if not file.read(1024).lstrip().startswith(b"{"):
        raise click.ClickException(f"{path} is no exported conversation (JSON), no zip archive and no folder")
    return ImportReport(threads=(service.import_document(file).id,))
