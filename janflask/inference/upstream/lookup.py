"""Looking up a host's addresses without waiting for it: the system's resolver blocks, so it does that in a thread."""

from __future__ import annotations

import socket
import threading

Target = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


def numeric_targets(host: str, port: int) -> list[Target] | None:
    """The address that ``host`` is already, None for a name."""
    try:
        return _targets(host, port, socket.AI_NUMERICHOST)
    except OSError:
        return None


class Lookup:
    """``fileno()`` becomes readable when there is a result. One that nobody waits for any more ends by itself."""

    def __init__(self, host: str, port: int) -> None:
        """Raises OSError when there can be no thread or socket for it."""
        self._where = host, port
        self._found: list[Target] | None = None
        self._error: OSError | None = None
        self._near, far = socket.socketpair()
        try:
            threading.Thread(target=self._run, args=(far,), name=f"lookup {host}", daemon=True).start()
        except RuntimeError as error:
            self._near.close()
            far.close()
            raise OSError(f"no thread to look it up: {error}") from None

    def fileno(self) -> int:
        """The descriptor; -1 once closed."""
        return self._near.fileno()

    def result(self) -> list[Target] | None:
        """The addresses, None while they are looked up. Raises OSError."""
        if self._error is not None:
            raise self._error
        return self._found

    def close(self) -> None:
        """Nobody waits for it any more. Idempotent."""
        self._near.close()

    def _run(self, far: socket.socket) -> None:
        with far:  # its end is the sign
            try:
                self._found = _targets(*self._where, 0)
            except (OSError, UnicodeError) as error:  # a name may be too long for the resolver's encoding
                self._error = error if isinstance(error, OSError) else OSError(str(error))


def _targets(host: str, port: int, flags: int) -> list[Target]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, where) for family, _, _, _, where in found]
