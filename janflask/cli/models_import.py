"""``janflask models import``: a GGUF file of this machine becomes a model. Needs no server."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from janflask.cli import models_disk, tables
from janflask.cli.options import current_settings, json_option
from janflask.cli.store import counted, explained, print_json
from janflask.cli.terminal import column, console, echo
from janflask.models.catalog import ModelCatalog


@click.command("import", short_help="Make a model of a GGUF file on this machine.")
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@click.option("--id", "model_id", metavar="ID", help="What to call it here.  [default: from the file's name]")
@click.option("--name", metavar="TEXT", help="Its name for people.")
@click.option("--link", is_flag=True, help="Leave the file where it is, and only note the place.")
@click.option("--copy", is_flag=True, help="Copy the file, even where a hard link would do.")
@json_option
def import_model(path: Path, model_id: str | None, name: str | None, link: bool, copy: bool, as_json: bool) -> None:
    """Make a model of the GGUF file PATH, or of the split one that PATH is a part of. A running server sees it at once.

    The file gets a hard link in the data folder: no space is taken, and it stays if the original is deleted. Where that
    is not possible, such as from another disk, it is copied. --link takes the file from where it is each time instead:
    it must stay there. A lone mmproj*.gguf beside the model comes along.
    """
    from janflask.services.model_import import ModelImportService, Way

    if link and copy:
        raise click.UsageError("--link and --copy are two ways: choose one")
    way = Way.REFERENCE if link else Way.COPY if copy else None
    settings = current_settings()
    service = ModelImportService(settings, ModelCatalog(settings.models_dir), models_disk.is_download)
    with explained(), _progress(f"importing {path.name}") as progress:
        imported = service.add(path, way=way, model_id=model_id, name=name, progress=progress)
    if as_json:
        print_json(dataclasses.asdict(imported))
        return
    how = {Way.HARD_LINK: "hard link", Way.COPY: "copy", Way.REFERENCE: f"used from {path.absolute().parent}"}
    found = ModelCatalog(settings.models_dir).get(imported.model_id)
    echo(f"{tables.one_liner(tables.card_object(found))}: {counted(imported.files, 'file')}, {how[imported.way]}")
    if imported.mmproj is not None:
        echo(f"{imported.mmproj} came along as its projector.")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function that is told bytes done and in all, with a bar where somebody looks."""
    out = console(stderr=True)
    columns = column(), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, TimeRemainingColumn(), console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
