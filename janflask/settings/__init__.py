"""Settings of the server and of engines, each once, in a table. The standard library only, and quick to import.

``engine_table``: The one table of what an engine is started with
``fields``: What a setting is: a dataclass field that carries its parser and its help
``hosts``: Host names and web origins in one spelling each, so that they can be compared
``server``: The server's settings, in one table
"""

from __future__ import annotations

from janflask.settings.server import PREFIX, Settings, table, text_of

__all__ = ["PREFIX", "Settings", "table", "text_of"]
