"""A conversation's KV state outlives the server: used where it is right, computed again where it is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.server import LIMIT, MODEL, Server, serving, wait_for

STORY = "The lighthouse keeper counted the ships, one after the other, and wrote their names into his book. " * 25
FINAL = {"completed", "incomplete", "failed", "cancelled", "expired"}
# What was read from the disk goes on to the bits of what was computed; elsewhere a near tie may end otherwise.
ONE = {"JANFLASK_N_PARALLEL": "1", "JANFLASK_REPRODUCIBLE": "1"}


def turn(server: Server, thread_id: str, text: str) -> tuple[str, int]:
    """The answer, and how many tokens of its prompt were not computed."""
    body = {
        "model": MODEL,
        "instructions": "",
        "temperature": 0,
        "ignore_eos": True,
        "max_completion_tokens": 12,
        "additional_messages": [{"role": "user", "content": text}],
    }
    answer = server.post(f"/v1/threads/{thread_id}/runs", json=body)
    assert answer.status_code == 200, answer.text
    path = f"/v1/threads/{thread_id}/runs/{answer.json()['id']}"
    wait_for(lambda: server.get(path).json()["status"] in FINAL, "the answer")
    run = server.get(path).json()
    assert run["status"] == "incomplete", run
    messages = server.get(f"/v1/threads/{thread_id}/messages").json()["data"]
    return messages[0]["content"][0]["text"]["value"], run["usage"]["prompt_token_details"]["cached_tokens"]


def states(data: Path) -> list[Path]:
    return list((data / "cache" / "kv" / MODEL).glob("*.kv"))


@pytest.fixture
def told(own_dir: Path) -> tuple[Path, str]:
    """A data folder whose server has ended, and a thread in it with two turns behind it."""
    with serving(own_dir, **ONE) as server:
        thread_id = str(server.post("/v1/threads", json={}).json()["id"])
        turn(server, thread_id, STORY)
        _, cached = turn(server, thread_id, "Who counted the ships?")
        assert cached > 400, "the model is up: only what is new is computed"
        server.end()
    assert len(states(own_dir)) == 1
    assert states(own_dir)[0].stat().st_mode & 0o077 == 0
    return own_dir, thread_id


def asked_again(data: Path, thread_id: str, **settings: str) -> tuple[str, int]:
    """The next turn after a restart, on a copy of the folder."""
    copy = data.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(data, copy, symlinks=True)
    with serving(copy, **ONE | settings) as server:
        return turn(server, thread_id, "And what did he write?")


def test_after_a_restart_only_new_tokens_are_computed_and_the_answer_is_the_same(told: tuple[Path, str]) -> None:
    data, thread_id = told
    answer, cached = asked_again(data, thread_id)
    computed, nothing = asked_again(data, thread_id, JANFLASK_KV_SNAPSHOT_GB="0")
    assert (cached > 400, nothing) == (True, 0)
    assert answer == computed


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def sign_anew(path: Path) -> None:
    """It is whole, and signed by somebody else."""
    (path.parent.parent / "key").write_bytes(bytes(range(32)))


@pytest.mark.parametrize("spoil", [damage, cut, sign_anew])
def test_a_state_that_was_spoilt_is_computed_again(told: tuple[Path, str], spoil: Callable[[Path], None]) -> None:
    data, thread_id = told
    expected, _ = asked_again(data, thread_id, JANFLASK_KV_SNAPSHOT_GB="0")
    spoil(states(data)[0])
    assert asked_again(data, thread_id) == (expected, 0)


def test_a_state_of_other_settings_is_not_used(told: tuple[Path, str]) -> None:
    data, thread_id = told
    assert asked_again(data, thread_id, JANFLASK_FLASH_ATTN="1", JANFLASK_REPRODUCIBLE="0")[1] == 0


def test_a_state_is_used_with_another_context_length(told: tuple[Path, str]) -> None:
    data, thread_id = told
    expected, _ = asked_again(data, thread_id, JANFLASK_CTX_LEN="1024", JANFLASK_KV_SNAPSHOT_GB="0")
    answer, cached = asked_again(data, thread_id, JANFLASK_CTX_LEN="1024")
    assert (answer, cached > 400) == (expected, True)


def test_a_history_that_was_edited_behind_it_uses_what_is_still_the_same(told: tuple[Path, str]) -> None:
    data, thread_id = told
    with serving(data, **ONE) as server:
        messages = server.get(f"/v1/threads/{thread_id}/messages?order=asc").json()["data"]
        path = f"{server.url}/v1/threads/{thread_id}/messages"
        httpx.post(f"{path}/{messages[2]['id']}", json={"content": "Who kept the light?"}, timeout=LIMIT)
        httpx.delete(f"{path}/{messages[3]['id']}", timeout=LIMIT)
    expected, _ = asked_again(data, thread_id, JANFLASK_KV_SNAPSHOT_GB="0")
    answer, cached = asked_again(data, thread_id)
    assert answer == expected
    assert cached > 400, "the first turn is as it was"
    with serving(data, **ONE) as server:
        httpx.post(
            f"{server.url}/v1/threads/{thread_id}/messages/{messages[0]['id']}", json={"content": "Hi"}, timeout=LIMIT
        )
    assert asked_again(data, thread_id)[1] < 20


def test_a_deleted_threads_state_is_deleted_too(told: tuple[Path, str]) -> None:
    data, thread_id = told
    with serving(data, **ONE) as server:
        answer: Any = httpx.delete(f"{server.url}/v1/threads/{thread_id}", timeout=LIMIT)
        assert answer.status_code == 200
        assert states(data) == []
