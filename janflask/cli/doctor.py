"""``janflask doctor``: looks at every file in the data folder. Works beside a running server."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from janflask.cli.options import current_settings, json_option
from janflask.cli.store import counted, explained, print_json, progress_bar, table
from janflask.cli.terminal import Command, console, echo
from janflask.settings import Settings

if TYPE_CHECKING:
    from janflask.storage.doctor.examination import Finding


@click.command(cls=Command, short_help="Check every file, and repair what can be.")
@click.option("--fix", is_flag=True, help="Repair; whatever is replaced is kept beside it.")
@json_option
@click.pass_context
def doctor(context: click.Context, fix: bool, as_json: bool) -> None:
    """Check every file in the data folder; exit code 1 if something stays wrong."""
    from janflask.storage.doctor.examination import examine

    settings = current_settings()
    with explained(), progress_bar("looking") as progress:
        found = [*examine(settings, fix, progress)]
        for look in (_models, _keys, _webhooks, _certificate):
            found += look(settings)
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in found])
    else:
        _print(found, settings)
    context.exit(0 if all(finding.fixed for finding in found) else 1)


def _models(settings: Settings) -> Iterator[Finding]:
    from janflask.models.catalog import MODEL_FILE, ModelCatalog
    from janflask.models.upstream_key import upstream_problems
    from janflask.storage import odd_values
    from janflask.storage.doctor.examination import Finding

    for card in ModelCatalog(settings.models_dir).list():
        for problem in (card.problem, *upstream_problems(card.upstream)):
            if problem is not None:
                yield Finding(f"models/{card.folder}/{MODEL_FILE}", problem)
        for odd in odd_values.of_tables({"parameters": card.parameters, "settings": card.settings}):
            yield Finding(f"models/{card.folder}/{MODEL_FILE}", f"{odd}; {odd_values.UNUSABLE}")


def _keys(settings: Settings) -> Iterator[Finding]:
    from janflask.access.key_file import NAME, KeyFile
    from janflask.errors import KeysUnreadableError
    from janflask.storage.doctor.examination import Finding

    try:
        KeyFile(settings.secrets_dir).current()
    except KeysUnreadableError as error:
        yield Finding(f"{settings.secrets_dir.name}/{NAME}", error.message)


def _webhooks(settings: Settings) -> Iterator[Finding]:
    from janflask.errors import StoreDamagedError, UnavailableError
    from janflask.storage.doctor.examination import Finding
    from janflask.webhooks import endpoints, spool

    try:
        endpoints.EndpointFile(settings.secrets_dir).current()
    except StoreDamagedError as error:
        yield Finding(f"{settings.secrets_dir.name}/{endpoints.NAME}", error.message)
    with contextlib.closing(spool.Spool(settings.webhooks_dir, durable=False, timeout=settings.lock_timeout)) as events:
        try:
            events.check()
        except (StoreDamagedError, UnavailableError) as error:
            yield Finding(f"{settings.webhooks_dir.name}/{spool.NAME}", error.message)


def _certificate(settings: Settings) -> Iterator[Finding]:
    """Of one that others made; the server's own is renewed by itself."""
    from janflask.storage.doctor.examination import Finding

    if settings.tls_cert is None:
        return
    from janflask.tls.pair import BadPairError, read_pair

    try:
        problem = read_pair(settings.tls_cert, settings.tls_key).facts.problem()
    except BadPairError as error:
        yield Finding(str(settings.tls_cert), str(error))
        return
    if problem is not None:
        yield Finding(str(settings.tls_cert), f"the certificate {problem}")


def _print(found: list[Finding], settings: Settings) -> None:
    if not found:
        echo(f"All is well in {settings.data_dir}.")
        return
    rows = table("PLACE", "PROBLEM", "REPAIR")
    for finding in found:
        rows.add_row(finding.path, finding.problem, _repair(finding))
    console().print(rows)
    fixed = sum(finding.fixed for finding in found)
    fixable = sum(finding.fixable and not finding.fixed for finding in found)
    echo(f"\n{_sentence(len(found), fixed, fixable)}")


def _repair(finding: Finding) -> str:
    if finding.fixed:
        return f"done; the old one is {finding.kept}" if finding.kept else "done"
    return "--fix" if finding.fixable else "by hand"


def _sentence(total: int, fixed: int, fixable: int) -> str:
    problems = counted(total, "problem")
    if fixed == total:
        return f"{problems}, all repaired."
    if fixed:
        return f"{problems}, {fixed} repaired; {total - fixed} to be looked at by hand."
    if fixable:
        return f"{problems}; `janflask doctor --fix` can repair {fixable if fixable < total else 'all of them'}."
    return f"{problems} to be looked at by hand."
