"""Who sent a request."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from janflask.access.keys import Key
from janflask.access.scopes import EVERY, Scope, Scopes, missing

# The key that the work at hand is for: whose tokens they are, and whose runs. None: nobody's.
working_for: ContextVar[str | None] = ContextVar("working_for", default=None)


@dataclass(frozen=True, slots=True)
class Caller:
    """``key`` is None where no key is asked for."""

    key: Key | None
    scopes: Scopes

    @property
    def key_id(self) -> str | None:
        """Who it is."""
        return None if self.key is None else self.key.id

    @property
    def sees_all(self) -> bool:
        """Whose a stored thing is does not matter."""
        return Scope.ADMIN in self.scopes

    def lacks(self, needed: Scopes) -> Scopes:
        """Those of the scopes that it has not."""
        return missing(needed, self.scopes)


ANYBODY = Caller(None, EVERY)  # where no key is asked for
STRANGER = Caller(None, frozenset())  # without a key, where one is asked for

# Who sent the request at hand, and so whose things are there. Beside a request there is nobody: asking is an error.
asking: ContextVar[Caller] = ContextVar("asking")
