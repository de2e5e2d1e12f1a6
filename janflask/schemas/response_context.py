"""What becomes of a conversation that grows too long, and what is asked about the cached beginning of a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from janflask.schemas.fields import Text, Whole, between, one_of
from janflask.schemas.sampling import Base


class ContextManagementSchema(Base):
    """One way to make a conversation shorter."""

    error_messages = {"type": "must be an object"}  # noqa: RUF012 - marshmallow's

    type = Text(required=True, validate=one_of(("compaction",)), metadata={"description": "Always `compaction`."})
    compact_threshold = Whole(
        allow_none=True,
        validate=between(1, 1 << 31),
        metadata={
            "description": "Tokens of a prompt above which what is older is summed up before the answer. Three "
            "quarters of the model's context are the most, and what counts if this is not given.",
            "example": 6000,
        },
    )


class PromptCacheOptionsSchema(Base):
    """About the cached beginning of a prompt."""

    error_messages = {"type": "must be an object"}  # noqa: RUF012 - marshmallow's

    mode = Text(
        allow_none=True,
        validate=one_of(("implicit", "explicit")),
        metadata={"description": "Makes no difference: whatever was computed is found again."},
    )
    ttl = Text(allow_none=True, metadata={"description": "Makes no difference."})
    comparison_response_id = Text(
        allow_none=True,
        metadata={"description": "A stored response: `prompt_cache_diagnostics` says why this prompt is not like its."},
    )


def threshold_of(given: Sequence[Mapping[str, Any]] | None) -> int | None:
    """``compact_threshold``; 0 where the model's context decides, None where nothing is to be made shorter."""
    thresholds = [item.get("compact_threshold") or 0 for item in given or ()]
    return min((each for each in thresholds if each), default=0) if thresholds else None
