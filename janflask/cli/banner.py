"""What to try next, printed once the server is serving."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from janflask.cli.client import server_url
from janflask.models.catalog import ModelCatalog
from janflask.settings import Settings

QUESTION = "Why is the sky blue?"


def welcome(settings: Settings, url: str | None = None) -> str:
    """A few lines with a request to paste, the chat command and the documentation's address.

    ``url`` is the server's address where it differs from the settings, as it does with port 0.
    """
    url = server_url(settings) if url is None else url
    lines = [f"janflask is serving at {url}", ""]
    model_id = _first_model(settings)
    if model_id is None:
        lines += [
            f"There is no model in {settings.models_dir} yet. Fetch one, make one of a GGUF file here, or name another",
            "server that runs one:",
            f"Fetch          {_command()} models pull hf:ORG/REPO:Q4_K_M",
            f"Import         {_command()} models import FILE.gguf",
            f"Elsewhere      {_command()} models add-upstream http://HOST:PORT/v1",
            f"Models         {url}/v1/models",
        ]
    else:
        body = f'{{"model": "{model_id}", "stream": true, "messages": [{{"role": "user", "content": "{QUESTION}"}}]}}'
        lines += [
            f"Ask something  curl -N {url}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'",
            f"Chat           {_command()} chat {model_id}",
        ]
    return "\n".join([*lines, f"Documentation  {url}/docs", ""])


def _command() -> str:
    """How ``janflask`` is called from here: by its path where the shell would not find it."""
    script = Path(sys.executable).with_name("janflask")
    if shutil.which("janflask") or not script.exists():
        return "janflask"
    here = Path.cwd()
    return str(script.relative_to(here) if script.is_relative_to(here) else script)


def _first_model(settings: Settings) -> str | None:
    usable = (card.id for card in ModelCatalog(settings.models_dir).list() if card.present and card.problem is None)
    return next(usable, None)
