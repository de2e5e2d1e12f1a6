"""Asks an OpenAI-compatible server which models it has, and says what is wrong in words."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import click

from janflask.models.upstream import ServerKind, Upstream
from janflask.models.upstream_key import shown

CONNECT_TIMEOUT = 5.0  # seconds
SILENCE = 10.0  # seconds without a byte of the answer
MAX_ANSWER = 4 << 20  # bytes
MAX_SHOWN = 200  # characters of what the server says

# What only janflask's own list has together.
_JANFLASK = frozenset({"status", "settings", "parameters", "download", "folder"})
_NOT_THERE = frozenset({"not_downloaded", "downloading"})


@dataclass(frozen=True, slots=True)
class Listed:
    """A model that a server lists."""

    id: str
    names: frozenset[str]  # its id, and further ones that it answers to
    kind: ServerKind
    ctx_len: int | None = None  # tokens


class UpstreamProbe:
    """Asks the servers of one upstream. Redirects are not followed, and certificates are always verified."""

    def __init__(self, upstream: Upstream, key: str | None) -> None:
        """Raises ClickException for a ``ca_file`` that cannot be used."""
        self._key = key
        try:
            self._tls = ssl.create_default_context(cafile=upstream.ca_file)
        except (OSError, ValueError) as error:
            raise click.ClickException(f"{upstream.ca_file} has no certificates to trust: {error}") from None

    def models(self, base_url: str) -> list[Listed]:
        """The models that can be asked there, in the server's order. Raises ClickException."""
        data = self._get(base_url, "/models").get("data")
        if not isinstance(data, list):
            raise click.ClickException(f"{base_url} answers, but not like OpenAI's API: its /models holds no list")
        entries = [entry for entry in data if isinstance(entry, Mapping) and isinstance(entry.get("id"), str)]
        return [_listed(entry) for entry in entries if entry.get("status") not in _NOT_THERE]

    def context(self, base_url: str, model: Listed) -> int | None:
        """Tokens of prompt and answer together, as far as the server tells."""
        if model.kind is not ServerKind.JANFLASK:
            return model.ctx_len
        told = self._get(base_url, f"/models/{quote(model.id, safe='')}")
        runtime, settings, upstream = (told.get(name) or {} for name in ("runtime", "settings", "upstream"))
        return next((ctx for table in (runtime, upstream, settings) if (ctx := _length(table.get("ctx_len")))), None)

    def _get(self, base_url: str, path: str) -> dict[str, Any]:
        try:
            status, location, body = self._exchange(base_url, path)
        except ssl.SSLCertVerificationError as error:
            raise click.ClickException(
                f"the certificate of {base_url} is not trusted ({error.verify_message}): if it is signed by your own "
                "authority, name that one's certificate with --ca-file"
            ) from None
        except ssl.SSLError as error:
            raise click.ClickException(f"{base_url} speaks no TLS ({error.reason}): is it http:// ?") from None
        except TimeoutError:
            raise click.ClickException(f"{base_url} does not answer within {SILENCE:g} s") from None
        except socket.gaierror as error:
            raise click.ClickException(f"the host of {base_url} is not known here ({error.strerror})") from None
        except OSError as error:
            raise click.ClickException(f"{base_url} cannot be reached: {error.strerror or error}") from None
        except http.client.HTTPException as error:
            raise click.ClickException(f"{base_url} does not answer in HTTP ({type(error).__name__})") from None
        if status != 200:
            raise click.ClickException(self._refusal(base_url, path, status, location, body))
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise click.ClickException(
                f"{base_url} answers, but not like OpenAI's API: {path} gives {self._shown(body)!r}. A base URL "
                "ends in /v1 at most servers"
            )
        return answer

    def _exchange(self, base_url: str, path: str) -> tuple[int, str, bytes]:
        """Status, Location and body. Raises OSError and HTTPException."""
        parts = urlsplit(base_url)
        host = parts.hostname or ""
        headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(host, parts.port, timeout=CONNECT_TIMEOUT, context=self._tls)
        else:
            connection = http.client.HTTPConnection(host, parts.port, timeout=CONNECT_TIMEOUT)
        try:
            connection.connect()
            connection.sock.settimeout(SILENCE)
            connection.request("GET", f"{parts.path}{path}", headers=headers)
            with connection.getresponse() as response:
                body = response.read(MAX_ANSWER + 1)
                if len(body) > MAX_ANSWER:
                    raise click.ClickException(
                        f"{base_url}{path} gives more than {MAX_ANSWER} bytes: no list of models"
                    )
                return response.status, response.getheader("Location") or "", body
        finally:
            connection.close()

    def _refusal(self, base_url: str, path: str, status: int, location: str, body: bytes) -> str:
        if 300 <= status < 400:
            return f"{base_url} redirects to {self._shown(location) or 'elsewhere'}: give the URL it leads to"
        if status in (401, 403):
            if self._key is None:
                return f"{base_url} wants a key ({status}): name it with --api-key-file or --api-key-env"
            return f"{base_url} does not accept the key ({status})"
        if status == 404:
            return f"{base_url} has no {path} (404): a base URL ends in /v1 at most servers"
        return f"{base_url} answers {status}: {self._shown(body) or 'without a reason'}"

    def _shown(self, text: str | bytes) -> str:
        """What the server says, short, and without the key if it repeats that."""
        return shown(text, self._key, MAX_SHOWN)


def kind_of(entry: Mapping[str, Any]) -> ServerKind:
    """What runs there, told by what only its list of models has."""
    if entry.keys() >= _JANFLASK:
        return ServerKind.JANFLASK
    if entry.get("owned_by") == "vllm":
        return ServerKind.VLLM
    if entry.get("owned_by") == "llamacpp":
        return ServerKind.LLAMA_SERVER
    if entry.get("owned_by") == "me" and "permissions" in entry:
        return ServerKind.LLAMA_CPP_PYTHON
    return ServerKind.OPENAI


def _listed(entry: Mapping[str, Any]) -> Listed:
    meta, aliases = entry.get("meta"), entry.get("aliases")
    context = _length(entry.get("max_model_len"))
    if context is None and isinstance(meta, Mapping):
        context = _length(meta.get("n_ctx"))
    further = [name for name in aliases if isinstance(name, str)] if isinstance(aliases, list) else []
    return Listed(entry["id"], frozenset([entry["id"], *further]), kind_of(entry), context)


def _length(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
