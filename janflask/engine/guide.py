"""What leads an answer while it grows: which tokens may come next, and what comes of one that was drawn."""

from __future__ import annotations

from typing import Any, Protocol

from janflask.engine.matcher import Matcher


class Guide(Protocol):
    """``Held``, an answer's watch, or a fake in tests."""

    @property
    def mask(self) -> Any:
        """What may be drawn next; None: anything."""

    @property
    def matcher(self) -> Matcher | None:
        """The constraint that holds now: its mask is needed once more tokens were taken."""

    @property
    def error(self) -> str | None:
        """Why the answer cannot be gone on with."""

    @property
    def is_complete(self) -> bool:
        """Nothing can come but the end."""

    @property
    def is_over(self) -> bool:
        """It has nothing more to say: whatever comes may come."""

    def take(self, token: int, room: int, *, ends: bool) -> list[int]:
        """The tokens that come of the one that was drawn: itself, or others in its place, and those forced behind it.

        ``room``: the most that may come beyond one. ``ends``: the token is one that ends an answer.
        """


class Held:
    """An answer under a constraint from its first token on."""

    is_over = False

    def __init__(self, matcher: Matcher) -> None:
        self.matcher = matcher

    @property
    def mask(self) -> Any:
        """See ``Guide``."""
        return self.matcher.mask

    @property
    def error(self) -> str | None:
        """See ``Guide``."""
        return self.matcher.error

    @property
    def is_complete(self) -> bool:
        """See ``Guide``."""
        return self.matcher.is_complete

    def take(self, token: int, room: int, *, ends: bool) -> list[int]:
        """See ``Guide``."""
        return [token] if ends else taken(self.matcher, token, room)


def taken(matcher: Matcher, token: int, room: int) -> list[int]:
    """A token that a matcher takes, and those that it forces behind it."""
    matcher.accept(token)
    return [token, *forced(matcher, room)]


def forced(matcher: Matcher, most: int) -> list[int]:
    """The tokens that have to come now, at most so many; the matcher has taken them."""
    return matcher.force(most) if matcher.error is None and not matcher.is_complete else []
