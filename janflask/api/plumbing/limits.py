"""A key's limits, in front of every route: 429 where they are reached, and what is left in each answer's headers."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flask import Response, g

from janflask.access import slots
from janflask.access.caller import Caller
from janflask.access.keys import Key
from janflask.access.ledger import Bucket, Ledger, Room
from janflask.api.plumbing.dialects import is_anthropic
from janflask.errors import RateLimitedError
from janflask.files.locks import LockedFile
from janflask.settings import Settings

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Admission:
    """A request that was let in: whose it is, what its key has left, and its place among the answers under way.

    ``room`` is told to the client. It is None where no model answers: headers cost more than all else about a key.
    """

    caller: Caller
    room: Room | None = None
    slot: LockedFile | None = None


class KeyLimits:
    """Counts requests and answers under way. ``settings`` tell where that is kept."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.usage_dir
        self._ledger = Ledger(settings.usage_dir)

    def count(self, admission: Admission, key: Key, *, generates: bool) -> None:
        """The request is the key's; ``generates``: a model is to answer it. Raises RateLimitedError."""
        try:
            room, problem = self._ledger.admit(key, generates=generates)
        except OSError as error:  # a disk that is full must not keep the owner from making room
            log.warning("request %s of key %s could not be counted: %s", g.get("request_id"), key.id, error)
            return
        if generates or problem is not None:
            admission.room = room
        if problem is not None:
            raise problem
        if generates:
            hold(admission, self._folder)


def hold(admission: Admission, folder: Path) -> None:
    """The request is answered for a while, by a model or as a stream. Raises RateLimitedError."""
    key = admission.caller.key
    if key is None or key.limits.streams is None or admission.slot is not None:
        return
    try:
        admission.slot = slots.take(folder, key.id, key.limits.streams)
    except OSError as error:  # as where requests are counted
        log.warning("an answer (request %s) of key %s could not be counted: %s", g.get("request_id"), key.id, error)
        return
    if admission.slot is None:
        raise RateLimitedError(
            f"this API key may have {key.limits.streams} answers under way at once, and has them: wait for one to end",
            type="streams",
            retry_after=1,
        )


def tell(response: Response) -> Response:
    """Puts what is left into the headers of a model's answer or a refusal, and gives the place back at its end."""
    admission: Admission | None = g.get("admission")
    if admission is None or admission.caller.key is None:
        return response
    slot, room = admission.slot, admission.room
    if slot is not None and response.is_streamed:
        response.call_on_close(slot.release)
    elif slot is not None:
        slot.release()
    if room is not None:
        words = _as_anthropic if is_anthropic() else _as_openai
        for what, bucket in (("requests", room.requests), ("tokens", room.tokens)):
            if bucket is not None:
                for name, text in words(what, bucket):
                    response.headers.add(name, text)
    return response


def _as_openai(what: str, bucket: Bucket) -> Iterable[tuple[str, str]]:
    return (
        (f"x-ratelimit-limit-{what}", str(bucket.limit)),
        (f"x-ratelimit-remaining-{what}", str(_whole(bucket))),
        (f"x-ratelimit-reset-{what}", duration(bucket.full_in)),
    )


def _as_anthropic(what: str, bucket: Bucket) -> Iterable[tuple[str, str]]:
    full = datetime.fromtimestamp(math.ceil(time.time() + bucket.full_in), UTC)
    return (
        (f"anthropic-ratelimit-{what}-limit", str(bucket.limit)),
        (f"anthropic-ratelimit-{what}-remaining", str(_whole(bucket))),
        (f"anthropic-ratelimit-{what}-reset", full.strftime("%Y-%m-%dT%H:%M:%SZ")),
    )


def _whole(bucket: Bucket) -> int:
    return max(0, int(bucket.left))


def duration(seconds: float) -> str:
    """As OpenAI writes them: ``20ms``, ``1.5s``, ``6m0s``."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    if seconds < 60:
        return f"{math.ceil(seconds * 1000) / 1000:g}s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s"
