"""The bodies of requests about models, and the one table of what a model can be started with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import marshmallow as ma
from marshmallow import fields, validate

from janflask.models.state import DownloadRequest
from janflask.schemas.fields import Text
from janflask.schemas.objects import JsonObject, metadata_field
from janflask.schemas.parameters import parameters_field
from janflask.schemas.sampling import Base
from janflask.settings.engine_table import described

MAX_NAME = 1024
MAX_DESCRIPTION = 64 << 10
MAX_SOURCE = 8192
_FILE = "The plain name of a file in the model's own folder"

# Jan's settings that count here, beside the engine's: name -> what it does, what happens without it.
JAN_DESCRIBED: Mapping[str, tuple[str, str]] = {
    "prompt_template": (
        "How a conversation is laid out: text with `{system_message}` and `{prompt}` in it.",
        "the chat template in the model's file",
    ),
    "llama_model_path": (f"The weights. {_FILE}; not for a start.", "the only model in the folder"),
}


def _documented() -> dict[str, fields.Field[Any]]:
    """A field for each setting; a default that is decided later is told in words."""
    documented: dict[str, fields.Field[Any]] = {}
    for setting in described():
        description = f"{setting.help[0].upper()}{setting.help[1:]}.{f' {_FILE}.' if setting.names_file else ''}"
        documented[setting.name] = _setting(setting.json_type, description, setting.auto, setting.default)
    for name, (description, otherwise) in JAN_DESCRIBED.items():
        documented[name] = _setting("string", description, otherwise, None)
    return documented


def _setting(json_type: str, description: str, otherwise: str | None, default: object) -> fields.Field[Any]:
    about: dict[str, Any] = {"type": json_type, "description": description, "nullable": True}
    if otherwise is None:
        about["default"] = default
    else:
        about["description"] += f" Default: {otherwise}."
    return fields.Raw(allow_none=True, metadata=about)


class ModelSettingsSchema(Base):
    """How a model is started. Numbers may be text; `auto` leaves the choice to the server where that is the default.

    The server's own `JANFLASK_*` settings of the same names come before the defaults here. Unknown names are refused.
    """

    # Which values are right is known to those who start engines (``models.catalog``), who refuse unknown names too:
    # here they are only documented.

    class Meta:
        """marshmallow's options."""

        unknown = ma.INCLUDE
        include: ClassVar[dict[str, Any]] = _documented()

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The settings that are given."""
        return dict(data)


def _settings_field(description: str) -> JsonObject:
    # ``janflask.api.plumbing.openapi`` makes the schema a component by this name.
    form = [{"$ref": "#/components/schemas/ModelSettings"}]
    return JsonObject(allow_none=True, metadata={"description": description, "allOf": form})


def _text(most: int, description: str, *, least: int = 0, **about: Any) -> Text:
    error = f"must have {least} to {most} characters" if least else f"must have at most {most} characters"
    return Text(
        allow_none=True,
        validate=validate.Length(min=least or None, max=most, error=error),
        metadata={"description": description, **about},
    )


class NewModelSchema(Base):
    """A model to be fetched."""

    source_url = Text(
        required=True,
        validate=validate.Length(1, MAX_SOURCE, error=f"must have 1 to {MAX_SOURCE} characters"),
        metadata={
            "description": "Where it is: the http(s) URL of a GGUF file, a huggingface.co page of one, "
            "`hf:org/repo/file.gguf`, or `hf:org/repo:Q4_K_M`, which picks the file of that quantization; "
            "or `starter`, a very small model to begin with.",
            "example": "hf:org/repo:Q4_K_M",
        },
    )
    id = _text(
        MAX_NAME,
        "Its id here: letters, digits, `.`, `_` and `-`, 128 at most. Made from the source by default.",
        example="my-model",
    )
    name = _text(MAX_NAME, "What it is called.", least=1, example="My model")
    sha256 = Text(
        allow_none=True,
        validate=validate.Regexp(r"[0-9A-Fa-f]{64}\Z", error="must be 64 hexadecimal digits"),
        metadata={
            "description": "The file's SHA-256 (of several parts, the first one's); the download fails if it differs.",
            "pattern": "^[0-9A-Fa-f]{64}$",
            "example": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        },
    )
    settings = _settings_field("How it is to be started; kept in its model.json.")
    parameters = parameters_field()
    metadata = metadata_field()

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> DownloadRequest:
        """The request."""
        source, model_id, sha256 = data.pop("source_url"), data.pop("id", None), data.pop("sha256", None)
        return DownloadRequest(source=source, model_id=model_id, sha256=sha256 and sha256.lower(), **data)


class ModelChangesSchema(Base):
    """What may change of a model; what is not given stays."""

    name = _text(MAX_NAME, "What it is called.", least=1, example="My model")
    description = _text(MAX_DESCRIPTION, "What it is.", example="For a first try.")
    settings = _settings_field(
        "How it is started, from its next start on; kept in its model.json. Those that are not named stay, null "
        "removes one. A file is named plainly and must be in the model's folder."
    )
    parameters = parameters_field(removes=True)
    metadata = metadata_field()

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The fields given."""
        return dict(data)


# Schemas that fields refer to by name.
COMPONENTS = (ModelSettingsSchema,)
