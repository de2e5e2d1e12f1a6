"""Who is told: the file with their secrets."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from janflask.errors import ConflictError, StoreDamagedError
from janflask.webhooks import signing
from janflask.webhooks.endpoints import Endpoint, EndpointFile, Endpoints, Secret
from janflask.webhooks.events import of_thread

SECRET = signing.new_secret()


def endpoint(number: int = 1, **given: Any) -> Endpoint:
    fields: dict[str, Any] = {"url": "https://example.com/", "events": ["*"], "secrets": [Secret(SECRET)], "created": 1}
    return Endpoint(**{"id": f"we_{number}", **fields, **given})


@pytest.fixture
def file(tmp_path: Path) -> EndpointFile:
    return EndpointFile(tmp_path / "secrets", 0.2)


def test_nobody_is_told_where_there_is_no_file(file: EndpointFile) -> None:
    assert file.current() == Endpoints()
    assert file.wanted([of_thread("created", "t")]) == []
    assert not file.path.parent.exists()


def test_what_was_written_is_read_and_changes_are_seen(file: EndpointFile) -> None:
    other = EndpointFile(file.path.parent)
    assert other.current() == Endpoints()
    file.change(lambda known: known.with_one(endpoint(events=["model.*"])))
    assert other.current().known == {"we_1": endpoint(events=["model.*"])}
    assert file.path.stat().st_mode & 0o777 == 0o600
    created = of_thread("created", "t")
    assert other.wanted([created]) == []
    file.change(lambda known: known.with_one(endpoint()))
    assert other.wanted([created]) == [created]
    file.change(lambda known: known.with_one(endpoint(disabled="it answered 410")))
    assert other.wanted([created]) == []
    file.change(lambda known: known.without("we_1"))
    assert other.current() == Endpoints()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"version": 2, "endpoints": []}',
        '{"version": 1, "endpoints": [{}]}',
        json.dumps(
            {"version": 1, "endpoints": [{"id": "we_1", "url": "x", "events": ["no"], "secrets": [], "created": 1}]}
        ),
        json.dumps(
            {
                "version": 1,
                "endpoints": [
                    {"id": "we_1", "url": "x", "events": ["*"], "secrets": [{"text": "short"}], "created": 1},
                ],
            }
        ),
        json.dumps(
            {
                "version": 1,
                "endpoints": [
                    {"id": "we_1", "url": "x", "events": ["no.such"], "secrets": [{"text": SECRET}], "created": 1},
                ],
            }
        ),
        "[" * 100_000,
    ],
)
def test_what_cannot_be_used_is_told_and_keeps_every_event(file: EndpointFile, content: str) -> None:
    file.change(lambda known: known)
    file.path.write_text(content)
    with pytest.raises(StoreDamagedError, match=r"webhooks\.json cannot be used"):
        file.current()
    created = of_thread("created", "t")
    assert file.wanted([created]) == [created]
    with pytest.raises(StoreDamagedError):
        file.change(lambda known: known.with_one(endpoint()))
    assert file.path.read_text() == content


def test_a_file_that_others_can_read_is_not_used(file: EndpointFile) -> None:
    file.change(lambda known: known.with_one(endpoint()))
    file.path.chmod(0o640)
    with pytest.raises(StoreDamagedError, match="not 600"):
        file.current()


def test_sixteen_are_the_most(file: EndpointFile) -> None:
    for number in range(16):
        file.change(lambda known, number=number: known.with_one(endpoint(number)))
    with pytest.raises(ConflictError, match="16 endpoints"):
        file.change(lambda known: known.with_one(endpoint(16)))
    assert len(file.current().known) == 16


def test_an_older_secret_signs_for_a_while() -> None:
    now = time.time()
    older = [Secret("new"), Secret("old", int(now) + 60), Secret("older", int(now) - 60)]
    assert endpoint(secrets=older).signing(now) == ["new", "old"]
