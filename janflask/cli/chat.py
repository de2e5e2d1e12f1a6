"""``janflask chat``: a streamed conversation in the terminal, or one question a line from a pipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TextIO

import click

from janflask.cli import tables
from janflask.cli.answer import Answer
from janflask.cli.client import Client, Event, ServerError
from janflask.cli.options import client_for, url_option
from janflask.cli.stored import StoredConversation
from janflask.cli.terminal import Command, console, echo, show_error, status_text

PROMPT = "> "
SILENT = ("", "keep-alive")  # comments that say no more than that the server is there
HELP = """\
/clear   forget the conversation (the system prompt stays)
/exit    leave (so does Ctrl-D)
/help    this
Ctrl-C   stop the answer; what has been said of it stays in the conversation"""


class Talk(Protocol):
    """A conversation, kept here or by the server."""

    model: str

    def clear(self) -> str: ...
    def ask(self, question: str) -> Generator[Event, None, None]: ...


class Conversation:
    """The messages so far, and the next answer as it comes.

    ``options`` are further fields of the chat request (``temperature`` and the like).
    """

    def __init__(self, client: Client, model: str, system: str | None, options: dict[str, Any]) -> None:
        self.model = model
        self.messages: list[dict[str, str]] = []
        self._client = client
        self._system = system
        self._options = options
        self.clear()

    def clear(self) -> str:
        """Forgets everything but the system prompt; says so."""
        self.messages = [{"role": "system", "content": self._system}] if self._system else []
        return "The conversation is forgotten."

    def ask(self, question: str) -> Generator[Event, None, None]:
        """The answer in pieces; comments tell that the server still works. Closing the iterator stops the answer.

        What has been said stays in ``messages`` however it ends; a question that got no word of an answer does not.
        Raises ServerUnreachableError and ServerError, and ClickException for an answer that is not what was asked for.
        """
        self.messages.append({"role": "user", "content": question})
        request = {"model": self.model, "messages": list(self.messages), "stream": True, **self._options}
        answer = Answer(held="response_format" in self._options)
        try:
            with self._client.stream("/chat/completions", request) as events:
                for event in events:
                    piece = event if event.comment else answer.take(event.text)
                    if piece.comment or piece.text:
                        yield piece
            yield from answer.end()
        finally:
            if answer.text:
                self.messages.append({"role": "assistant", "content": answer.text})
            else:
                self.messages.pop()


def say(conversation: Talk, question: str) -> None:
    """Asks, and prints the answer as it comes. Ctrl-C stops it: the connection closes, which frees the engine."""
    waiting = f"waiting for {conversation.model}…"
    status = console(stderr=True).status(status_text(waiting))
    pieces = conversation.ask(question)
    try:
        with status:
            for piece in pieces:
                if piece.comment:
                    status.update(status_text(f"{piece.text}…" if piece.text not in SILENT else waiting))
                    continue
                status.stop()
                echo(piece.text, nl=False)
    finally:
        pieces.close()
        echo()


def talk(conversation: Talk) -> None:
    """Question and answer at a terminal until Ctrl-D or /exit. An error ends an answer, not the conversation."""
    with suppress(ImportError):  # no line editing on a Python that was built without it
        import readline  # noqa: F401
    echo(f"Chatting with {conversation.model}. /help shows what else can be done, Ctrl-D leaves.", err=True)
    while True:
        try:
            line = input(PROMPT).strip()
        except KeyboardInterrupt:
            echo()
            continue
        except EOFError:
            echo()
            return
        if line == "/exit":
            return
        if line.startswith("/"):
            echo(command(conversation, line))
        elif line:
            try:
                say(conversation, line)
            except KeyboardInterrupt:
                echo("(stopped)", err=True)
            except click.ClickException as error:
                show_error(error)


def command(conversation: Talk, line: str) -> str:
    """Does what a line beginning with a slash says; what to answer."""
    if line == "/clear":
        return conversation.clear()
    return HELP if line == "/help" else f"There is no {line.split()[0]}. There is:\n{HELP}"


@click.command(cls=Command, short_help="Talk to a model in the terminal.")
@click.argument("model", metavar="MODEL", required=False)
@click.option("--thread", "thread_id", metavar="ID", help="Go on with a stored conversation.")
@click.option("--system", metavar="TEXT", help="The system prompt.")
@click.option("--temperature", type=click.FloatRange(0, 2), help="0 is greedy.  [default: the model's]")
@click.option("--max-tokens", type=click.IntRange(1), help="Longest answer, in tokens.  [default: the model's]")
@click.option("--seed", type=int, help="For answers that can be repeated.")
@click.option(
    "--json-schema", metavar="FILE", type=click.Path(path_type=Path), help="Answer in JSON that meets this schema."
)
@url_option
def chat(
    model: str | None,
    thread_id: str | None,
    system: str | None,
    json_schema: Path | None,
    url: str | None,
    **options: Any,
) -> None:
    """Talk to MODEL in the terminal. From a pipe: one question a line, the answers to standard output.

    A model that does not run yet is started by the first question. With --thread question and answer become part of
    that conversation, and MODEL may be left out if thread or assistant name one.

    With --json-schema each answer is JSON that meets the schema in FILE; one that does not in the end, or is cut, is an
    error. Say in the question, too, what the answer should hold.
    """
    client = client_for(url)
    held = {} if json_schema is None else {"response_format": schema_format(json_schema)}
    if model is not None:
        _check_model(client, model)
    given = {name: value for name, value in options.items() if value is not None} | held
    conversation: Talk
    if thread_id is not None:
        conversation = StoredConversation(
            client, thread_id, model, given | ({"instructions": system} if system else {})
        )
    elif model is not None:
        conversation = Conversation(client, model, system, given)
    else:
        raise click.UsageError("say which MODEL, or go on with a stored conversation: --thread ID")
    if sys.stdin.isatty():
        talk(conversation)
        return
    for line in _lines(sys.stdin):
        if line.strip():
            say(conversation, line.strip())


def schema_format(path: Path) -> dict[str, Any]:
    """The ``response_format`` for the JSON schema in a file. Raises ClickException when there is none in it."""
    try:
        schema = json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=_no_number)
    except OSError as error:
        raise click.ClickException(f"--json-schema: {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise click.ClickException(f"--json-schema: {path} holds no JSON: {error}") from None
    if not isinstance(schema, dict):
        raise click.ClickException(f"--json-schema: {path} holds no JSON schema, which is an object")
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def _lines(stream: TextIO) -> Iterator[str]:
    try:
        for line in stream:
            line.encode()  # what is no text may have come in as half characters
            yield line
    except UnicodeError as error:
        raise click.ClickException(f"the input is no text in {stream.encoding}: {error}") from None


def _check_model(client: Client, model: str) -> None:
    try:
        client.model(model)
    except ServerError as error:
        if error.status != 404:
            raise
        known = tables.ids(client.models()) or "none"
        raise click.ClickException(f"the server has no model {model!r}; there are: {known}") from None
