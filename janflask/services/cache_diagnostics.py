"""Why a prompt's beginning was not found computed: two requests are compared, and where they first differ is told.

What decides how a prompt begins is, in this order: the model, the tools, what the model is told first, the variables of
its chat template, and the messages. A fingerprint has a keyed hash of each of them and no text. A stored response is
compared by what is stored of it; of other requests the fingerprint is kept, if it is asked for, in
``cache/prompts/<id>.json``, where all workers find it, the newest ``MOST`` of them. With keys it is
``<id>@<key>.json``, and found by that key alone: who could compare a request with another's would learn what that said.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from janflask.access.caller import working_for
from janflask.decoding import json_decoder
from janflask.files import by_path, ids
from janflask.files.disk import READ, opened_root
from janflask.services.seals import Seals

log = logging.getLogger(__name__)

FOLDER = "prompts"  # in the cache folder
MOST = 1000  # fingerprints that are kept
MAX_BYTES = 4 << 20  # of one
SUFFIX = ".json"
_KIND = "fingerprint"  # of the hashes
_HASH = slice(4, 20)  # of a signature: 96 bits


class Part(StrEnum):
    """What a prompt is made of, in this order."""

    MODEL = "model"
    TOOLS = "tools"
    INSTRUCTIONS = "instructions"
    SETTINGS = "settings"
    INPUT = "input"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Hashes of what a prompt is made of, how long each piece is (in characters of JSON), and the prompt's tokens.

    ``pieces`` and ``lengths`` have one place for each tool, one for the instructions, one for the settings, and one for
    each message.
    """

    model: str
    tools: int  # how many
    pieces: tuple[str, ...]
    lengths: tuple[int, ...]
    tokens: int = 0

    def of_tokens(self, tokens: int) -> Fingerprint:
        """The same, of a prompt with so many."""
        return replace(self, tokens=tokens)


@dataclass(frozen=True, slots=True)
class Difference:
    """The first one. ``place`` is the number of the tool or message, from 0, and ``missed`` about how many tokens of
    the earlier prompt come behind it.
    """

    part: Part
    place: int | None
    missed: int


def difference(before: Fingerprint, now: Fingerprint) -> Difference | None:
    """Where ``now`` does not begin as ``before`` did; None where one goes on from where the other ends."""
    if before.model != now.model:
        return Difference(Part.MODEL, None, before.tokens)
    pairs = zip(before.pieces, now.pieces, strict=False)
    place = next((number for number, (old, new) in enumerate(pairs) if old != new), None)
    if before.tools != now.tools:
        place = min(before.tools, now.tools) if place is None else min(place, before.tools, now.tools)
    if place is None:
        return None
    whole = sum(before.lengths) or 1
    missed = round(before.tokens * sum(before.lengths[place:]) / whole)
    if place < max(before.tools, now.tools):
        return Difference(Part.TOOLS, place, missed)
    place -= before.tools
    if place < 2:
        return Difference((Part.INSTRUCTIONS, Part.SETTINGS)[place], None, missed)
    return Difference(Part.INPUT, place - 2, missed)


class CacheDiagnostics:
    """Makes fingerprints and keeps some, in the ``cache`` folder. Thread-safe; processes share what they keep."""

    def __init__(self, cache: Path, seals: Seals) -> None:
        self._folder = cache / FOLDER
        self._seals = seals

    def fingerprint(
        self,
        *,
        model: str,
        tools: Sequence[Any] = (),
        instructions: Any = None,
        settings: Any = None,
        messages: Sequence[Any] = (),
        tokens: int = 0,
    ) -> Fingerprint:
        """Of a request in terms of JSON, as it was sent or as it is stored. Raises OSError without a secret."""
        written = [json.dumps(piece, sort_keys=True) for piece in (*tools, instructions, settings, *messages)]
        return Fingerprint(
            model=model,
            tools=len(tools),
            pieces=tuple(self._seals.signature(_KIND, piece)[_HASH] for piece in written),
            lengths=tuple(map(len, written)),
            tokens=tokens,
        )

    def keep(self, answer_id: str, fingerprint: Fingerprint) -> None:
        """A later request may be compared with it. What cannot be written is logged: no answer fails by that."""
        try:
            with opened_root(self._folder, make=True):
                pass
            by_path.replace(self._path(answer_id), msgspec.json.encode(fingerprint), durable=False)
            self._forget_old()
        except OSError as error:
            log.warning("the fingerprint of %s cannot be kept: %s", answer_id, error)

    def kept(self, answer_id: str) -> Fingerprint | None:
        """None where there is none (any more), or none that can be read."""
        if not ids.is_id(answer_id):
            return None
        try:
            file = os.open(self._path(answer_id), READ)
        except OSError:
            return None
        with os.fdopen(file, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        try:
            found = json_decoder(Fingerprint).decode(data)
        except msgspec.MsgspecError as error:
            log.warning("the fingerprint of %s cannot be read: %s", answer_id, error)
            return None
        return found if len(found.pieces) == len(found.lengths) else None

    def _path(self, answer_id: str) -> Path:
        owner = working_for.get()
        return self._folder / f"{answer_id}{'' if owner is None else f'@{owner}'}{SUFFIX}"

    def _forget_old(self) -> None:
        kept: list[tuple[int, str]] = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX):
                    with suppress(FileNotFoundError):  # another process forgets, too
                        kept.append((entry.stat().st_mtime_ns, entry.path))
        for _, path in sorted(kept)[:-MOST]:
            Path(path).unlink(missing_ok=True)


# --- what a client is told --------------------------------------------------------------------------------------------

_RESPONSE = {
    Part.MODEL: "model_changed",
    Part.TOOLS: "tools_changed",
    Part.INSTRUCTIONS: "input_changed",
    Part.SETTINGS: "reasoning_effort_changed",
    Part.INPUT: "input_changed",
}
_MESSAGE = {
    Part.MODEL: "model_changed",
    Part.TOOLS: "tools_changed",
    Part.INSTRUCTIONS: "system_changed",
    Part.INPUT: "messages_changed",
}
SLACK = 16  # tokens of a prompt's end, where an answer begins, that may be others once something follows


def compared(before: Fingerprint | None, now: Fingerprint, *, is_compacted: bool = False) -> dict[str, Any]:
    """What is kept of a comparison with a stored response until it is known how many tokens were found computed.

    ``is_compacted``: a summary stands for what was compared with.
    """
    if before is None:
        return {"found": False}
    found = difference(before, now)
    kept: dict[str, Any] = {"found": True, "tokens": before.tokens}
    if found is not None:
        reason = "context_compacted" if is_compacted and found.part is Part.INPUT else _RESPONSE[found.part]
        place = str(found.part) if found.place is None else f"{found.part}.{found.place}"
        kept |= {"reason": reason, "place": place, "missed": found.missed}
    return kept


def response_diagnostics(
    comparison: Mapping[str, Any], prompt_tokens: int | None, cached_tokens: int | None
) -> dict[str, Any] | None:
    """``prompt_cache_diagnostics`` of a response, by what ``compared`` gave; None before its tokens are known.

    What counts is what was found computed: where that is as much as the earlier prompt, it is a hit, whatever differs.
    ``first_difference`` is ours: the place in the conversation as a model is shown it.
    """
    if not comparison["found"]:
        return {"type": "comparison_response_not_found"}
    if prompt_tokens is None or cached_tokens is None:
        return None
    reason, before = comparison.get("reason"), comparison["tokens"]
    whole = min(before, prompt_tokens - 1)  # the last token is always computed
    if reason != "model_changed" and cached_tokens >= whole - (SLACK if reason is None else 0):
        return {"type": "cache_hit"}
    if reason is None:  # it was the same, but its state is gone
        return {"type": "unavailable"}
    return {
        "type": "cache_miss",
        "reason": reason,
        "cache_missed_tokens": prompt_tokens - cached_tokens,
        "comparison_reusable_tokens": max(0, before - comparison["missed"]),
        "first_difference": comparison["place"],
    }


def message_diagnostics(before: Fingerprint | None, now: Fingerprint) -> dict[str, Any] | None:
    """``diagnostics`` of a message whose request named an earlier one; None: it goes on from there.

    ``first_difference`` is ours.
    """
    if before is None:
        return {"cache_miss_reason": {"type": "previous_message_not_found"}}
    found = difference(before, now)
    if found is None:
        return None
    if found.part is Part.SETTINGS:
        return {"cache_miss_reason": {"type": "unavailable", "first_difference": "settings"}}
    name = {Part.INSTRUCTIONS: "system", Part.INPUT: "messages"}.get(found.part, str(found.part))
    place = name if found.place is None else f"{name}.{found.place}"
    missed = {"cache_missed_input_tokens": found.missed, "first_difference": place}
    return {"cache_miss_reason": {"type": _MESSAGE[found.part], **missed}}
