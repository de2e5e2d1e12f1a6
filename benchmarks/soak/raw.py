"""Plain HTTP beside the SDK: one connection that stays open, and sockets whose client leaves."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

from benchmarks.harness import post_request
from benchmarks.soak.tally import Tally

TIMEOUT = 300.0  # seconds


class Raw:
    """A connection of one client. Not thread-safe."""

    def __init__(self, port: int, key: str, tally: Tally) -> None:
        self.port, self.key = port, key
        self._tally = tally
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        """Status and answer. A kept connection that the server has closed meanwhile is opened anew, as clients do."""
        sent = {"Authorization": f"Bearer {self.key}", **headers}
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if content is not None:
            sent.setdefault("Content-Type", "application/json")
        was_open = self._connection.sock is not None
        try:
            return self._ask(method, path, content, sent)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self._connection.close()
            if not was_open:
                raise
            return self._ask(method, path, content, sent)

    def _ask(self, method: str, path: str, content: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        self._connection.request(method, path, content, headers)
        answer = self._connection.getresponse()
        data = answer.read()
        self._tally.status(answer.status)
        return answer.status, data

    def expect(self, status: int, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The JSON of an answer that has this status; RuntimeError for another one."""
        found, data = self.ask(method, path, body, **headers)
        if found != status:
            raise RuntimeError(f"{method} {path}: {found} in place of {status}: {data[:300]!r}")
        return json.loads(data) if data[:1] in (b"{", b"[") else data

    def leave(self, path: str, body: Any, read: int, part: float = 1.0) -> None:
        """Sends a request, or the first ``part`` of it, on a socket of its own, reads some of the answer, and goes."""
        head, end, content = post_request(path, body, self.key).partition(b"\r\n\r\n")
        with socket.create_connection(("127.0.0.1", self.port), TIMEOUT) as sock:
            sock.sendall(head + end + content[: int(part * len(content))])
            while read > 0 and (data := sock.recv(min(read, 4096))):
                read -= len(data)

    def close(self) -> None:
        """The connection's end."""
        self._connection.close()
