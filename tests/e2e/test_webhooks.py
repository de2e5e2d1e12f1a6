"""A whole server tells a receiver what happens: by the SDKs' own checks of signatures, and through kills."""

from __future__ import annotations

import json
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.server import JANFLASK, LIMIT, MODEL, Server, environment, run, serving, wait_for
from tests.fakes.webhook_receiver import Hook, Receiver, receiving


def added(data_dir: Path, receiver: Receiver, *options: str) -> dict[str, Any]:
    """An endpoint, as its owner adds it."""
    command = [*JANFLASK, "webhooks", "add", receiver.url, "--allow-private", "--json", *options]
    done = run(command, environment(data_dir, 0))
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def told(receiver: Receiver, type: str, object_id: str) -> Hook | None:
    return next((hook for hook in receiver.hooks if (hook.type, hook.object) == (type, object_id)), None)


def waited(receiver: Receiver, type: str, object_id: str) -> Hook:
    wait_for(lambda: told(receiver, type, object_id), f"{type} of {object_id}; there came {receiver.types}")
    found = told(receiver, type, object_id)
    assert found is not None
    return found


def runner(server: Server) -> psutil.Process:
    (found,) = server._running("janflask.runner")
    return found


def test_models_runs_and_responses_are_told(own_dir: Path) -> None:
    with receiving() as receiver, serving(own_dir, JANFLASK_WORKERS="2") as server:
        endpoint = added(own_dir, receiver)  # while it runs
        server.start().raise_for_status()
        waited(receiver, "model.running", MODEL)

        client = server.sdk()
        response = client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=8)
        hook = waited(receiver, f"response.{response.status}", response.id)
        event = client.webhooks.unwrap(hook.body.decode(), hook.headers, secret=endpoint["secret"])
        assert event.type == f"response.{response.status}"
        assert event.data.id == response.id
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(hook.body.decode() + " ", hook.headers, secret=endpoint["secret"])

        body: dict[str, Any] = {"messages": [{"role": "user", "content": "Count."}]}
        thread_id = server.post("/v1/threads", json=body).json()["id"]
        fields = {"model": MODEL, "max_completion_tokens": 8, "temperature": 0}
        begun = server.post(f"/v1/threads/{thread_id}/runs", json=fields).json()
        path = f"/v1/threads/{thread_id}/runs/{begun['id']}"
        wait_for(lambda: server.found(path)["status"] in ("completed", "incomplete"), "the run")
        waited(receiver, f"thread.run.{server.found(path)['status']}", begun["id"])
        reply = server.found(f"/v1/threads/{thread_id}/messages?limit=1")["data"][0]["id"]
        waited(receiver, "thread.message.created", reply)
        in_thread = [hook.object for hook in receiver.hooks if thread_id in hook.event["data"].values()]
        assert [in_thread.index(name) for name in (thread_id, reply, begun["id"])] == [0, 1, len(in_thread) - 1]

        server.stop().raise_for_status()
        waited(receiver, "model.stopped", MODEL)
        samples = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(server.get("/metrics").text)
            for sample in family.samples
            if sample.labels.get("endpoint") == endpoint["id"]
        }
        assert samples["janflask:webhook_deliveries_total", endpoint["id"], "delivered"] >= len(set(receiver.types))
        assert samples["janflask:webhook_dead_letters", endpoint["id"]] == 0


def test_what_happens_while_the_runner_and_the_receiver_are_gone_is_told_later(own_dir: Path) -> None:
    with receiving(lambda hook: 503) as receiver, serving(own_dir) as server:
        endpoint = added(own_dir, receiver, "--event", "thread.created")
        threads = [server.post("/v1/threads", json={}).json()["id"] for _ in range(3)]
        receiver.wait(1, LIMIT)
        runner(server).send_signal(signal.SIGKILL)
        threads += [server.post("/v1/threads", json={}).json()["id"] for _ in range(3)]
        receiver.answer = lambda hook: 200
        # What failed once comes again in 5 s, what did not at once.
        for thread_id in threads:
            waited(receiver, "thread.created", thread_id)
        server.end()
    with receiving(port=receiver.port) as again:
        done = run([*JANFLASK, "webhooks", "test", endpoint["id"]], environment(own_dir, 0))
        assert done.returncode == 0, done.stderr
        assert again.types == ["webhook.test"]
        assert run([*JANFLASK, "threads", "delete", threads[0], "--yes"], environment(own_dir, 0)).returncode == 0


def test_what_was_answered_before_everything_was_killed_is_told_by_the_next_server(own_dir: Path) -> None:
    threads: list[str] = []

    def make(server: Server) -> None:
        with suppress(httpx.TransportError), httpx.Client(timeout=LIMIT) as client:
            while True:
                answer = client.post(f"{server.url}/v1/threads", json={})
                threads.append(answer.json()["id"])

    with receiving() as receiver:
        with serving(own_dir, JANFLASK_WORKERS="2") as server:
            added(own_dir, receiver, "--event", "thread.created")
            clients = [threading.Thread(target=make, args=[server]) for _ in range(4)]
            for client in clients:
                client.start()
            wait_for(lambda: len(threads) > 40, "threads")
            server.kill()
            for client in clients:
                client.join()
        with serving(own_dir):
            for thread_id in threads:
                waited(receiver, "thread.created", thread_id)
