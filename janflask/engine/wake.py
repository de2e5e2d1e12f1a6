"""An event that native code sees, too: llama.cpp leaves off a decode that is only a trial when somebody comes."""

from __future__ import annotations

import ctypes
import threading


class Wake(threading.Event):
    """While it is set the byte at ``address`` is 1."""

    def __init__(self) -> None:
        super().__init__()
        self._byte = ctypes.c_ubyte(0)
        self.address: int = ctypes.addressof(self._byte)

    def set(self) -> None:
        """See ``threading.Event``."""
        self._byte.value = 1
        super().set()

    def clear(self) -> None:
        """See ``threading.Event``."""
        super().clear()
        self._byte.value = 0
