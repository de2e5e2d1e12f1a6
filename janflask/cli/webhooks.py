"""``janflask webhooks``: who is told what happens here. Works on the data folder; a running server takes each change at
once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from janflask.cli.options import current_settings, json_option
from janflask.cli.store import counted, explained, moment, print_json, table
from janflask.cli.terminal import Group, console, echo, one_line

if TYPE_CHECKING:
    from janflask.webhooks.endpoints import Endpoint, EndpointFile, Endpoints
    from janflask.webhooks.queue import Delivery, Queue


@click.group(cls=Group, short_help="Tell other programs what happens here.")
def webhooks() -> None:
    """Have other programs told of threads, messages, runs, responses and models, by signed POST requests.

    docs/webhooks.md has the events, and how a receiver checks them.
    """


@webhooks.command()
@click.argument("url")
@click.option(
    "--event",
    "wanted",
    multiple=True,
    metavar="EVENT",
    help="What it is told: thread.created, thread.run.*, ...; more than once for more.  [default: everything]",
)
@click.option("--allow-private", is_flag=True, help="It may be on this machine or its network, and without TLS.")
@json_option
def add(url: str, wanted: tuple[str, ...], allow_private: bool, as_json: bool) -> None:
    """Add an endpoint. Its secret, by which it knows what is from here, is shown this once."""
    from janflask.deliveries.post import check_address, check_target
    from janflask.files import ids
    from janflask.webhooks import events, signing
    from janflask.webhooks.endpoints import ENDPOINT, MAX_URL, Endpoint, Secret

    if unknown := events.unknown(wanted):
        raise click.UsageError(f"there is no event {unknown[0]!r}; there are {', '.join(events.TYPES)}")
    if len(url) > MAX_URL:
        raise click.UsageError(f"a URL has at most {MAX_URL} characters")
    secret = signing.new_secret()
    with explained():
        try:
            check_address(check_target(url, allow_private), allow_private)
        except OSError as error:
            echo(f"Its host cannot be found now ({error}): added all the same.", err=True)
        endpoint = Endpoint(
            id=ids.new_id(ENDPOINT),
            url=url,
            events=list(wanted) or [events.EVERY],
            secrets=[Secret(secret)],
            created=int(time.time()),
            private=allow_private,
        )
        _file().change(lambda endpoints: endpoints.with_one(endpoint))
    _show_secret(endpoint, secret, as_json)


@webhooks.command("list")
@json_option
def list_endpoints(as_json: bool) -> None:
    """List the endpoints and how it stands with each, without their secrets."""
    with explained():
        queue = _queue() if _has_spool() else None
        found = [_plain(endpoint, queue) for endpoint in _file().current().known.values()]
    if as_json:
        print_json(found)
        return
    if not found:
        echo("Nobody is told anything. `janflask webhooks add URL` adds an endpoint.")
        return
    rows = table("ENDPOINT", "URL", "EVENTS", "WAITING", "DEAD", "DELIVERED", "STATE")
    for each in found:
        state = f"disabled: {each['disabled']}" if each["disabled"] else "enabled"
        numbers = (str(each[name]) for name in ("waiting", "dead", "delivered"))
        rows.add_row(each["id"], one_line(each["url"]), ", ".join(each["events"]), *numbers, one_line(state))
    console().print(rows)


@webhooks.command()
@click.argument("endpoint_ids", metavar="ENDPOINT...", nargs=-1, required=True)
def remove(endpoint_ids: tuple[str, ...]) -> None:
    """Remove endpoints, and what waits for them."""

    def removed(endpoints: Endpoints) -> Endpoints:
        for endpoint_id in endpoint_ids:
            endpoints = endpoints.without(_known(endpoints, endpoint_id).id)
        return endpoints

    with explained():
        left = _file().change(removed)
        if _has_spool():
            _queue().forget_others(left.known)
    echo(f"{counted(len(endpoint_ids), 'endpoint')} removed.")


@webhooks.command()
@click.argument("endpoint_id", metavar="ENDPOINT")
def enable(endpoint_id: str) -> None:
    """Tell an endpoint again that has answered 410 (gone). `redeliver` sends what it missed until then."""
    import msgspec

    with explained():
        _change(endpoint_id, lambda endpoint: msgspec.structs.replace(endpoint, disabled=None))
    echo(f"{endpoint_id} is told what happens from now on.")


@webhooks.command()
@click.argument("endpoint_id", metavar="ENDPOINT")
@click.option(
    "--overlap",
    type=click.FloatRange(0, 24 * 365),
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="How long the secret before still signs, too.",
)
@json_option
def rotate(endpoint_id: str, overlap: float, as_json: bool) -> None:
    """Give an endpoint a new secret, shown this once. For a while both sign, so that the receiver can change over."""
    import msgspec

    from janflask.webhooks import signing
    from janflask.webhooks.endpoints import Secret

    secret, now = signing.new_secret(), time.time()

    def rotated(endpoint: Endpoint) -> Endpoint:
        ends = int(now + overlap * 3600)
        older = [Secret(old.text, ends if old.until is None else min(old.until, ends)) for old in endpoint.secrets]
        kept = [old for old in older if old.until is not None and old.until > now]
        return msgspec.structs.replace(endpoint, secrets=[Secret(secret), *kept])

    with explained():
        endpoint = _change(endpoint_id, rotated)
    _show_secret(endpoint, secret, as_json)


@webhooks.command()
@click.argument("endpoint_id", metavar="ENDPOINT")
def test(endpoint_id: str) -> None:
    """Send an endpoint a webhook.test event now, and tell what it answers. It is tried once."""
    from janflask.deliveries.post import post
    from janflask.files import ids
    from janflask.webhooks.events import EVENT, TEST

    with explained():
        endpoint = _known(_file().current(), endpoint_id)
        outcome = post(endpoint, ids.new_id(EVENT), TEST, {"id": endpoint.id}, ids.now_ms())
    if outcome.has_arrived:
        echo(f"{one_line(endpoint.url)} answered {outcome.status}: it works.")
        return
    raise click.ClickException(f"{one_line(endpoint.url)}: {outcome.problem}")


@webhooks.command()
@click.option("--endpoint", "endpoint_id", metavar="ENDPOINT", help="Those of this endpoint.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, metavar="N", help="At most.")
@json_option
def dead(endpoint_id: str | None, limit: int, as_json: bool) -> None:
    """List dead letters, the newest first: events that were tried for days, or given up otherwise."""
    with explained():
        found = _queue().dead(limit, endpoint_id) if _has_spool() else []
    if as_json:
        print_json([_letter(delivery) for delivery in found])
        return
    if not found:
        echo("There are no dead letters.")
        return
    rows = table("EVENT", "TYPE", "OBJECT", "ENDPOINT", "TRIES", "GIVEN UP", "WHY")
    for each in found:
        when = moment(each.dead_ms or 0)
        rows.add_row(each.id, each.type, each.data["id"], each.endpoint, str(each.tries), when, one_line(each.problem))
    console().print(rows)


@webhooks.command()
@click.argument("event_ids", metavar="[EVENT...]", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="All dead letters.")
@click.option("--endpoint", "endpoint_id", metavar="ENDPOINT", help="To this endpoint only.")
def redeliver(event_ids: tuple[str, ...], is_all: bool, endpoint_id: str | None) -> None:
    """Send dead letters again, by the ids of their events; a running server does so at once."""
    if bool(event_ids) is is_all:
        raise click.UsageError("name events, or say --all")
    with explained():
        known = _file().current()
        chosen = list(known.known) if endpoint_id is None else [_known(known, endpoint_id).id]
        if is_disabled := [name for name in chosen if known.known[name].disabled]:
            raise click.ClickException(f"{is_disabled[0]} is disabled: `janflask webhooks enable {is_disabled[0]}`")
        number = _queue().redeliver(chosen, None if is_all else event_ids) if _has_spool() else 0
    echo(f"{counted(number, 'delivery')} due again." if number == 1 else f"{number} deliveries due again.")
    if number == 0:
        raise click.exceptions.Exit(1)


def _file() -> EndpointFile:
    from janflask.webhooks.endpoints import EndpointFile

    settings = current_settings()
    return EndpointFile(settings.secrets_dir, settings.lock_timeout)


def _queue() -> Queue:
    from janflask.webhooks.queue import Queue
    from janflask.webhooks.spool import Spool

    settings = current_settings()
    return Queue(Spool(settings.webhooks_dir, durable=True, timeout=settings.lock_timeout))


def _has_spool() -> bool:
    from janflask.webhooks.spool import NAME

    return (current_settings().webhooks_dir / NAME).exists()


def _known(endpoints: Endpoints, endpoint_id: str) -> Endpoint:
    from janflask.errors import NotFoundError

    if endpoint_id not in endpoints.known:
        raise NotFoundError(f"there is no endpoint {endpoint_id!r}; `janflask webhooks list` shows them")
    return endpoints.known[endpoint_id]


def _change(endpoint_id: str, changed: Callable[[Endpoint], Endpoint]) -> Endpoint:
    after = _file().change(lambda endpoints: endpoints.with_one(changed(_known(endpoints, endpoint_id))))
    return after.known[endpoint_id]


def _show_secret(endpoint: Endpoint, secret: str, as_json: bool) -> None:
    if as_json:
        print_json({"id": endpoint.id, "url": endpoint.url, "events": endpoint.events, "secret": secret})
        return
    echo(secret)
    echo(f"\nThis is the secret of {endpoint.id}. It is not shown again: keep it now.", err=True)


def _plain(endpoint: Endpoint, queue: Queue | None) -> dict[str, Any]:
    """What may be shown of an endpoint; without a queue nothing was ever told."""
    counts = None if queue is None else queue.counts(endpoint.id)
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "events": endpoint.events,
        "created": endpoint.created,
        "private": endpoint.private,
        "disabled": endpoint.disabled,
        "waiting": 0 if counts is None else counts.waiting,
        "dead": 0 if counts is None else counts.dead,
        "delivered": 0 if counts is None else counts.outcomes.get("delivered", 0),
    }


def _letter(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "type": delivery.type,
        "data": delivery.data,
        "endpoint": delivery.endpoint,
        "created_at": delivery.made_ms // 1000,
        "tries": delivery.tries,
        "given_up_at": (delivery.dead_ms or 0) // 1000,
        "problem": delivery.problem,
    }
