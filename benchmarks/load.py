"""A load that costs little, in a process of its own: ``python -m benchmarks.load PORT SECONDS`` prints JSON.

Standard input holds one request a line, as hexadecimal digits: each is one client's, which sends it over and over on a
connection that stays open, the next as soon as it has an answer. One thread, raw sockets.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field

TIMEOUT = 30.0  # seconds without any answer


@dataclass(slots=True)
class Client:
    """One connection and what has come of the answer under way."""

    sock: socket.socket
    request: bytes
    received: bytearray = field(default_factory=bytearray)
    sent_at: float = 0.0

    def send(self) -> None:
        self.received.clear()
        self.sent_at = time.perf_counter()
        self.sock.sendall(self.request)

    def is_answered(self) -> bool:
        """Takes what is there. Raises RuntimeError for an answer other than 200 with a length."""
        data = self.sock.recv(1 << 16)
        if not data:
            raise RuntimeError("the server closed the connection")
        self.received += data
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self.received[:end]).lower()
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(bytes(self.received[:500]).decode(errors="replace"))
        start = head.find(b"content-length:")
        if start < 0:
            raise RuntimeError("an answer has no Content-Length")
        length = int(head[start + 15 :].split(b"\r\n", 1)[0])
        return len(self.received) >= end + 4 + length


def run(port: int, seconds: float, requests: list[bytes]) -> dict[str, float]:
    """Answers in all, wall time in seconds, and the median time of one answer in milliseconds."""
    selector = selectors.DefaultSelector()
    for request in requests:
        sock = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = Client(sock, request)
        selector.register(sock, selectors.EVENT_READ, client)
        client.send()
    times: list[float] = []
    started = now = time.perf_counter()
    while now - started < seconds:
        ready = selector.select(TIMEOUT)
        if not ready:
            raise TimeoutError(f"no answer within {TIMEOUT:g} s")
        for key, _ in ready:
            client = key.data
            if client.is_answered():
                times.append(time.perf_counter() - client.sent_at)
                client.send()
        now = time.perf_counter()
    wall = now - started
    return {"count": len(times), "seconds": wall, "median_ms": sorted(times)[len(times) // 2] * 1e3}


if __name__ == "__main__":
    given = [bytes.fromhex(line) for line in sys.stdin.read().split()]
    print(json.dumps(run(int(sys.argv[1]), float(sys.argv[2]), given)))
