"""Events on their way from a change to receivers on loopback that are down, slow, or say no."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from janflask.deliveries import post
from janflask.downloads.wire import Patience
from janflask.storage.records import Thread
from tests.fakes.webhook_receiver import Hook, receiving
from tests.integration.store_records import new_message, new_thread
from tests.integration.waiting import free_port
from tests.integration.webhook_world import WebhookWorld


@pytest.fixture
def world(tmp_path: Path) -> WebhookWorld:
    return WebhookWorld(tmp_path)


def test_a_change_is_told_signed_and_in_order(world: WebhookWorld) -> None:
    with receiving() as receiver:
        endpoint = world.endpoint(receiver.url)
        threads = world.repository().threads
        thread = threads.create(new_thread("Talk"))
        message = new_message(thread.id, "Hello")
        with world.delivering():
            threads.append(thread.id, [message])
            threads.update_message(thread.id, message.id, lambda it: it)
            threads.update(thread.id, lambda it: it)
            threads.delete_message(thread.id, message.id)
            threads.delete(thread.id)
            hooks = receiver.wait(6)
    assert [(hook.type, hook.event["data"]) for hook in hooks] == [
        ("thread.created", {"id": thread.id}),
        ("thread.message.created", {"id": message.id, "thread_id": thread.id}),
        ("thread.message.updated", {"id": message.id, "thread_id": thread.id}),
        ("thread.updated", {"id": thread.id}),
        ("thread.message.deleted", {"id": message.id, "thread_id": thread.id}),
        ("thread.deleted", {"id": thread.id}),
    ]
    for hook in hooks:
        assert hook.path == "/hook?from=janflask"
        assert hook.headers["content-type"] == "application/json"
        assert Webhook(endpoint.secrets[0].text).verify(hook.body, hook.headers)["object"] == "event"
        assert hook.headers["webhook-id"] == hook.id


def test_nobody_is_told_and_nothing_is_written(world: WebhookWorld) -> None:
    with world.delivering():
        world.repository().threads.create(new_thread())
        time.sleep(0.1)
    assert not world.settings.webhooks_dir.exists()


def test_only_what_was_asked_for(world: WebhookWorld) -> None:
    with receiving() as receiver, receiving() as other:
        world.endpoint(receiver.url, "thread.message.*")
        world.endpoint(other.url, "thread.deleted", "response.*")
        threads = world.repository().threads
        with world.delivering():
            thread = threads.create(new_thread())
            threads.append(thread.id, [new_message(thread.id, "Hello")])
            threads.delete(thread.id)
            receiver.wait(1)
            other.wait(1)
            receiver.stays_at(1, 0.3)
    assert (receiver.types, other.types) == (["thread.message.created"], ["thread.deleted"])


def test_one_that_is_down_gets_it_later(world: WebhookWorld) -> None:
    port = free_port()
    endpoint = world.endpoint(f"http://127.0.0.1:{port}/")
    thread = world.repository().threads.create(new_thread())
    with world.delivering(schedule=(0.01,) * 1000):
        world.wait_until(lambda: world.counts(endpoint).outcomes.get("failed", 0) > 2)
    with receiving(port=port) as receiver, world.delivering(schedule=(0.01,) * 1000):
        assert receiver.wait(1)[0].object == thread.id
        world.wait_until(lambda: world.counts(endpoint).waiting == 0)


def test_one_that_was_away_gets_at_once_what_it_missed(world: WebhookWorld) -> None:
    port = free_port()
    endpoint = world.endpoint(f"http://127.0.0.1:{port}/")
    threads = world.repository().threads
    for _ in range(3):
        threads.create(new_thread())
    with world.delivering(schedule=(3600.0,) * 5):
        world.wait_until(lambda: world.counts(endpoint).outcomes.get("failed", 0) == 3)
        with receiving(port=port) as receiver:
            receiver.stays_at(0, 0.5)
            threads.create(new_thread())
            receiver.wait(4)
            world.wait_until(lambda: world.counts(endpoint).waiting == 0)


def test_one_event_too_much_is_not_hastened(world: WebhookWorld) -> None:
    """The receiver takes others: what it cannot take has its pauses."""
    bad = new_thread("bad")
    with receiving(lambda hook: 503 if hook.object == bad.id else 200) as receiver:
        endpoint = world.endpoint(receiver.url)
        threads = world.repository().threads
        threads.create(bad)
        with world.delivering(schedule=(3600.0,) * 5):
            for _ in range(5):
                threads.create(new_thread())
            receiver.wait(6)
            receiver.stays_at(6, 0.5)
    assert world.counts(endpoint).waiting == 1


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 302])
def test_a_refusal_is_tried_again_with_the_same_event(world: WebhookWorld, status: int) -> None:
    seen: list[str] = []

    def answer(hook: Hook) -> int | tuple[int, dict[str, str]]:
        seen.append(hook.id)
        return 200 if len(seen) > 2 else (status, {"Location": receiver.url})

    with receiving(answer) as receiver:
        endpoint = world.endpoint(receiver.url)
        world.repository().threads.create(new_thread())
        with world.delivering():
            hooks = receiver.wait(3)
            world.wait_until(lambda: world.counts(endpoint).waiting == 0)
            receiver.stays_at(3, 0.2)
    assert len({(hook.id, hook.body) for hook in hooks}) == 1
    assert world.counts(endpoint).outcomes == {"failed": 2, "delivered": 1}


def test_what_fails_for_good_is_a_dead_letter_and_holds_up_nothing(world: WebhookWorld) -> None:
    refused = new_thread("Refused")

    def answer(hook: Hook) -> int:
        return 500 if hook.type == "thread.created" and hook.object == refused.id else 200

    with receiving(answer) as receiver:
        endpoint = world.endpoint(receiver.url)
        threads = world.repository().threads
        threads.create(refused)
        threads.delete(refused.id)
        threads.create(new_thread())
        with world.delivering():
            receiver.wait(6 + 2)
            world.wait_until(lambda: world.counts(endpoint).waiting == 0)
            dead = world.queue.dead(10)
            assert [(letter.type, letter.tries, letter.problem) for letter in dead] == [
                ("thread.created", 6, "it answered 500")
            ]
            assert receiver.types[-1] == "thread.deleted"
            receiver.answer = lambda hook: 200
            assert world.queue.redeliver([endpoint.id], [dead[0].id]) == 1
            assert receiver.wait(9)[-1].id == dead[0].id
            world.wait_until(lambda: not world.queue.dead(10))


def test_one_that_is_gone_is_told_no_more(world: WebhookWorld) -> None:
    with receiving(lambda hook: 410) as receiver:
        endpoint = world.endpoint(receiver.url)
        threads = world.repository().threads
        thread = threads.create(new_thread())
        threads.update(thread.id, lambda it: it)
        with world.delivering():
            receiver.wait(1)
            world.wait_until(lambda: world.counts(endpoint).dead == 2)
            threads.update(thread.id, lambda it: it)
            receiver.stays_at(1, 0.6)
    assert world.file.current().known[endpoint.id].disabled == "it answered 410"
    assert world.counts(endpoint).outcomes == {"failed": 1, "dead": 2}
    assert world.counts(endpoint).waiting == 0


def test_one_that_never_answers_holds_up_no_other(world: WebhookWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()
    impatient = Patience(silence=0.3, head=0.3)

    def send(*args: object, **given: object) -> post.Outcome:
        return post.post(*args, **given, patience=impatient)  # type: ignore[arg-type]

    def answer(hook: Hook) -> int:
        hangs.wait(20)
        return 200

    with receiving(answer) as slow, receiving() as quick:
        endpoint = world.endpoint(slow.url)
        world.endpoint(quick.url)
        threads = world.repository().threads
        with world.delivering(send=send):
            for _ in range(20):
                threads.create(new_thread())
            quick.wait(20)
            world.wait_until(lambda: world.counts(endpoint).outcomes.get("failed", 0) > 0)
        hangs.set()
    assert world.counts(endpoint).waiting == 20


def test_closing_does_not_wait_for_an_answer(world: WebhookWorld) -> None:
    began, hangs = threading.Event(), threading.Event()

    def answer(hook: Hook) -> int:
        began.set()
        hangs.wait(20)
        return 200

    with receiving(answer) as receiver:
        endpoint = world.endpoint(receiver.url)
        world.repository().threads.create(new_thread())
        with world.delivering():
            assert began.wait(10)
        assert not hangs.is_set()
        assert world.counts(endpoint).waiting == 1  # and no try was counted
        assert world.counts(endpoint).outcomes == {}
        hangs.set()


def test_a_flood_arrives_whole_and_each_thread_in_order(world: WebhookWorld) -> None:
    with receiving() as receiver:
        endpoint = world.endpoint(receiver.url)
        threads = world.repository().threads
        talks = [threads.create(new_thread(str(number))) for number in range(10)]

        def fill(thread: Thread) -> None:
            for number in range(20):
                threads.append(thread.id, [new_message(thread.id, str(number), f"{thread.id}-{number:03}")])

        with world.delivering():
            writers = [threading.Thread(target=fill, args=[talk]) for talk in talks]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
            receiver.wait(210, 60)
            world.wait_until(lambda: world.counts(endpoint).waiting == 0)
    told = defaultdict(list)
    for hook in receiver.hooks:
        told[hook.event["data"].get("thread_id", hook.object)].append(hook.object)
    assert told == {talk.id: [talk.id, *(f"{talk.id}-{number:03}" for number in range(20))] for talk in talks}


def test_two_deliverers_are_one(world: WebhookWorld) -> None:
    with receiving() as receiver:
        world.endpoint(receiver.url)
        threads = world.repository().threads
        with world.delivering():
            threads.create(new_thread())
            receiver.wait(1)
            with world.delivering():
                for _ in range(20):
                    threads.create(new_thread())
                receiver.wait(21)
                receiver.stays_at(21, 0.3)


def test_an_address_of_this_machine_is_not_asked(world: WebhookWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the name meant another one when the endpoint was added."""
    with receiving() as receiver:
        monkeypatch.setattr(post, "check_target", lambda url, private: post.check_url(url))  # http, for the test
        endpoint = world.endpoint(f"http://localhost:{receiver.port}/", private=False)
        world.repository().threads.create(new_thread())
        with world.delivering():
            world.wait_until(lambda: world.counts(endpoint).dead == 1)
        assert receiver.hooks == []
    assert "not a public address" in world.queue.dead(1)[0].problem


def test_an_endpoint_file_that_cannot_be_read_loses_nothing(world: WebhookWorld) -> None:
    with receiving() as receiver:
        world.endpoint(receiver.url)
        threads = world.repository().threads
        good = world.file.path.read_bytes()
        with world.delivering():
            world.file.path.write_bytes(b"{")
            thread = threads.create(new_thread())
            receiver.stays_at(0, 0.5)
            world.file.path.write_bytes(good)
            assert receiver.wait(1)[0].object == thread.id
