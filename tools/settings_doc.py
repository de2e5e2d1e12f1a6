"""Writes ``docs/settings.md`` from the tables of settings; ``make docs`` runs it, a test holds the two together."""

from __future__ import annotations

import sys
from pathlib import Path

from janflask.settings import PREFIX, table, text_of
from janflask.settings.engine_table import Described, described

TARGET = Path(__file__).resolve().parent.parent / "docs" / "settings.md"

HEAD = """\
<!-- Made by `make docs` from janflask/settings/server.py and janflask/settings/engine_table.py; do not edit. -->
# Settings

Every setting of the server is an environment variable. One that is not set has the default below; one whose value
cannot be used stops the server at its start, with a message that names it. `auto` (or an empty value), where it is the
default, leaves the choice to the server. Yes-or-no settings take `1`/`0`, `true`/`false`, `yes`/`no` or `on`/`off`.

Two variables are no settings of the server, but of the commands that ask one: `JANFLASK_API_KEY` is the key that they
send ([security.md](security.md)), `JANFLASK_CA_FILE` a file of certificates that they trust beside the machine's own.

Settings of the engine (from `JANFLASK_CTX_LEN` on) are defaults: what a [model's own](#of-a-model) say wins.

| variable | default | what it does |
|---|---|---|
"""

OF_A_MODEL = """
## Of a model

What a model is started with: `settings` in its `model.json` (`janflask models set ID NAME=VALUE`), and those of one
start (`PUT /v1/models/{model_id}/start`, `janflask models start ID --set NAME=VALUE`), which win. A default in words is
chosen by `auto`; of a file, by an empty name. A request names a file plainly, in the model's own folder.

| setting | type | default | what it does | variable of the server |
|---|---|---|---|---|
"""


def render() -> str:
    """The whole page."""
    of_server = "".join(f"| `{name}` | `{default}` | {cell(help)} |\n" for name, default, help in table())
    return HEAD + of_server + OF_A_MODEL + "".join(map(_row, described()))


def _row(setting: Described) -> str:
    default = f"`{text_of(setting.default)}`" if setting.auto is None else setting.auto
    variable = f"`{PREFIX}{setting.name.upper()}`" if setting.in_environment else ""
    return f"| `{setting.name}` | {setting.json_type} | {default} | {cell(setting.help)} | {variable} |\n"


def cell(text: str) -> str:
    """Text that may stand in a table cell."""
    return text.replace("|", "\\|")


def main() -> int:
    """Writes the page."""
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(render())
    print(f"wrote {TARGET}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
