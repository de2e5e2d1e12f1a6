"""janflask: an HTTP server for language models on your own machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from janflask.settings import Settings

__version__ = "0.1.0"


def create_app(settings: Settings | None = None) -> Flask:
    """The WSGI application; ``settings`` default to the ``JANFLASK_*`` variables.

    Raises SettingsError for a variable that can't be used. Nothing is imported before: an engine process is janflask,
    too, and has no use for Flask.
    """
    from janflask.api.app import build
    from janflask.settings import Settings as EnvironmentSettings

    return build(EnvironmentSettings.from_env() if settings is None else settings)
