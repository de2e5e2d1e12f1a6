"""What is remembered between requests, apart for each key: how soon an answer comes must not tell what others asked."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar, TypeVarTuple

from janflask.access.caller import working_for

Ts = TypeVarTuple("Ts")
R = TypeVar("R")


def remembered_apart(most: int) -> Callable[[Callable[[*Ts], R]], Callable[[*Ts], R]]:
    """As ``lru_cache(most)``, of all keys together; but a request finds what requests of the same key have left."""

    def decorate(function: Callable[[*Ts], R]) -> Callable[[*Ts], R]:
        @lru_cache(most)
        def remembered(_owner: str | None, *given: *Ts) -> R:
            return function(*given)

        @wraps(function)
        def of_owner(*given: *Ts) -> R:
            return remembered(working_for.get(), *given)

        return of_owner

    return decorate
