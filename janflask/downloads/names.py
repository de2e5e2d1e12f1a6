"""What a GGUF's file name tells: which part of a split model it is, its quantization, whether it is a projector.

Names come from strangers. ``plain_name`` gives the one under which a file may lie on this machine.
"""

from __future__ import annotations

import re

from janflask.errors import InvalidRequestError
from janflask.models import split_names
from janflask.models.catalog import is_model_id
from janflask.models.model_files import EXTENSION as EXTENSION
from janflask.models.model_files import is_model_name, is_projector_name
from janflask.models.split_names import split_name

FOLDER = ".downloads"  # of what is on its way, in the models' folder
MAX_PARTS = 1000  # files of one split model
_MAX_STEM = 150  # characters of a name on the disk, before the number of its part
_PROJECTOR = "mmproj"


def base_name(path: str) -> str:
    """The last part of a path, whichever way its slashes lean."""
    return re.split(r"[/\\]", path)[-1]


def is_gguf(path: str) -> bool:
    """Whether its name says that it is a GGUF."""
    return path.lower().endswith(EXTENSION)


def is_projector(path: str) -> bool:
    """Whether it is what turns pictures or sound into a model's input, and no model."""
    return is_projector_name(base_name(path))


def is_model(path: str) -> bool:
    """Whether its name is a model's, and not that of the things which lie beside models in the same format."""
    return is_model_name(base_name(path))


def parts_of(path: str) -> list[str]:
    """All files of the model that ``path`` is a part of, in order: itself alone when it is whole.

    Raises InvalidRequestError for a number that cannot be.
    """
    split = split_name(path)
    if split is not None and not 1 <= split.number <= split.count <= MAX_PARTS:
        raise InvalidRequestError(
            f"{base_name(path)[:200]!r} is part {split.number} of {split.count}; "
            f"a model has at most {MAX_PARTS} parts, from 1",
            param="source_url",
        )
    return split_names.parts_of(path)


def stem_of(path: str) -> str:
    """A file's name without its extension and without the number of its part."""
    name = base_name(path)
    split = split_name(name)
    return split.stem if split else name[: -len(EXTENSION)] if is_gguf(name) else name


def carries(path: str, quantization: str) -> bool:
    """Whether a file's path names the quantization, as a word of its own: ``Q4_K`` is not in ``x-Q4_K_M.gguf``."""
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(quantization)}(?![A-Za-z0-9_])", path, re.IGNORECASE) is not None


def plain_name(path: str) -> str:
    """A name for a file on this machine: the path's last part, of plain characters only, with the right extension.

    A projector's begins with ``mmproj``, so that nobody takes it for the model.
    """
    name = base_name(path)
    split = split_name(name)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", stem_of(name))[:_MAX_STEM].lstrip("._-") or "model"
    if is_projector(name) and not stem.lower().startswith(_PROJECTOR):
        stem = f"{_PROJECTOR}-{stem}"
    return stem + (split.suffix(split.number) if split else "") + EXTENSION


def model_id(text: str) -> str:
    """A legal id for a model of that name."""
    found = re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:128].strip("._-")
    return found if is_model_id(found) else "model"
