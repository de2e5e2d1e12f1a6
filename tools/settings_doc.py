"""Writes ``docs/settings.md`` from the table of settings; ``make docs`` runs it, a test holds the two together."""

from __future__ import annotations

import sys
from pathlib import Path

from janflask.settings import table

TARGET = Path(__file__).resolve().parent.parent / "docs" / "settings.md"

HEAD = """\
<!-- Made by `make docs` from janflask/settings.py; do not edit. -->
# Settings

Every setting is an environment variable. One that is not set has the default below; one whose value cannot be used
stops the server at its start, with a message that names it. `auto` (or an empty value), where it is the default, leaves
the choice to the server. Yes-or-no settings take `1`/`0`, `true`/`false`, `yes`/`no` or `on`/`off`.

Settings of an engine (`JANFLASK_START_TIMEOUT`, `JANFLASK_QUEUE_LIMIT`, and all from `JANFLASK_CTX_LEN` on) are
defaults: what a model's `model.json` says in `settings` wins. Those that only a model has are in
[models.md](models.md#changing-set).

| variable | default | what it does |
|---|---|---|
"""


def render() -> str:
    """The whole page."""
    return HEAD + "".join(f"| `{name}` | `{default}` | {cell(help)} |\n" for name, default, help in table())


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
