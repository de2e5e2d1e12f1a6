"""What the answers about threads, messages, assistants and files share, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow import fields, validate


def told(description: str, **about: Any) -> fields.String:
    """Text that is always there."""
    return fields.String(required=True, metadata={"description": description, **about})


def always(word: str) -> fields.String:
    """A field that says the same in each answer: the object's kind."""
    return fields.String(required=True, validate=validate.OneOf([word]))


def time(description: str = "Seconds since the epoch.", **about: Any) -> fields.Integer:
    """A moment that is always told."""
    return fields.Integer(required=True, metadata={"description": description, **about})


class PageSchema(ma.Schema):
    """A page of a list, without its ``data``."""

    object = always("list")
    first_id = told("The first one's id; null for an empty page.", nullable=True)
    last_id = told("The last one's id; null for an empty page.", nullable=True)
    has_more = fields.Boolean(required=True, metadata={"description": "Whether the list goes on."})


class DeletedSchema(ma.Schema):
    """An object that is gone, without its kind."""

    id = told("Its id.")
    deleted = fields.Boolean(required=True, metadata={"description": "Always true."})
