"""Who looks at the store."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from janflask.storage.base import Page

_NOBODY = "-"  # owns nothing: no id is like that


class Viewer(Protocol):
    """``key_id`` is whose things are its own, and None where nobody asks for keys."""

    @property
    def key_id(self) -> str | None: ...

    @property
    def sees_all(self) -> bool:
        """Whose a thing is does not matter."""


def is_own(viewer: Viewer, owner: str | None) -> bool:
    """Whether the viewer may do with the owner's things what it likes. What is nobody's is for who sees all."""
    return viewer.sees_all or (owner is not None and owner == viewer.key_id)


def maker(viewer: Viewer) -> str | None:
    """Whose it is what the viewer makes. Raises PermissionError for one that is neither a key nor sees all."""
    if viewer.key_id is None and not viewer.sees_all:
        raise PermissionError("nothing is stored for a stranger")
    return viewer.key_id


def owner_for(viewer: Viewer) -> str | None:
    """Whose things a list has; None: all."""
    return None if viewer.sees_all else viewer.key_id or _NOBODY


def page_for(viewer: Viewer, page: Page) -> Page:
    """The page of what the viewer sees."""
    return page if viewer.sees_all else replace(page, owner=owner_for(viewer))
