"""How many arenas glibc's allocator has in this process; also a WSGI application that tells it of its worker."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterable
from typing import Any

THREADS = 8  # each would have an arena of its own


def arenas() -> int:
    """Once so many threads have been there at the same time, and each has asked for memory."""
    together = threading.Barrier(THREADS)

    def want() -> None:
        bytearray(5000)  # more than Python's own allocator gives
        together.wait(30)

    threads = [threading.Thread(target=want) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told().count(b"<heap nr=")


def told() -> bytes:
    """glibc's own account, XML."""
    libc = ctypes.CDLL(None)
    libc.open_memstream.restype = ctypes.c_void_p
    text, size = ctypes.c_char_p(), ctypes.c_size_t()
    stream = ctypes.c_void_p(libc.open_memstream(ctypes.byref(text), ctypes.byref(size)))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    return text.value or b""


def app(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(arenas()).encode()]


if __name__ == "__main__":
    print(arenas())
