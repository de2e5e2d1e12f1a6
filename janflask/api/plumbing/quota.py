"""What is stored may take so much of the disk: beyond it nothing new is taken, and what is there can be deleted."""

from __future__ import annotations

from flask import Flask, request

from janflask.access.scopes import Scope
from janflask.api.plumbing.storing import stores
from janflask.errors import StorageFullError
from janflask.files.disk_use import DiskUse
from janflask.settings import Settings

_WRITES = frozenset({"POST", "PUT", "PATCH"})
_ENDS = ("/cancel", "/submit_tool_outputs")  # what has begun is brought to its end
_GIB = 1 << 30


def register(app: Flask, settings: Settings) -> None:
    """After whatever refuses requests. Does nothing where there is no quota."""
    if not settings.data_quota_gb:
        return
    limit = int(settings.data_quota_gb * _GIB)
    use = DiskUse(
        (settings.threads_dir, settings.files_dir, settings.assistants_dir, settings.runs_dir, settings.idempotency_dir)
    )

    def look() -> None:
        rule = request.url_rule
        if (
            request.method not in _WRITES
            or rule is None
            or rule.rule.endswith(_ENDS)
            or not stores(Scope.CONVERSATIONS)
        ):
            return
        size = request.content_length or 0
        if use.bytes() + size > limit:
            raise StorageFullError(
                f"conversations and files take {use.bytes() / _GIB:.3g} of {settings.data_quota_gb:g} GiB "
                "(JANFLASK_DATA_QUOTA_GB): delete threads or files that are not needed, or have the limit raised"
            )
        use.add(size)

    app.before_request(look)
