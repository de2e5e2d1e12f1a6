"""Models as they are answered, for the OpenAPI document. They are built as plain objects; a test compares."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from janflask.models.state import ModelStatus
from janflask.models.upstream import ServerKind


def _text(description: str, **about: Any) -> fields.String:
    return fields.String(metadata={"description": description, **about})


def _whole(description: str, **about: Any) -> fields.Integer:
    return fields.Integer(metadata={"description": description, **about})


def _number(description: str, **about: Any) -> fields.Float:
    return fields.Float(metadata={"description": description, **about})


class KnobsSchema(ma.Schema):
    """The settings that decide speed, as the engine runs with them."""

    flash_attn = fields.Boolean()
    kv_unified = fields.Boolean()
    slice_size = _whole("Prompt tokens of a step that also generates.")
    cpu_threads = fields.Integer()
    source = _text(
        "`guessed`; `measured` since this start, or `remembered` from an earlier one; `pinned` by settings; `fixed` "
        "where there is nothing to choose."
    )
    sure = _number("Which part of what is to be measured is known for sure, 0 to 1.")
    measurements = fields.Dict(
        keys=fields.String(), values=fields.Float(), metadata={"description": "What decided, in milliseconds."}
    )


class RuntimeSchema(ma.Schema):
    """How a running model runs."""

    ctx_len = _whole("Tokens of one conversation.")
    n_parallel = _whole("Sequences generated at once.")
    kv_cells = _whole("Tokens the KV cache holds over all sequences.")
    prefix_sharing = fields.Boolean(
        metadata={
            "description": "Computed prompt prefixes can be used again from any token on. False: from checkpoints on, "
            "where messages end (a sliding window, a recurrent or hybrid memory)."
        }
    )
    use_extra_bufts = fields.Boolean(metadata={"description": "llama.cpp's repacked CPU weights are in use."})
    knobs = fields.Nested(KnobsSchema)
    load_seconds = fields.Float()
    memory_bytes = _whole("What it was promised of the memory budget: all that it may come to use.", nullable=True)
    used_bytes = _whole("What it has in RAM now, its weights included.", nullable=True)
    embedding_width = _whole("Numbers in a vector, if it serves embeddings.", nullable=True)
    pid = _whole("The engine's process.", nullable=True)
    started_at = _whole("Seconds since the epoch.", nullable=True)
    restarts = _whole("Restarts after crashes since it was last started on request.")
    llama_version = fields.String()


class StatsSchema(ma.Schema):
    """A running model's load."""

    slots = _whole("Sequences that can be generated at once.")
    busy = _whole("Sequences being generated.")
    waiting = _whole("Requests in the queue.")
    kv_cells = _whole("Tokens the KV cache holds.")
    kv_used = _whole("Tokens in it.")
    kv_busy = _whole("Of them, those of sequences being generated.")
    kv_bytes = _whole("What of it is in RAM now; null where that cannot be told.", nullable=True)
    requests = _whole("Requests since the start.")
    prompt_tokens = _whole("Prompt tokens computed since the start.")
    cached_tokens = _whole("Prompt tokens taken from the prefix cache since the start.")
    asked_tokens = _whole("Tokens of all prompts since the start, computed or cached.")
    looked_up_tokens = _whole("Of them, those that were looked for in the prefix cache.")
    generated_tokens = _whole("Tokens generated since the start.")
    preempted = _whole("Sequences put back because the KV cache ran short, since the start.")
    cancelled = _whole("Sequences cancelled since the start.")
    steps = _whole("Decode steps since the start.")
    idle_seconds = _number("Seconds since the last request ended; 0 while there is one.")
    stalled_seconds = _number("Seconds since its loop came round while it has work; 0 while it has none.")
    longest_step_seconds = _number("Seconds that the step under way may take without being taken for a hang.")
    forced_tokens = _whole("Of the tokens generated, those that were not drawn: nothing else could come.")
    drafted_tokens = _whole("Tokens guessed ahead and computed since the start.")
    accepted_tokens = _whole("Of these, those that came true.")
    mask_seconds = _number("Seconds that answers were held up by their constraints, since the start.")
    states_restored = _whole("KV states and checkpoints taken up instead of computing, since the start.")
    states_refused = _whole("Those of them that llama.cpp did not take or hand out: what they held was computed.")


class DownloadSchema(ma.Schema):
    """How far a model's download is, over all its files."""

    stage = fields.String(
        validate=validate.OneOf(["queued", "resolving", "downloading", "verifying", "failed"]),
        metadata={"description": "What is going on."},
    )
    transferred = _whole("Bytes that are here.")
    total = _whole("Bytes in all; null while nobody knows.", nullable=True)
    percent = _number("The part that is here.", nullable=True)
    bytes_per_second = _number("The rate.")
    eta_seconds = _number("Seconds left, at this rate.", nullable=True)
    error = _text("Why it failed.", nullable=True)


class UpstreamServerSchema(ma.Schema):
    """One of the servers that share the load of a model."""

    base_url = fields.String()
    reachable = fields.Boolean(
        metadata={"nullable": True, "description": "Whether it answers; null while nobody has asked it."}
    )
    since = _number("That it is so; seconds since the epoch.", nullable=True)
    error = _text("Why the last attempt failed, if it is not reachable.", nullable=True)
    under_way = _whole("Requests of this server that it works on.")
    next_try = _number("Seconds until it is asked again, if it is left out.", nullable=True)


class UpstreamSchema(ma.Schema):
    """Where a model runs that another server runs. Only `model.json` itself says so; no request can change it."""

    kind = fields.String(
        validate=validate.OneOf([str(kind) for kind in ServerKind]), metadata={"description": "What runs there."}
    )
    model = _text("Its name there.")
    ctx_len = _whole("Tokens of prompt and answer together; null: what the upstream says.", nullable=True)
    max_concurrent = _whole("Requests that each server gets at once.")
    servers = fields.List(fields.Nested(UpstreamServerSchema))


class ModelObjectSchema(ma.Schema):
    """A model on this server."""

    id = fields.String()
    folder = _text(
        "Its folder below `models/`, which is its id for Jan. Requests may name the model by it, too. The same as `id` "
        "unless the name is no legal id. Null while there is no folder.",
        nullable=True,
    )
    object = _text("Always `model`.")
    type = _text("Always `model`.")
    name = fields.String()
    version = fields.String()
    description = fields.String()
    created = _whole("Seconds since the epoch.")
    owned_by = _text("Its author if `metadata` has one, else `local` or `upstream`.")
    source_url = _text("Where it came from.", nullable=True)
    format = _text("`gguf`, or `api` for a model that another server runs.")
    state = _text(
        "In the list null (not downloaded, or failed), downloading, ready, starting or stopping; of one model "
        "not_downloaded, downloading, downloaded, starting, running, stopping or stopped.",
        nullable=True,
    )
    status = fields.String(
        validate=validate.OneOf([str(status) for status in ModelStatus]),
        metadata={
            "description": "The whole state machine, in the list and of one model. One of an upstream is running while "
            "one of its servers can be reached, failed while none can, and downloaded until it was asked."
        },
    )
    error = _text("Why it, or its download, failed, or why it can't be used.", nullable=True)
    notes = fields.List(
        fields.String(), metadata={"description": "What its user should know of how it runs, or of how it failed."}
    )
    settings = fields.Dict(metadata={"description": "How it is started; model.json's."})
    parameters = fields.Dict(metadata={"description": "Defaults of requests; model.json's."})
    metadata = fields.Dict(metadata={"description": "model.json's, and what the running model says of itself."})
    assets = fields.List(fields.Dict())
    engine = fields.String()
    upstream = fields.Nested(
        UpstreamSchema, metadata={"nullable": True, "description": "If another server runs it; else null."}
    )
    download = fields.Nested(
        DownloadSchema,
        metadata={"nullable": True, "description": "While it is being fetched, and after that failed; else null."},
    )
    runtime = fields.Nested(
        RuntimeSchema, metadata={"nullable": True, "description": "Only of one model; null unless it runs."}
    )
    stats = fields.Nested(
        StatsSchema, metadata={"nullable": True, "description": "Only of one model; null unless it runs."}
    )


class ModelListSchema(ma.Schema):
    """All models."""

    object = _text("Always `list`.")
    data = fields.List(fields.Nested(ModelObjectSchema))


class ModelStateSchema(ma.Schema):
    """The outcome of a start or stop."""

    id = fields.String()
    object = _text("Always `model`.")
    state = fields.String(validate=validate.OneOf(["running", "stopped"]))


class ModelDownloadingSchema(ma.Schema):
    """A model that is being fetched."""

    id = fields.String(required=True)
    object = fields.String(required=True, validate=validate.OneOf(["model"]))
    state = fields.String(required=True, validate=validate.OneOf(["downloading"]))


class ModelDeletedSchema(ma.Schema):
    """A model that is gone."""

    id = fields.String(required=True)
    object = fields.String(required=True, validate=validate.OneOf(["model"]))
    deleted = fields.Boolean(required=True)
