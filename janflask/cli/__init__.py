"""The command line: ``janflask``, and the same commands under ``flask --app wsgi``. Nothing here needs the engine.

``__main__``: ``python -m janflask.cli``
``answer``: One streamed answer as it comes: its words, its calls, and why it is not what was asked for
``assistants``: ``janflask assistants``: who answers. Works on the data folder, with or without a running server
``banner``: What to try next, printed once the server is serving
``card``: A model's card, the lines of ``models show``: what it is, how it runs, and the memory that it would need
``chat``: ``janflask chat``: a streamed conversation in the terminal, or one question a line from a pipe
``client``: The CLI's way to a running server: JSON requests and server-sent events over the standard library's HTTP
    client
``commands``: The command ``janflask`` and all that it can do
``conversations``: ``janflask conversations``: threads seen as items, by their names in the Responses API
``doctor``: ``janflask doctor``: looks at every file in the data folder. Works beside a running server
``health``: ``janflask health``: for who looks after the server by a command, such as a container's health check
``keys``: ``janflask keys``: who may use the server. Works on the data folder; a running server takes each change at
    once
``keys_give``: ``janflask keys give``: what is stored becomes another key's
``models``: ``janflask models``: what is on disk and what runs. Talks to the running server; looks at the disk when none
    runs
``models_bench``: ``janflask models bench``: how fast a model reads prompts and generates on this machine, as
    llama-bench tells it
``models_disk``: The models in this shell's data folder: for when no server answers, and for what a server does not tell
``models_import``: ``janflask models import``: a GGUF file of this machine becomes a model. Needs no server
``models_pull``: ``janflask models pull``: asks the server for a download and shows how far it is, until the model is
    there
``models_upstream``: ``janflask models add-upstream``: a model that another server runs gets an entry here. Needs no
    server of ours
``options``: What several commands share: the settings of this shell, and the options ``--url`` and ``--json``
``serve``: ``janflask serve``: the settings into the environment, then this process becomes gunicorn
``store``: What the commands about the data folder share: the store, its errors, progress bars, times and JSON
``stored``: A stored conversation, answered by the server: each question becomes a message of the thread, each answer
    too
``tables``: Models as text: tables, and how numbers are written. Reads the API's Model objects; any part may be missing
``terminal``: Text from elsewhere on its way out: to a terminal, which must not obey it, or into a pipe, which gets it
    as it is
``threads``: ``janflask threads``: the conversations in the data folder. Works with or without a running server
``upstream_probe``: Asks an OpenAI-compatible server which models it has, and says what is wrong in words
``webhooks``: ``janflask webhooks``: who is told what happens here. Works on the data folder; a running server takes
    each change at
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

# The commands are imported when they are called: gunicorn's master, too, takes its banner from this package.


def register(app: Flask) -> None:
    """Makes the commands available as ``flask --app wsgi ...``."""
    from janflask.cli.commands import COMMANDS

    for command in COMMANDS:
        app.cli.add_command(command)


def main() -> None:
    """The console script. Exit codes: 0 fine, 1 failure, 2 usage."""
    from janflask.cli.commands import cli

    cli.main(prog_name="janflask")
