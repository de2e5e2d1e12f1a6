"""Keys against a real server: two workers, the real model, keys that come and go, workers that are killed."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.server import JANFLASK, LIMIT, MODEL, Server, environment, run, serving, wait_for
from tests.integration.addresses import own_address

MESSAGES: Any = [{"role": "user", "content": "Name three animals."}]
# The first key is there before the server: else it would not listen on every interface.
FIRST = f"{JANFLASK[0]} -m janflask.cli keys add first --scope admin > /dev/null"
START = ["sh", "-c", f'{FIRST} && exec "$0" "$@"', *JANFLASK, "serve"]


@pytest.fixture(scope="module")
def server(session_data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("keys") / "data"
    data.mkdir()
    (data / "models").symlink_to(session_data_dir / "models")
    with serving(data, JANFLASK_HOST="0.0.0.0", JANFLASK_ALLOW_KEYLESS="0", JANFLASK_WORKERS="2", command=START) as it:
        yield it


def keys(server: Server, *args: str) -> str:
    done = run([*JANFLASK, "keys", *args], environment(server.data_dir, server.port))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def sdk(server: Server, key: str) -> openai.OpenAI:
    return server.sdk().with_options(api_key=key)


def requests_of(server: Server, key: str) -> int:
    """As they have been told so far."""
    return sum(day["requests"] for day in json.loads(keys(server, "usage", key[3:15], "--json")))


def threads_of(server: Server, key: str) -> int:
    """As many as are listed."""
    found = httpx.get(f"{server.url}/v1/threads", headers={"Authorization": f"Bearer {key}"}, timeout=LIMIT)
    return len(found.json())


def stream(server: Server, key: str, tokens: int = 200) -> Any:
    extra = {"ignore_eos": True}
    return sdk(server, key).chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=tokens, stream=True, extra_body=extra
    )


def test_a_key_comes_and_goes_while_the_server_runs(server: Server) -> None:
    assert server.get("/v1/models").status_code == 401
    key = keys(server, "add", "laptop")
    with sdk(server, key) as client:
        assert client.models.list().data
        answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=8)
        assert answer.usage is not None
        pieces = stream(server, key)
        first = next(iter(pieces))
        keys(server, "revoke", key)
        for _ in range(4):  # whichever worker it is
            with pytest.raises(openai.AuthenticationError):
                client.models.list()
        rest = [piece.choices[0].finish_reason for piece in pieces if piece.choices]
        assert first.id
        assert rest[-1] == "length", "what is under way is not cut"
    wait_for(lambda: requests_of(server, key) == 3, "both workers to tell")
    used = json.loads(keys(server, "usage", key[3:15], "--json"))
    assert sum(day["completion_tokens"] for day in used) >= answer.usage.completion_tokens + 200


def test_the_workers_count_together(server: Server) -> None:
    key = keys(server, "add", "counted", "--requests-per-minute", "20")
    headers = {"Authorization": f"Bearer {key}"}

    def ask(_: int) -> int:
        return httpx.get(f"{server.url}/v1/models", headers=headers, timeout=LIMIT).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(ask, range(60)))
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 20
    wait_for(lambda: requests_of(server, key) == statuses.count(200), "both workers to tell")


def test_a_killed_worker_takes_no_place_along(server: Server) -> None:
    key = keys(server, "add", "streams", "--streams", "1")
    pieces = stream(server, key, 1500)
    next(iter(pieces))
    with pytest.raises(openai.RateLimitError):
        stream(server, key)
    before = {worker.pid for worker in server.workers()}
    for worker in server.workers():
        worker.send_signal(signal.SIGKILL)
    wait_for(lambda: len({worker.pid for worker in server.workers()} - before) == 2, "other workers")
    wait_for(server.answers, "the server to answer")
    with stream(server, key, 4) as again:
        assert list(again)


@pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_what_a_key_makes_is_its_own_until_it_is_given(server: Server) -> None:
    """By the official SDK, over both workers, with the real runner."""
    alice, bob = (sdk(server, keys(server, "add", name)) for name in ("alice", "bob"))
    boss = sdk(server, keys(server, "add", "owner", "--scope", "admin"))
    thread = alice.beta.threads.create(messages=MESSAGES)
    run = alice.beta.threads.runs.create_and_poll(
        thread_id=thread.id, assistant_id="jan", model=MODEL, max_completion_tokens=4
    )
    assert run.status in ("completed", "incomplete")
    answer = alice.responses.create(model=MODEL, input="Name three animals.", max_output_tokens=16)
    finds: list[Callable[[openai.OpenAI], Any]] = [
        lambda client: client.beta.threads.retrieve(thread.id),
        lambda client: client.beta.threads.messages.list(thread.id),
        lambda client: client.beta.threads.runs.retrieve(run.id, thread_id=thread.id),
        lambda client: client.conversations.retrieve(thread.id.replace("thread_", "conv_")),
        lambda client: client.responses.retrieve(answer.id),
        lambda client: client.responses.create(model=MODEL, input="Why?", previous_response_id=answer.id),
    ]
    for _ in range(4):  # whichever worker answers
        for find in finds:
            with pytest.raises(openai.NotFoundError):
                find(bob)
        for find in finds[:-1]:
            find(boss)
        assert [threads_of(server, client.api_key) for client in (alice, bob)] == [2, 0]
    assert "1 object given" in keys(server, "give", "bob", answer.id)
    for _ in range(4):
        assert bob.responses.retrieve(answer.id).id == answer.id
        with pytest.raises(openai.NotFoundError):
            alice.responses.retrieve(answer.id)
        assert [threads_of(server, client.api_key) for client in (alice, bob)] == [1, 1]


def test_without_keys_a_running_server_is_for_its_own_machine(server: Server) -> None:
    keys(server, "off", "--yes")
    try:
        assert server.get("/v1/models").status_code == 200
        address = own_address()
        if address is None:
            raise LookupError("this machine has no address but loopback: the test needs one")
        refused = httpx.get(f"http://{address}:{server.port}/v1/models", timeout=LIMIT)
        assert refused.status_code == 401
        assert "janflask keys add" in refused.text
    finally:
        key = keys(server, "add", "after", "--scope", "admin")
    answer = httpx.get(f"http://{address}:{server.port}/v1/models", headers={"x-api-key": key}, timeout=LIMIT)
    assert answer.status_code == 200


def test_what_one_key_asked_is_computed_anew_for_another(server: Server) -> None:
    one, two = keys(server, "add", "one"), keys(server, "add", "two")
    messages: Any = [{"role": "user", "content": "The secret word is marzipan. " * 30}]

    def cached(key: str, **more: Any) -> tuple[int, int]:
        """Of the prompt's tokens those that were not computed, and all."""
        answer = sdk(server, key).chat.completions.create(model=MODEL, messages=messages, max_tokens=4, **more)
        assert answer.usage is not None
        assert answer.usage.prompt_tokens_details is not None
        return answer.usage.prompt_tokens_details.cached_tokens or 0, answer.usage.prompt_tokens

    assert cached(one)[0] < 50, "the beginning of the template, which other tests have asked for"
    for key in (two, keys(server, "add", "three")):
        assert cached(key) == (0, cached(one)[1]), "not even the template's"
    for key in (one, two):
        found, prompt = cached(key)
        assert found == prompt - 1
        assert cached(key, store=True)[0] == prompt - 1, "the runner asks for the same key"
    keys(server, "revoke", one)
    assert cached(keys(server, "add", "one"))[0] == 0, "a key of the same name is another one"
