"""Downloads of models: checked here, fetched in the supervisor's care."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from janflask.errors import InvalidRequestError
from janflask.ipc.clients.supervisor import SupervisorClient
from janflask.models.catalog import is_model_id
from janflask.models.state import DownloadRequest, ModelState
from janflask.services.overrides import FILE_SETTINGS, checked_settings
from janflask.settings import Settings

START_TIMEOUT = 10.0  # seconds; what is asked for is written down before it is answered
CANCEL_TIMEOUT = 30.0  # seconds; what came of it is removed before it is answered


class DownloadService:
    """Begins and ends downloads. Thread-safe."""

    def __init__(self, settings: Settings, supervisor: SupervisorClient) -> None:
        self._settings = settings
        self._supervisor = supervisor

    def start(self, request: DownloadRequest) -> ModelState:
        """The model whose download has begun, or was under way already.

        Raises InvalidRequestError for an id, a setting or a source that cannot be used, ConflictError for an id that is
        taken, and UnavailableError.
        """
        if request.model_id is not None and not is_model_id(request.model_id):
            raise InvalidRequestError(
                "id must begin with a letter or digit, and have letters, digits, '.', '_' and '-' only, 128 at most",
                param="id",
                code="invalid_value",
            )
        checked = replace(request, settings=self._new_settings(request.settings))
        return self._supervisor.download(checked, START_TIMEOUT)

    def cancel(self, model_id: str) -> None:
        """Ends a download, or forgets one that failed, with all that came of it. No error when there is none."""
        self._supervisor.cancel_download(model_id, CANCEL_TIMEOUT)

    def _new_settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Which files a new model has is for its download to say."""
        for name in FILE_SETTINGS:
            if given.get(name) is not None:
                raise InvalidRequestError(
                    f"settings.{name} names a file of a model that is not there yet: leave it out, and set it later",
                    param=f"settings.{name}",
                    code="invalid_value",
                )
        return checked_settings(self._settings, given)
