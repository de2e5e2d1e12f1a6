"""Requests of somebody who means no good, from the OpenAPI document and a seed: none of them may have an effect.

Each is right but for one thing. All are harmless to what they are sent to: they only have to be refused.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

METHODS = ("get", "post", "put", "patch", "delete")
JSON = "application/json"
MADE = b'{"title": "made by a smuggled request"}'  # nothing must be left of it

IDS = [
    "..%2F..%2Fsecrets%2Fkeys.json",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "..",
    "%2e%2e",
    "..%5c..%5cwindows",
    "%00",
    "a%00b",
    "%ff%fe",
    "%c0%ae%c0%ae",
    "%zz",
    "%",
    "~root",
    "*",
    "-rf",
    "$(id)",
    "%0d%0aSet-Cookie:%20a=b",
    "%F0%9F%92%A9",
    "con",
    ".lock",
    "thread.json",
    "%E2%80%AE",
    "{thread_id}",
    "a" * 300,
    "a" * 4000,
    "thread_" + "0" * 26,
    "file-" + "z" * 26,
    "conv_" + "1" * 26,
    "'%20OR%201=1--",
    "hf:..%2F..",
    "file:%2F%2F%2Fetc%2Fpasswd",
    "http:%2F%2F127.0.0.1:1%2Fx.gguf",
    "%2Fetc%2Fpasswd",
    "m%2F..%2Fm",
    ".",
    "null",
    "-1",
    "99999999999999999999999",
]
HOSTS = [
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.nip.example",
    "localhost@evil.example",
    "[::1",
    "a b",
    "é",
]
HOSTS += ["localhost:99999", "localhost:x", "evil.example:1337", "..", "0x7f.1", "xn--80ak6aa92e.example", "/", "%00"]
ORIGINS = ["https://evil.example", "null", "http://localhost.evil.example", "https://localhost:1", "file://", "é", ","]
ORIGINS += ["http://127.0.0.1:1", "chrome-extension://abc", "https://evil.example, http://localhost", "http://[::1]:1"]
QUERIES = [
    "limit=-1",
    "limit=0",
    f"limit={'9' * 400}",
    "limit=1e9",
    "limit=%00",
    "after=..%2F..",
    "order=%ff",
    "limit=",
]
QUERIES += [
    f"after={'a' * 4000}",
    "before=%00",
    "order=asc;drop",
    "limit[]=1",
    "q=%ff%fe",
    "purpose=%0d%0a",
    "stream=maybe",
]
QUERIES += [
    "starting_after=-1",
    f"starting_after={'9' * 30}",
    "include[]=%ff",
    "a=b&" * 1500,
    "%ff=%ff",
    "metadata[%00]=1",
]
PATHS = [
    "/..",
    "/../../etc/passwd",
    "/v1/..%2f..%2fetc",
    "//evil.example/v1/threads",
    "/v1//threads//",
    "/v1/threads;x=1",
]
PATHS += [
    "/%2e%2e/%2e%2e/data",
    "/v1/%00",
    "/.git/config",
    "/cgi-bin/%ff",
    "/docs/assets/..%2f..%2fapp.py",
    "/v1/files/..",
]
PATHS += [
    "/docs/assets/%2e%2e/%2e%2e/__init__.py",
    "/docs/assets//etc/passwd",
    "/server-status",
    "/v1/THREADS/x",
    "/" * 3000,
]


@dataclass(frozen=True)
class Sent:
    """One request. ``half``: only so much of it is sent, then nothing more comes."""

    kind: str
    start: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    half: int | None = None
    raw: bytes | None = None

    def wire(self) -> bytes:
        if self.raw is not None:
            return self.raw
        names = {name.lower() for name, _ in self.headers}
        headers = [("Host", "localhost")] if "host" not in names else []
        headers += [*self.headers, ("Connection", "close")]
        if self.body and not names & {"content-length", "transfer-encoding"}:
            headers.append(("Content-Length", str(len(self.body))))
        lines = [f"{self.start} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
        return ("\r\n".join(lines).encode("utf-8") + self.body)[: self.half]


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    parameters: tuple[str, ...]  # of the path
    example: Any

    def at(self, ids: dict[str, str]) -> str:
        path = self.path
        for name in self.parameters:
            path = path.replace(f"{{{name}}}", ids[name])
        return f"{self.method.upper()} {path}"


def operations(document: dict[str, Any]) -> list[Operation]:
    found = []
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method not in methods:
                continue
            content = methods[method].get("requestBody", {}).get("content", {}).get(JSON, {})
            examples = [each["value"] for each in content.get("examples", {}).values()]
            parameters = tuple(part[1:-1] for part in path.split("/") if part.startswith("{"))
            example = content.get("example", examples[0] if examples else None)
            found.append(Operation(method, path, parameters, example))
    return found


class Hostile:
    """``real``: ids of what is there, by the parameters' names. ``max_body``: bytes that a body may have."""

    def __init__(self, document: dict[str, Any], real: dict[str, str], seed: int, max_body: int) -> None:
        self._operations = operations(document)
        self._real = real
        self._dice = random.Random(seed)
        self._max_body = max_body

    def requests(self, number: int) -> list[Sent]:
        """So many, of all kinds, in no order."""
        kinds: list[Callable[[], Iterator[Sent]]] = [
            self._ids,
            self._hosts,
            self._origins,
            self._queries,
            self._paths,
            self._bodies,
            self._lengths,
            self._lines,
            self._headers,
            self._slow,
        ]
        found = [self._take(list(kind()), number // len(kinds)) for kind in kinds]
        sent = [one for some in found for one in some]
        self._dice.shuffle(sent)
        return sent

    def _take(self, some: list[Sent], number: int) -> list[Sent]:
        self._dice.shuffle(some)
        return (some * (number // len(some) + 1))[:number]

    def _with_body(self, operation: Operation, start: str, kind: str) -> Sent:
        if operation.example is None:
            return Sent(kind, start)
        return Sent(kind, start, (("Content-Type", JSON),), json.dumps(operation.example).encode())

    def _ids(self) -> Iterator[Sent]:
        for operation in self._operations:
            for name in operation.parameters:
                for odd in self._dice.sample(IDS, 12):
                    start = operation.at({**self._real, name: odd})
                    yield self._with_body(operation, start, "ids")

    def _hosts(self) -> Iterator[Sent]:
        for operation in self._operations:
            sent = self._with_body(operation, operation.at(self._real), "hosts")
            for host in self._dice.sample(HOSTS, 5):
                yield replace(sent, headers=(*sent.headers, ("Host", host)))
            yield replace(sent, headers=(*sent.headers, ("Host", "localhost"), ("Host", "evil.example")))

    def _origins(self) -> Iterator[Sent]:
        for operation in self._operations:
            if operation.method == "get":
                continue  # a page may ask, and not read
            sent = self._with_body(operation, operation.at(self._real), "origins")
            for origin in self._dice.sample(ORIGINS, 6):
                yield replace(sent, headers=(*sent.headers, ("Origin", origin)))
            yield replace(sent, headers=(*sent.headers, ("Sec-Fetch-Site", "cross-site")))
            yield replace(sent, headers=(("Content-Type", "text/plain"), ("Origin", "https://evil.example")))

    def _queries(self) -> Iterator[Sent]:
        for operation in self._operations:
            if operation.method == "get" and not operation.path.endswith("/events"):
                for query in self._dice.sample(QUERIES, 9):
                    yield Sent("queries", f"{operation.at(self._real)}?{query}")

    def _paths(self) -> Iterator[Sent]:
        for path in PATHS:
            for method in (*METHODS, "head", "options", "trace", "connect", "propfind", "x" * 30):
                yield Sent("paths", f"{method.upper()} {path}", (("Content-Type", JSON),), b"{}")
        for _ in range(100):
            length = self._dice.randrange(1, 200)
            yield Sent("paths", f"{self._dice.choice(METHODS).upper()} /{quote(self._dice.randbytes(length))}")

    def _bodies(self) -> Iterator[Sent]:
        for operation in self._operations:
            if operation.example is None:
                continue
            good = json.dumps(operation.example).encode()
            for body in self._dice.sample(list(self._broken(good)), 9):
                yield Sent("bodies", operation.at(self._real), (("Content-Type", JSON),), body)
            for media in (
                "text/plain",
                "application/xml",
                "application/x-www-form-urlencoded",
                "multipart/form-data",
                "é",
            ):
                yield Sent("bodies", operation.at(self._real), (("Content-Type", media),), good)
            packed = gzip.compress(good)
            for coding in ("gzip, gzip", "br", "deflate", "zstd"):
                headers = (("Content-Type", JSON), ("Content-Encoding", coding))
                yield Sent("bodies", operation.at(self._real), headers, packed)
            headers = (("Content-Type", JSON), ("Content-Encoding", "gzip"))
            bomb = gzip.compress(b'{"a": "' + b" " * (4 * self._max_body) + b'"}', 9)
            for damaged in (packed[:-5], packed[:10] + b"x" * 20, bomb):
                yield Sent("bodies", operation.at(self._real), headers, damaged)
        yield from self._forms()

    def _broken(self, good: bytes) -> Iterator[bytes]:
        yield good[: self._dice.randrange(1, len(good))] if len(good) > 2 else b"{"
        yield good[:-1] + b"\xff" + good[-1:]
        yield good[:-1] + b', "a": "\xed\xa0\x80"}'
        yield good[:-1] + b', "a": "\\ud800"}'
        yield b"\xef\xbb\xbf" + good
        yield good.decode().encode("utf-16")
        yield good + good
        for deep in (101, 900, 5000, 100_000):
            yield b'{"a": ' + b"[" * deep + b"]" * deep + b"}"
            yield b'{"a":' * deep + b"1" + b"}" * deep
        for number in ("9" * 5000, "1e999", "-1e400", "NaN", "Infinity", "0x10", "01", "+1", "9" * 100_000):
            yield good[:-1] + f', "seed": {number}}}'.encode()
        yield from (b"null", b"7", b'"x"', b"[]", b"[{}]", b"true", b"{", b"}", b"\0", b"{}x", b"'a'", b"<a/>")
        yield b"[" + b"[]," * 20_000 + b"1]"
        yield good[:-1] + b', "a": "' + b"x" * self._max_body + b'"}'
        yield self._dice.randbytes(self._dice.randrange(1, 300))

    def _forms(self) -> Iterator[Sent]:
        def form(body: bytes, media: str = "multipart/form-data; boundary=f") -> Sent:
            return Sent("bodies", "POST /v1/files", (("Content-Type", media),), body)

        part = b'--f\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\nx\r\n'
        purpose = b'--f\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
        for _ in range(3):
            yield form(part % b"../../x")  # no end
            yield form(part % b"a" + b"--f--\r\n")  # no purpose
            yield form(part % b"a" * 2 + purpose + b"--f--\r\n")
            yield form(purpose * 100 + part % b"a" + b"--f--\r\n")
            yield form(part % b"a" + purpose + b"--f--\r\n", "multipart/form-data")
            yield form(part % b"a" + purpose + b"--f--\r\n", "multipart/form-data; boundary=" + "x" * 500)
            yield form(b"--f\r\n" + b"X: y\r\n" * 60_000 + b"\r\nx\r\n--f--\r\n")
            yield form(b"--f\r\nContent-Disposition: form-data; name=" + b"x" * 300_000 + b"\r\n\r\n\r\n--f--\r\n")
            yield form(purpose.replace(b"assistants", b"\xff\xfe") + part % b"a" + b"--f--\r\n")
            yield form(self._dice.randbytes(2000))

    def _lengths(self) -> Iterator[Sent]:
        hidden = b"POST /v1/threads HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        hidden += b"Content-Length: %d\r\n\r\n%s" % (len(MADE), MADE)
        wrong = ["-1", "+5", " 5 5", "0x5", "5,5", "5;", "1e1", "9" * 30, "5\t6", "\u0665", "five", "4_0", "5.0", '"5"']
        chunked = [
            "xchunked",
            "chunked, identity",
            "identity, chunked",
            "chunked\x0b",
            "gzip, gzip",
            "CHUNKED;q=1",
            ",",
        ]
        chunked += ["chunked, chunked", "\x0bchunked", "chu nked", "chunked,,x"]
        for _ in range(4):
            start = b"POST /nowhere/%d HTTP/1.1\r\nHost: localhost\r\n" % self._dice.randrange(1 << 30)
            for value in wrong:
                yield self._raw(start + f"Content-Length: {value}\r\n\r\n".encode() + hidden)
            for value in chunked:
                yield self._raw(start + f"Transfer-Encoding: {value}\r\n\r\n".encode() + b"0\r\n\r\n" + hidden)
                both = f"Content-Length: 4\r\nTransfer-Encoding: {value}\r\n\r\n".encode()
                yield self._raw(start + both + b"0\r\n\r\n" + hidden)
            for two in (b"Content-Length: 0\r\nContent-Length: 50", b"Content-Length: 4\r\nTransfer-Encoding: chunked"):
                yield self._raw(start + two + b"\r\n\r\n0\r\n\r\n" + hidden)
            for name in (
                b"Content-Length ",
                b" Content-Length",
                b"Content_Length",
                b"Content-Length\t",
                b"\0Content-Length",
            ):
                yield self._raw(start + name + b": %d\r\n\r\n" % len(hidden) + hidden[:-1])
            for size in (b"-1", b"0x5", b"5 ", b"+5", b"f" * 20, b"", b"g", b"5;" + b"x" * 9000, b"\xff", b"5\n"):
                yield self._raw(start + b"Transfer-Encoding: chunked\r\n\r\n" + size + b"\r\nhello\r\n" + hidden[:-1])
            for end in (b"0\r\nX: y\r\nHost: a\r\n" * 200, b"5\r\nhelloworld\r\n", b"5\nhello\n0\n\n", b"3\r\nhello"):
                yield self._raw(start + b"Transfer-Encoding: chunked\r\n\r\n" + end + hidden[:-1])

    def _lines(self) -> Iterator[Sent]:
        host = b"\r\nHost: localhost\r\n\r\n"
        for _ in range(4):
            odd = self._dice.randbytes(self._dice.randrange(1, 400))
            for line in (
                b"GET /v1/threads",
                b"GET  /v1/threads HTTP/1.1",
                b"GET /v1/threads HTTP/1.1 x",
                b"GET /v1/threads HTTP/9.9",
                b"GET /v1/threads HTTP/1.1\x00",
                b"GET /v1/thr\x00eads HTTP/1.1",
                b"GET /\xff\xfe HTTP/1.1",
                b"get /v1/threads HTTP/1.1",
                b"G\x01T / HTTP/1.1",
                b"GET http://evil.example/v1/threads HTTP/1.1",
                b"DELETE http://[::1/v1/threads HTTP/1.1",
                b"CONNECT evil.example:443 HTTP/1.1",
                b"POST * HTTP/1.1",
                b"OPTIONS * HTTP/1.1",
                b"PRI * HTTP/2.0\r\n\r\nSM",
                b"GET /" + b"a" * 10_000 + b" HTTP/1.1",
                b"X" * 10_000 + b" / HTTP/1.1",
                b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + odd,
                odd,
                b"GET /v1/threads?" + quote(odd).encode() + b" HTTP/1.1\r\nA B: c",
            ):
                yield self._raw(line + host)
            for header in (
                b"X",
                b": y",
                b"X: \x00",
                b"X\x00: y",
                b"X: a\r\n b",
                b"X: a\rb",
                b"X : y",
                b"X: " + b"y" * 9000,
                b"X: y\r\n" * 150,
                b"(X): y",
                b"\xc3\xa9: y",
                b"X: " + odd.replace(b"\n", b"\x01"),
                b"Host: localhost, evil.example",
            ):
                yield self._raw(b"POST /v1/threads HTTP/1.1\r\nHost: evil.example\r\n" + header + b"\r\n\r\n")

    def _headers(self) -> Iterator[Sent]:
        odd = {
            "Range": [
                "bytes=-",
                "bytes=9-1",
                "bytes=" + "0-1," * 900,
                f"bytes={'9' * 400}-",
                "lines=1-2",
                "bytes=\x01",
            ],
            "If-None-Match": ['"' * 5000, "W/" * 500],
            "If-Modified-Since": ["Thu, 99 Foo 99999 99:99:99 GMT", "9" * 4000],
            "Last-Event-ID": ["-1", "9" * 400, "\xff", "1;2"],
            "Accept": ["*/*;q=" + "9" * 3000, "," * 8000],
            "Accept-Encoding": ["gzip;q=x", "," * 8000],
            "Authorization": ["Bearer " + "x" * 8000, "Bearer \xff", "Basic " + "=" * 3000, "Bearer"],
            "Cookie": ["a=b; " * 1500],
            "X-Request-Id": ["../../x", "a" * 5000, "\xff"],
            "Expect": ["100-continue", "200-ok", "100-continue, x"],
            "Upgrade": ["websocket", "h2c"],
            "X-Http-Method-Override": ["DELETE"],
            "Script-Name": ["/../..", "/v1"],
            "Forwarded": ["for=_x;host=evil.example;proto=" + "x" * 3000],
            "X-Forwarded-Host": ["evil.example"],
            "traceparent": ["00-" + "f" * 500, "\xff"],
            "Idempotency-Key": ["\xff", "x" * 5000],
        }
        reads = [each for each in self._operations if each.method == "get" and not each.path.endswith("/events")]
        for name, values in odd.items():
            for value in values:
                for operation in self._dice.sample(reads, 8):
                    yield Sent("headers", operation.at(self._real), ((name, value),))

    def _slow(self) -> Iterator[Sent]:
        for operation in self._operations:
            if operation.example is not None:
                sent = self._with_body(operation, operation.at(self._real), "slow")
                for _ in range(4):
                    yield replace(sent, half=self._dice.randrange(1, len(sent.wire())))

    def _raw(self, data: bytes) -> Sent:
        return Sent("raw", "", raw=data)
