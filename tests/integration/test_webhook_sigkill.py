"""Whoever writes and whoever delivers are killed again and again: what was acknowledged is told, in order."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from tests.fakes.webhook_receiver import Hook, Receiver, receiving
from tests.integration.store_records import new_thread
from tests.integration.webhook_world import WebhookWorld

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 12


def started(what: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.integration.webhook_process", what, str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def killed(process: subprocess.Popen[str]) -> list[list[str]]:
    """What it had said, line by line; a line that it did not finish is none."""
    process.kill()
    said = process.communicate()[0]
    return [line.split() for line in said.splitlines(keepends=True) if line.endswith("\n")]


def first_arrivals(receiver: Receiver) -> dict[str, list[list[str]]]:
    """By thread: type and object of each event, at its first arrival."""
    told, seen = defaultdict(list), set()
    for hook in receiver.hooks:
        if hook.id not in seen:
            seen.add(hook.id)
            data = hook.event["data"]
            told[data.get("thread_id", data["id"])].append([hook.type, data["id"]])
    return told


def test_kills_at_any_moment(tmp_path: Path) -> None:
    chance = random.Random(20_261_130)
    world = WebhookWorld(tmp_path)
    acknowledged: dict[str, list[list[str]]] = defaultdict(list)
    with receiving() as receiver:
        world.endpoint(receiver.url)
        deliverer = started("deliver", tmp_path)
        for number in range(ROUNDS):
            writers = [started("write", tmp_path) for _ in range(2)]
            for writer in writers:
                assert writer.stdout is not None
                first = writer.stdout.readline().split()  # it has begun
                acknowledged[first[0]].append(first[1:])
            time.sleep(chance.uniform(0.05, 0.6))
            if number % 2:
                killed(deliverer)
                deliverer = started("deliver", tmp_path)
            for writer in writers:
                for thread, *event in killed(writer):
                    acknowledged[thread].append(event)
        killed(deliverer)
        with world.delivering():
            world.wait_until(lambda: world.is_empty(), 60)
    told = first_arrivals(receiver)
    assert sum(map(len, acknowledged.values())) > 10 * ROUNDS, "the writers did write"
    for thread, events in acknowledged.items():
        # The last one, which was under way when its writer was killed, was made or not, and told in the first case.
        assert told[thread][: len(events)] == events, thread
        assert len(told[thread]) <= len(events) + 1, thread


def test_what_was_not_answered_comes_again(tmp_path: Path) -> None:
    """The deliverer dies when its receiver has the event, and before it says so."""
    world = WebhookWorld(tmp_path)
    deaths: list[int] = []

    def answer(hook: Hook) -> int:
        if not deaths:
            deaths.append(deliverer.pid)
            os.kill(deliverer.pid, signal.SIGKILL)
            deliverer.wait()
        return 200

    with receiving(answer) as receiver:
        world.endpoint(receiver.url)
        thread = world.repository().threads.create(new_thread())
        deliverer = started("deliver", tmp_path)
        world.wait_until(lambda: bool(deaths))
        killed(deliverer)
        with world.delivering():
            world.wait_until(world.is_empty)
        arrived = [hook for hook in receiver.hooks if hook.object == thread.id]
        assert 1 <= len(arrived) <= 2  # the first try's answer may not have been writable any more
        assert len({hook.id for hook in arrived}) == 1
