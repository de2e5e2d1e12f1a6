"""The body of PUT /models/{id}/start."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow import fields

from janflask.schemas.sampling import Base


def _setting(kind: str, description: str) -> fields.Raw:
    return fields.Raw(allow_none=True, metadata={"type": kind, "description": description})


class StartSettingsSchema(Base):
    """Settings that hold until the model stops, over the model's own.

    Numbers may be strings; null is the same as not given. Which values are right is known to those who start engines
    (``janflask.catalog``), who refuse unknown names too: here they are only documented.
    """

    class Meta:
        """marshmallow's options."""

        unknown = ma.INCLUDE

    ctx_len = _setting("integer", "Tokens of one conversation.")
    n_parallel = _setting("integer", "Sequences generated at once.")
    cpu_threads = _setting("integer", "CPU threads of the engine.")
    ngl = _setting("integer", "Layers on the GPU; -1: as many as possible.")
    flash_attn = _setting("boolean", "Flash attention.")
    kv_unified = _setting("boolean", "One KV buffer for all sequences.")
    slice_size = _setting("integer", "Prompt tokens of a step that also generates.")
    kv_cells = _setting("integer", "Tokens the KV cache holds over all sequences.")
    cache_type_k = _setting("string", "Type of the cached keys, e.g. f16 or q8_0.")
    cache_type_v = _setting("string", "Type of the cached values.")
    prefix_cache = _setting("boolean", "Reuse computed prompt prefixes.")
    queue_limit = _setting("integer", "Requests that may wait for the model.")
    use_extra_bufts = _setting("boolean", "llama.cpp's repacked CPU weights.")
    start_timeout = _setting("number", "Seconds the start may take.")

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The overrides that are given."""
        return dict(data)
