"""``janflask conversations``: threads seen as items, by their names in the Responses API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from janflask.cli.options import json_option
from janflask.cli.store import THREAD_NAME, explained, moment, open_store, print_json
from janflask.cli.terminal import Group, echo
from janflask.cli.threads import ask, print_threads, told
from janflask.files import ids

if TYPE_CHECKING:
    from janflask.storage.items import Item
    from janflask.storage.records import Thread


@click.group(cls=Group)
def conversations() -> None:
    """List, show and answer conversations, as the Responses API sees them: `threads` has the same ones."""


conversations.add_command(ask)


@conversations.command("list")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the newest N.")
@json_option
def list_conversations(limit: int | None, as_json: bool) -> None:
    """List the conversations, newest first."""
    from janflask.storage.base import Page

    with explained():
        found = open_store()[1].threads.list(Page(limit=limit)).items
    if as_json:
        print_json([_plain(thread) for thread in found])
    else:
        print_threads(found, "There are no conversations.", "CONVERSATION", ids.conversation_id)


@conversations.command()
@click.argument("thread_id", metavar="CONVERSATION", type=THREAD_NAME)
@json_option
def show(thread_id: str, as_json: bool) -> None:
    """Show one conversation: what was said and thought, the calls and what they gave back."""
    from janflask.storage.items import readable_items

    with explained():
        store = open_store()[1].threads
        thread, messages = store.get(thread_id), store.all_messages(thread_id)
        items = (item for message in messages for item in readable_items(message))
        if as_json:
            print_json({**_plain(thread), "items": [_item(item) for item in items]})
            return
        echo(f"{thread.title or '(no title)'}\n{ids.conversation_id(thread.id)}  {moment(thread.created_ms)}")
        for item in items:
            echo(f"\n{item.message.role}  {moment(item.message.created_ms)}  {item.id}\n{told(item)}")


def _plain(thread: Thread) -> dict[str, Any]:
    return {
        "id": ids.conversation_id(thread.id),
        "object": "conversation",
        "created_at": thread.created_ms // 1000,
        "metadata": thread.metadata,
    }


def _item(item: Item) -> dict[str, Any]:
    call = item.call
    told: dict[str, Any] = {"id": item.id, "type": str(item.kind), "role": item.message.role}
    if item.kind != "function_call":
        told["text"] = item.text
    if call is not None:
        told |= {"call_id": call.id} | ({"name": call.name, "arguments": call.arguments} if call.name else {})
    return told
