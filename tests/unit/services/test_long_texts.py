"""A document with long texts in its file is the same document, however it is written and wherever a piece ends."""

from __future__ import annotations

import base64
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest

from janflask.errors import InvalidRequestError, RequestTooLargeError
from janflask.transfer import long_texts
from janflask.transfer.document import decoded
from tests.unit.services.test_portable import conversation, exported, portable

MIB = 1 << 20
MANY = 1_000_000  # values
TEXTS = ["", "a", '"', "\\", '\\"', "\\\\", "\n\u2028é🙂", "x" * 300, "\\" * 301, '"' * 300, "é\n" * 200, "🙂" * 150]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are long, and pieces end, after a few bytes."""
    monkeypatch.setattr(long_texts, "LONG", 100)
    monkeypatch.setattr(long_texts, "_PIECE", 7)


def read(data: bytes, limit: int = MIB) -> Any:
    document, texts = long_texts.read(io.BytesIO(data), limit, MANY)
    return texts.put_back(document, "it", MIB)


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64, 1000])
@pytest.mark.parametrize("ascii", [True, False])
def test_every_text_comes_back(piece: int, ascii: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_texts, "_PIECE", piece)
    for text in TEXTS:
        for document in ({"a": text, "b": [text, 1, {"c": text, text[:50]: None}]}, [text], text):
            assert read(json.dumps(document, ensure_ascii=ascii).encode()) == document


def test_random_documents() -> None:
    dice = random.Random(5)
    for _ in range(200):
        texts = ["".join(dice.choices('ab"\\\n/é🙂', k=dice.choice([0, 3, 99, 100, 101, 250]))) for _ in range(5)]
        document = {"texts": texts, "inner": dict(zip("abcde", texts, strict=True))}
        assert read(json.dumps(document, ensure_ascii=dice.random() < 0.5).encode()) == document


@pytest.mark.parametrize("end", ["", "\\", "\\u00", '"', '",', '\\"'])
@pytest.mark.parametrize("text", ["x", "x" * 500, "\\\\" * 200])
def test_a_document_that_is_cut_off(text: str, end: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read(f'["{text}{end}'.encode())
    assert caught.value.code == "invalid_json"


@pytest.mark.parametrize("text", [b"\\q", b"\x01", b"\xff", b"\\ud800"])
def test_a_long_text_that_is_no_json(text: bytes) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read(b'["' + b"x" * 200 + text + b'"]')
    assert caught.value.param == "it"


def test_no_document_can_name_a_place_in_a_file() -> None:
    """The word for a text is another one each time."""
    first, _ = long_texts.read(io.BytesIO(json.dumps(["x" * 200]).encode()), MIB, MANY)
    again, texts = long_texts.read(io.BytesIO(json.dumps([first[0], "x" * 200]).encode()), MIB, MANY)
    assert texts.put_back(again, "it", MIB) == [first[0], "x" * 200]


def test_what_is_held_is_limited() -> None:
    assert read(json.dumps(["x" * 99] * 10).encode(), 1100)
    with pytest.raises(RequestTooLargeError, match="JANFLASK_MAX_BODY_MB"):
        read(json.dumps(["x" * 99] * 20).encode(), 1100)
    document, texts = long_texts.read(io.BytesIO(json.dumps(["x" * 5000] * 5).encode()), 20_000, MANY)
    with pytest.raises(RequestTooLargeError, match="JANFLASK_MAX_BODY_MB"):
        texts.put_back(document, "it", MIB)
    with pytest.raises(RequestTooLargeError, match=r"it has a text of 5000 bytes"):
        texts.put_back(document, "it", 4999)


@pytest.mark.parametrize("piece", [1, 5, 6, 7, 64])
@pytest.mark.parametrize(
    "spelling", [("/", "\\/"), ("+", "\\u002b"), ("+", "\\u002B"), ("=", "\\u003d"), ("A", "\\u0041")]
)
def test_base64_in_every_spelling(piece: int, spelling: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_texts, "_PIECE", piece)
    content = bytes(range(256)) + b"\xfb\xef\xbe\xff" * 20
    told = base64.b64encode(content).decode().replace(*spelling)
    document, texts = long_texts.read(io.BytesIO(f'["{told}"]'.encode()), MIB, MANY)
    text = texts.find(document[0])
    assert isinstance(text, long_texts.LongText)
    assert b"".join(decoded(text)) == content


@pytest.mark.parametrize(
    "wrong", ["AA==" + "A" * 200, "A" * 200 + "=", "A" * 199, "A" * 200 + "\\n", "é" * 200, "!" * 200]
)
def test_what_is_no_base64(wrong: str) -> None:
    document, texts = long_texts.read(io.BytesIO(f'["{wrong}"]'.encode()), MIB, MANY)
    with pytest.raises(ValueError):
        list(decoded(texts.find(document[0])))


def test_an_imported_thread_is_the_same(tmp_path: Path) -> None:
    """With nearly every text left in the file."""
    service, repository = portable(tmp_path)
    conversation(repository)
    document = exported(service)
    document["messages"][0]["content"][0]["text"]["value"] = "long " * 500
    new = service.import_document(io.BytesIO(json.dumps(document).encode()))
    again = exported(service, new.id)
    assert [file["content"] for file in again["files"]] == [file["content"] for file in document["files"]]
    assert again["thread_files"] == document["thread_files"]
    assert [item["content"][0] for item in again["messages"]] == [item["content"][0] for item in document["messages"]]


@pytest.mark.parametrize("name", ["filename", "purpose", "id"])
def test_a_files_other_fields_are_not_long(tmp_path: Path, name: str) -> None:
    service, repository = portable(tmp_path)
    conversation(repository)
    document = exported(service)
    document["files"][0][name] = "x" * 5000
    with pytest.raises((InvalidRequestError, RequestTooLargeError), match=r"files\[0\]"):
        service.import_document(io.BytesIO(json.dumps(document).encode()))
