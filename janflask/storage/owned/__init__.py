"""The store as somebody sees it: what is others' is not there, and what is made is their own.

``assistants``: Assistants as somebody sees them: their own and those that are nobody's, which they cannot change
``files``: Uploaded files as somebody sees them
``runs``: Runs as somebody sees them: those of their threads
``threads``: Threads and messages as somebody sees them
``viewer``: Who looks at the store
"""

from __future__ import annotations

from collections.abc import Callable

from janflask.storage.base import Repository
from janflask.storage.owned.assistants import OwnedAssistantStore
from janflask.storage.owned.files import OwnedFileStore
from janflask.storage.owned.runs import OwnedRunStore
from janflask.storage.owned.threads import OwnedThreadStore
from janflask.storage.owned.viewer import Viewer


def owned(repository: Repository, viewer: Callable[[], Viewer]) -> Repository:
    """``repository`` as ``viewer()`` sees it, who is asked anew at each call."""
    threads = OwnedThreadStore(repository.threads, viewer)
    return Repository(
        threads=threads,
        assistants=OwnedAssistantStore(repository.assistants, viewer),
        files=OwnedFileStore(repository.files, viewer),
        runs=OwnedRunStore(repository.runs, threads.check),
        check=threads.check,
    )
