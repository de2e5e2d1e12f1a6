"""Messages that fail while they are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from janflask.storage.records import Message


class Broken(Sequence[Message]):
    """Two messages, of which the second cannot be had."""

    def __init__(self, first: Message) -> None:
        self._first = first

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: Any) -> Any:
        if index == 0:
            return self._first
        raise ZeroDivisionError
