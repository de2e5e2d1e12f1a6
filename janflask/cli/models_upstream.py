"""``janflask models add-upstream``: a model that another server runs gets an entry here. Needs no server of ours."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from janflask.cli import models_disk, tables
from janflask.cli.options import current_settings, json_option
from janflask.cli.store import explained, print_json
from janflask.cli.terminal import Command, console, echo, status_text
from janflask.cli.upstream_probe import Listed, UpstreamProbe
from janflask.errors import ConflictError
from janflask.models.catalog import ModelCatalog
from janflask.models.upstream import ServerKind, Upstream, read_base_url, read_upstream
from janflask.models.upstream_entry import FACT, default_id
from janflask.models.upstream_key import upstream_key
from janflask.services.upstream_entries import UpstreamEntryService

UNKNOWN = "?"  # stands for the model's name until that is known


@click.command("add-upstream", cls=Command, short_help="Use a model that another server runs.")
@click.argument("base_urls", metavar="BASE_URL...", nargs=-1, required=True)
@click.option("--model", metavar="NAME", help="Its name there.  [default: the only one there]")
@click.option("--id", "model_id", metavar="ID", help="What to call it here.  [default: from its name there]")
@click.option(
    "--kind", type=click.Choice([str(kind) for kind in ServerKind]), help="What runs there.  [default: asked]"
)
@click.option("--api-key-file", metavar="FILE", help="A file NAME.key, closed to others, with the key in it.")
@click.option("--api-key-env", metavar="VAR", help="A variable JANFLASK_UPSTREAM_... of the server with the key in it.")
@click.option("--ca-file", metavar="FILE", help="PEM certificates to trust in place of the system's.")
@click.option("--ctx-len", type=int, metavar="N", help="Tokens of prompt and answer.  [default: what it says]")
@click.option("--max-concurrent", type=int, metavar="N", help="Requests at once to each BASE_URL.  [default: 64]")
@click.option("--timeout", type=float, metavar="SECONDS", help="Longest silence in an answer.  [default: 600]")
@click.option("--force", is_flag=True, help="Replace the upstream of an entry that there is.")
@click.option("--no-check", is_flag=True, help="Write the entry without asking the server.")
@json_option
def add_upstream(
    base_urls: tuple[str, ...], model_id: str | None, force: bool, no_check: bool, as_json: bool, **fields: Any
) -> None:
    """Use a model that an OpenAI-compatible server at BASE_URL runs: vLLM, llama-server, llama-cpp-python, janflask.

    BASE_URL is what OpenAI's clients call so, such as http://10.0.0.2:8000/v1. Several that have the same model share
    the load. A server of ours that is running sees the entry at once. Only this command, or an editor, writes one:
    docs/upstreams.md says what stands in it.
    """
    table, upstream = _table(base_urls, fields)
    context: int | None = None
    if not no_check:
        table, context = _checked(table, upstream)
    elif upstream.model == UNKNOWN:
        raise click.UsageError("--no-check asks nobody: say with --model what the model is called there")
    settings = current_settings()
    catalog = ModelCatalog(settings.models_dir)
    service = UpstreamEntryService(settings, catalog, models_disk.is_download)
    facts = {} if context is None or upstream.ctx_len is not None else {FACT: context}
    with explained():
        upstream = _read(table)
        card = service.add(model_id or default_id(upstream), table, facts=facts, replace=force)
    _warn(upstream)
    if as_json:
        print_json(tables.card_object(card))
        return
    what = "" if upstream.model == card.id else f", named {upstream.model} there"
    echo(f"{tables.one_liner(tables.card_object(card))}, run by {upstream.kind}{what}")
    echo(f"Chat     janflask chat {card.id}")
    echo("Watch    janflask models ps")


def _table(base_urls: Sequence[str], fields: dict[str, Any]) -> tuple[dict[str, Any], Upstream]:
    """The upstream as model.json has it, with UNKNOWN where the model's name is not said, and the same read."""
    urls = [_with_v1(url) for url in base_urls]
    places = {
        name: str(Path(fields[name]).expanduser().absolute())
        for name in ("api_key_file", "ca_file")
        if fields[name] is not None
    }
    given = {name: value for name, value in {**fields, **places}.items() if value is not None}
    table = {"base_urls": urls, "model": UNKNOWN, **given}
    return table, _read(table)


def _with_v1(url: str) -> str:
    """A URL of a host alone gets the path that all servers have; raises UsageError for what is no base URL."""
    try:
        right = read_base_url(url if "//" in url else f"http://{url}")
    except ValueError as error:
        raise click.UsageError(f"BASE_URL {error}") from None
    return right if urlsplit(right).path else f"{right}/v1"


def _read(table: dict[str, Any]) -> Upstream:
    try:
        return read_upstream(table, Path.cwd())
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _checked(table: dict[str, Any], upstream: Upstream) -> tuple[dict[str, Any], int | None]:
    """The table with the model's name and kind, and the model's context as the servers tell it."""
    try:
        key = upstream_key(upstream)
    except ConflictError as error:
        hint = "" if upstream.api_key_env is None else " (for this check, set it in this shell; or give --no-check)"
        raise click.ClickException(f"{error.message}{hint}") from None
    probe = UpstreamProbe(upstream, key)
    with console(stderr=True).status(status_text(f"asking {', '.join(upstream.base_urls)}…")):
        lists = {url: probe.models(url) for url in upstream.base_urls}
        name = upstream.model if upstream.model != UNKNOWN else _only(lists)
        found = {url: _of_name(name, url, models) for url, models in lists.items()}
        contexts = [context for url, model in found.items() if (context := probe.context(url, model)) is not None]
    kinds = {model.kind for model in found.values()}
    if len(kinds) > 1 and "kind" not in table:
        told = ", ".join(f"{url} is {model.kind}" for url, model in found.items())
        raise click.ClickException(f"the base URLs of one model must be of one kind ({told}): say which with --kind")
    return {"kind": str(next(iter(kinds))), **table, "model": name}, min(contexts, default=None)


def _only(lists: dict[str, list[Listed]]) -> str:
    """The name of the only model that all of them have."""
    (first, models), *others = lists.items()
    shared = [model.id for model in models if all(any(model.id in it.names for it in there) for _, there in others)]
    if len(shared) == 1:
        return shared[0]
    if shared:
        raise click.ClickException(f"{first} has several models: say which with --model: {', '.join(shared)}")
    told = "; ".join(f"{url}: {_names(there)}" for url, there in lists.items())
    raise click.ClickException(f"there is no model that {'all of them have' if others else 'can be asked'} ({told})")


def _of_name(name: str, url: str, models: list[Listed]) -> Listed:
    found = next((model for model in models if name in model.names), None)
    if found is None:
        raise click.ClickException(f"{url} has no model {name!r}; it has: {_names(models)}")
    return found


def _names(models: list[Listed]) -> str:
    return ", ".join(model.id for model in models) or "none"


def _warn(upstream: Upstream) -> None:
    """Of what goes over a network without TLS."""
    open_ones = [url for url in upstream.base_urls if url.startswith("http://") and not _is_loopback(url)]
    if open_ones:
        what = "the key and all" if upstream.api_key_file or upstream.api_key_env else "all"
        echo(
            f"{', '.join(open_ones)}: {what} that is said goes over the network as plain text. Use https:// where "
            "others share it.",
            err=True,
        )


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
