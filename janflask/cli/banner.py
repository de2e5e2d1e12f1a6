"""What to try next, printed once the server is serving."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from janflask.cli.client import CA_VARIABLE, KEY_VARIABLE, server_url
from janflask.models.catalog import ModelCatalog
from janflask.settings import Settings
from janflask.tls.trust import public_path

QUESTION = "Why is the sky blue?"


def welcome(settings: Settings, url: str | None = None) -> str:
    """A few lines with the page's address, a request to paste, the chat command and the documentation's address.

    ``url`` is the server's address where it differs from the settings, as it does with port 0.
    """
    url = server_url(settings) if url is None else url
    lines = [f"janflask is serving at {url}", ""]
    model_id = _first_model(settings)
    if model_id is None:
        lines += [
            f"There is no model in {settings.models_dir} yet. Fetch one, make one of a GGUF file here, or name another",
            "server that runs one:",
            f"In a browser   {url}/",
            f"Fetch          {_command()} models pull hf:ORG/REPO:Q4_K_M",
            f"Import         {_command()} models import FILE.gguf",
            f"Elsewhere      {_command()} models add-upstream http://HOST:PORT/v1",
            f"Models         {url}/v1/models",
        ]
    else:
        body = f'{{"model": "{model_id}", "stream": true, "messages": [{{"role": "user", "content": "{QUESTION}"}}]}}'
        key = f' -H "Authorization: Bearer ${KEY_VARIABLE}"' if _asks_for_key(settings) else ""
        trusted = f" --cacert {_shown(public_path(settings))}" if settings.tls_self_signed else ""
        curl = f"curl -N{trusted} {url}/v1/chat/completions{key}"
        lines += [
            f"In a browser   {url}/",
            f"Ask something  {curl} -H 'Content-Type: application/json' -d '{body}'",
            f"Chat           {_command()} chat {model_id}",
        ]
    if settings.tls_self_signed:
        lines += _certificate(settings)
    return "\n".join([*lines, f"Documentation  {url}/docs", ""])


def _certificate(settings: Settings) -> list[str]:
    """What the server's own certificate is, and how clients come to trust it."""
    from janflask.tls.pair import day, read_facts

    path = public_path(settings)
    facts, shown = read_facts(path), _shown(path)
    return [
        f"Certificate    {shown}, made by this server for {', '.join(facts.names)}; good until {day(facts.not_after)}",
        f"Fingerprint    SHA-256 {facts.sha256}",
        f"Trust it       curl --cacert {shown}",
        f"               SSL_CERT_FILE={shown} for the SDKs of Python, NODE_EXTRA_CA_CERTS={shown} for Node's",
        f"               JANFLASK_TLS_SELF_SIGNED=1 for janflask's commands here, {CA_VARIABLE}={shown} elsewhere",
    ]


def _shown(path: Path) -> str:
    """A path to be pasted: short, where it is below this folder."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def _command() -> str:
    """How ``janflask`` is called from here: by its path where the shell would not find it."""
    script = Path(sys.executable).with_name("janflask")
    return "janflask" if shutil.which("janflask") or not script.exists() else _shown(script)


def _asks_for_key(settings: Settings) -> bool:
    from janflask.access.key_file import KeyFile

    return KeyFile(settings.secrets_dir).current().required


def _first_model(settings: Settings) -> str | None:
    usable = (card.id for card in ModelCatalog(settings.models_dir).list() if card.present and card.problem is None)
    return next(usable, None)
