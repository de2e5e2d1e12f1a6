"""What an answer must look like, as an engine is asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ConstraintKind(StrEnum):
    """What language a constraint's text is in."""

    JSON_SCHEMA = "json_schema"  # what llguidance makes a grammar of; checked and mended by who asks
    GRAMMAR = "grammar"  # llguidance's dialect of Lark
    REGEX = "regex"  # Rust's regular expressions; the whole answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """``name`` is the field of the request that it came by, for errors.

    In a GRAMMAR the words ``marker_0``, ``marker_1`` ... stand for ``markers``, texts that the model may write with
    control tokens: the engine puts a rule for each one there, which holds these tokens where there are such.
    """

    kind: ConstraintKind
    text: str
    whitespace: str | None = None  # of JSON: what may stand between its tokens, as a regular expression; None: nothing
    name: str = "response_format"
    markers: tuple[str, ...] = ()
