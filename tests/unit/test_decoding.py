"""Every kind of object is made ready by one thread at a time."""

from __future__ import annotations

import ast
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from janflask import decoding

PACKAGE = Path(decoding.__file__).parent
MAKERS = {"Decoder", "convert"}  # of msgspec; each makes the kind that it is given ready


class Inner(msgspec.Struct):
    number: int


class Outer(msgspec.Struct):
    inner: Inner


def test_what_is_decoded() -> None:
    outer = Outer(Inner(1))
    assert decoding.json_decoder(Outer).decode(b'{"inner": {"number": 1}}') == outer
    assert decoding.msgpack_decoder(Outer).decode(msgspec.msgpack.encode(outer)) == outer
    assert decoding.convert({"inner": {"number": 1}}, Outer) == outer
    assert decoding.convert("1", int, strict=False) == 1
    with pytest.raises(msgspec.ValidationError):
        decoding.convert({"inner": {"number": "1"}}, Outer)


def test_a_decoder_is_made_once() -> None:
    assert decoding.json_decoder(Outer) is decoding.json_decoder(Outer)
    assert decoding.msgpack_decoder(Outer) is decoding.msgpack_decoder(Outer)


def test_no_two_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way: list[Any] = []
    most = []

    def make(kind: Any) -> Any:
        under_way.append(kind)
        time.sleep(0.02)
        most.append(len(under_way))
        under_way.remove(kind)
        return kind

    monkeypatch.setattr(decoding.msgspec.json, "Decoder", make)
    monkeypatch.setattr(decoding.msgspec.msgpack, "Decoder", make)
    monkeypatch.setattr(decoding, "_json", {})
    monkeypatch.setattr(decoding, "_msgpack", {})
    makers = (decoding.json_decoder, decoding.msgpack_decoder)
    threads = [threading.Thread(target=maker, args=(kind,)) for maker in makers for kind in 2 * (Inner, Outer, int)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6


def test_nobody_makes_them_otherwise() -> None:
    found = []
    for file in PACKAGE.rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and file.name != "decoding.py" and _makes_a_kind_ready(call):
                found.append(f"{file.relative_to(PACKAGE)}:{call.lineno}")
    assert found == [], "use janflask.decoding"


def _makes_a_kind_ready(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    if not name.startswith("msgspec."):
        return False
    last = name.rpartition(".")[2]
    if last == "decode":
        return any(keyword.arg == "type" for keyword in call.keywords)
    return last in MAKERS and bool(call.args or call.keywords)
