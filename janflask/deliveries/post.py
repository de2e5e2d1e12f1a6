"""One try to deliver an event: a POST to an address that was checked, and nothing that the answer asks for.

The address that was checked is the one that is connected to. A redirect is not followed: it would be a receiver that
nobody has named. The answer's body is not read.
"""

from __future__ import annotations

import http.client
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult

from janflask.downloads.safety import check_url, port_of, resolve
from janflask.downloads.wire import Address, Connection, Patience, Wire
from janflask.errors import UnsafeSourceError
from janflask.webhooks import signing
from janflask.webhooks.endpoints import Endpoint
from janflask.webhooks.events import body

PATIENCE = Patience(silence=15.0, head=20.0)
MAX_RETRY_AFTER = 86_400  # seconds
GONE = 410
_ABSENT = (502, 503, 504)  # what stands before a receiver that is not there answers so
_BUSY = (429, 503)  # answers that may say when to come again
_SECONDS = re.compile("[0-9]{1,9}")
_REMEDY = "`--allow-private` allows it for an endpoint"


@dataclass(frozen=True, slots=True)
class Outcome:
    """``status`` is None where no answer came; ``problem`` is empty where the event has arrived."""

    status: int | None
    problem: str
    retry_after: float | None = None  # seconds

    @property
    def was_heard(self) -> bool:
        """The receiver itself has answered, be it no."""
        return self.status is not None and self.status not in _ABSENT

    @property
    def has_arrived(self) -> bool:
        """The receiver has it."""
        return not self.problem


def check_target(url: str, private: bool) -> SplitResult:
    """The URL's parts, if events may be sent there. Raises UnsafeSourceError."""
    parts = check_url(url)
    if parts.scheme != "https" and not private:
        raise UnsafeSourceError(f"a webhook goes by https, not to {url[:200]!r}; {_REMEDY}")
    return parts


def check_address(parts: SplitResult, private: bool) -> list[Address]:
    """The addresses of its host, if events may be sent there. Raises UnsafeSourceError, OSError if there are none."""
    return resolve(parts.hostname or "", port_of(parts), private, _REMEDY)


def post(
    endpoint: Endpoint,
    event_id: str,
    type: str,
    data: Mapping[str, str],
    made_ms: int,
    *,
    wire: Wire | None = None,
    patience: Patience = PATIENCE,
) -> Outcome:
    """Sends the event and tells what came of it; nothing that happens on the way is raised."""
    try:
        parts = check_target(endpoint.url, endpoint.private)
    except UnsafeSourceError:  # its message has the URL, which may have a secret
        return Outcome(None, "its URL cannot be used: `janflask webhooks list` shows it")
    try:
        addresses = check_address(parts, endpoint.private)
        now = time.time()
        content = body(event_id, type, data, made_ms)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "janflask",
            "Connection": "close",
            **signing.headers(endpoint.signing(now), event_id, int(now), content),
        }
        connection = Connection(parts, addresses, patience, wire or Wire())
        try:
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            response = connection.answer(target, headers, content)
            with response:
                return _outcome(response.status, response.getheader("retry-after"))
        finally:
            connection.close()
    except UnsafeSourceError as error:
        return Outcome(None, error.message)
    except ssl.SSLCertVerificationError as error:
        return Outcome(None, f"its certificate is not trusted: {error.verify_message}")
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: what http.client cannot read
        return Outcome(None, _in_words(error))


def _outcome(status: int, retry_after: str | None) -> Outcome:
    if 200 <= status < 300:
        return Outcome(status, "")
    problem = f"it answered {status}"
    if 300 <= status < 400:
        problem += ", and a redirect is not followed"
    if status not in _BUSY or retry_after is None or not _SECONDS.fullmatch(retry_after):
        return Outcome(status, problem)
    return Outcome(status, problem, min(float(retry_after), MAX_RETRY_AFTER))


def _in_words(error: Exception) -> str:
    """Short, and nothing of what a receiver wrote."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, OSError) and str(error):
        return str(error)[:200]
    return f"its answer is no HTTP ({type(error).__name__})"
