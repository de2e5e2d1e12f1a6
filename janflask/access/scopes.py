"""What a key may be good for."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Scope(StrEnum):
    """A part of the API. Whoever has ``admin`` has the others, too."""

    INFERENCE = "inference"  # models answer, and are listed
    CONVERSATIONS = "conversations"  # what is stored: threads, messages, assistants, files, runs, responses
    ADMIN = "admin"  # models are fetched, changed, started, stopped and deleted


Scopes = frozenset[Scope]

EVERY: Scopes = frozenset(Scope)
USUAL: Scopes = frozenset({Scope.INFERENCE, Scope.CONVERSATIONS})  # of a key for which nothing else is said


def missing(needed: Scopes, held: Scopes) -> Scopes:
    """Those of the scopes ``needed`` that somebody with ``held`` has not."""
    return frozenset() if Scope.ADMIN in held else needed - held


def in_words(scopes: Iterable[Scope]) -> str:
    """``inference, admin``, in the order in which they are listed."""
    return ", ".join(scope for scope in Scope if scope in set(scopes))
