"""What is told of the server, as the OpenAPI document describes it."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from janflask.models.state import ModelStatus
from janflask.schemas.answers import MissingSchema
from janflask.schemas.model_answers import RuntimeSchema, StatsSchema


def _text(description: str, **about: Any) -> fields.String:
    return fields.String(metadata={"description": description, **about})


def _whole(description: str, **about: Any) -> fields.Integer:
    return fields.Integer(metadata={"description": description, **about})


def _number(description: str, **about: Any) -> fields.Float:
    return fields.Float(metadata={"description": description, **about})


class ServerMemorySchema(ma.Schema):
    """Memory, in bytes."""

    budget_bytes = _whole(
        "That models may be promised, of RAM and of GPUs; null if nobody could tell, as `total_bytes`.", nullable=True
    )
    promised_bytes = _whole("That the models which run, or start, were promised of it.")
    used_bytes = _whole("RAM that their engines have now.")
    total_bytes = _whole("RAM of the machine, or of the control group that the server is in.", nullable=True)
    available_bytes = _whole("RAM of the machine that a new process could have now.")


class ServerProcessSchema(ma.Schema):
    """One of the server's processes."""

    kind = fields.String(
        validate=validate.OneOf(["master", "worker", "supervisor", "runner", "engine", "spare", "renderer"]),
        metadata={"description": "`spare` waits for the next model, a `renderer` lays out the prompts of one."},
    )
    pid = fields.Integer()
    rss_bytes = _whole("What of it is in RAM, also what it shares with others.")
    cpu_seconds = _number("That it has used of all cores since it began.")


class ServerModelSchema(ma.Schema):
    """One of the models on disk, or one that something is under way with."""

    id = fields.String()
    status = fields.String(validate=validate.OneOf([str(status) for status in ModelStatus]))
    memory_bytes = _whole("What it was promised of the budget; null while it has no engine.", nullable=True)
    used_bytes = _whole("Of it, what is in RAM now.", nullable=True)
    runtime = fields.Nested(RuntimeSchema, metadata={"nullable": True, "description": "null unless it runs."})
    stats = fields.Nested(
        StatsSchema, metadata={"nullable": True, "description": "null unless it runs, and its engine answers."}
    )


class ServerRequestSchema(ma.Schema):
    """An answer that an engine owes. Each choice of a request with `n` is one."""

    id = _text("The request's, as `X-Request-Id` tells it; a run that was taken up again has none.", nullable=True)
    model = fields.String()
    state = fields.String(
        validate=validate.OneOf(["waiting", "prompt", "answering"]),
        metadata={"description": "It waits for a place, its prompt is computed, or it is being answered."},
    )
    age_seconds = _number("Since the engine got it.")
    prompt_tokens = fields.Integer()
    cached_tokens = _whole("Of the prompt, those taken from the prefix cache.")
    computed_tokens = _whole("Of the prompt, those computed so far.")
    answer_tokens = _whole("Said so far.")
    tokens_per_second = _number("Since its first token; 0 before the second.")
    run_id = _text("The run that it belongs to; null if it is none's.", nullable=True)
    thread_id = _text("That run's thread.", nullable=True)


class ServerSchema(ma.Schema):
    """What is going on in the server."""

    object = _text("Always `server`.")
    version = fields.String()
    started_at = _whole("When, in seconds since the epoch; null if nobody could tell.", nullable=True)
    cores = _whole("That its processes may run on.")
    memory = fields.Nested(ServerMemorySchema)
    processes = fields.List(fields.Nested(ServerProcessSchema))
    models = fields.List(fields.Nested(ServerModelSchema))
    requests = fields.List(
        fields.Nested(ServerRequestSchema),
        metadata={"description": "By model: those under way, then those that wait, in order."},
    )
    missing = fields.List(
        fields.Nested(MissingSchema), metadata={"description": "What did not answer; its numbers are left out."}
    )
