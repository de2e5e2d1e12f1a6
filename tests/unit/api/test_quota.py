"""A quota of the disk: beyond it nothing new is stored, and what is there can be read, ended and deleted."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from janflask import create_app
from janflask.files import disk_use
from janflask.files.disk_use import DiskUse, bytes_below
from tests.unit.api.conftest import World

MIB = 1 << 20


@pytest.fixture
def small(world: World) -> Flask:
    """An application whose conversations and files may take a MiB."""
    return create_app(replace(world.settings, data_quota_gb=1 / 1024))


def upload(app: Flask, size: int) -> Any:
    form = {"purpose": "assistants", "file": (io.BytesIO(b"x" * size), "a.bin")}
    return app.test_client().post("/v1/files", data=form)


def test_beyond_the_quota_nothing_is_stored(small: Flask) -> None:
    client = small.test_client()
    thread: Any = client.post("/v1/threads", json={}).json
    kept: Any = upload(small, 400_000).json
    assert upload(small, 400_000).status_code == 200
    refused = upload(small, 400_000)
    assert refused.status_code == 507
    assert refused.json["error"]["code"] == "insufficient_storage"
    assert "JANFLASK_DATA_QUOTA_GB" in refused.json["error"]["message"]
    assert client.post("/v1/threads", json={}).status_code == 200  # small as it is
    big = {"role": "user", "content": "x" * 500_000}
    assert client.post(f"/v1/threads/{thread['id']}/messages", json=big).status_code == 507
    stored = {"model": "tiny", "input": "x" * 500_000}
    assert client.post("/v1/responses", json=stored).status_code == 507
    assert client.post("/v1/responses", json={**stored, "store": False}).status_code == 200
    with client.get(f"/v1/files/{kept['id']}/content") as content:
        assert content.status_code == 200
    assert client.post(f"/v1/threads/{thread['id']}/runs/run_x/cancel").status_code != 507
    assert client.delete(f"/v1/files/{kept['id']}").status_code == 200
    assert client.delete(f"/v1/threads/{thread['id']}").status_code == 200


def test_room_that_was_made_counts(small: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_use, "_AGE", 0.0)
    monkeypatch.setattr(disk_use, "_SHARE", 0)
    kept: Any = upload(small, 400_000).json
    upload(small, 400_000)
    assert upload(small, 400_000).status_code == 507
    assert small.test_client().delete(f"/v1/files/{kept['id']}").status_code == 200
    deadline = time.monotonic() + 20
    while upload(small, 400_000).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_without_a_quota_nothing_is_looked_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiskUse, "bytes", lambda _: 1 / 0)
    assert create_app(world.settings).test_client().post("/v1/threads", json={}).status_code == 200


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "big").write_bytes(b"x" * MIB)
    inside = tmp_path / "inside"
    (inside / "deep" / "er").mkdir(parents=True)
    (inside / "deep" / "er" / "small").write_bytes(b"x" * 10_000)
    (inside / "link").symlink_to(tmp_path / "outside")
    (inside / "file").symlink_to(tmp_path / "outside" / "big")
    assert 10_000 <= bytes_below(inside) < MIB // 2
    assert bytes_below(tmp_path / "nothing") == 0


def test_what_is_added_while_it_looks_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use = DiskUse([tmp_path])
    before = use.bytes()
    use.add(5000)
    assert use.bytes() == before + 5000
    monkeypatch.setattr(use, "_fresh_until", 0.0)

    def grows(_: Path) -> int:
        use.add(7)
        return before

    monkeypatch.setattr(disk_use, "bytes_below", grows)
    use.bytes()
    deadline = time.monotonic() + 20
    while use.bytes() != before + 7:
        assert time.monotonic() < deadline
        time.sleep(0.01)
