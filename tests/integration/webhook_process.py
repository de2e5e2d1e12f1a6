"""A process that delivers, or one that makes changes: to be killed by tests.

``python -m tests.integration.webhook_process deliver|write DIR``. Who writes prints each change once it is
acknowledged: thread, type, object.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from pathlib import Path

from janflask.files import ids
from tests.integration.store_records import new_message, new_thread
from tests.integration.webhook_world import WebhookWorld


def deliver(folder: Path) -> None:
    with WebhookWorld(folder).delivering(schedule=(0.05,) * 100):
        print("delivers", flush=True)
        while True:
            time.sleep(60)


def write(folder: Path) -> None:
    threads = WebhookWorld(folder).repository().threads
    for number in itertools.count():
        # Every other one by a name that may come again.
        thread_id = ids.new_id(ids.THREAD) if number % 2 else f"again-{os.getpid()}"
        threads.create(new_thread(thread_id=thread_id))
        said(thread_id, "thread.created", thread_id)
        messages = [new_message(thread_id, "Hello") for _ in range(3)]
        for message in messages:
            threads.append(thread_id, [message])
            said(thread_id, "thread.message.created", message.id)
        threads.update_message(thread_id, messages[0].id, lambda message: message)
        said(thread_id, "thread.message.updated", messages[0].id)
        threads.delete_message(thread_id, messages[1].id)
        said(thread_id, "thread.message.deleted", messages[1].id)
        threads.delete(thread_id)
        said(thread_id, "thread.deleted", thread_id)


def said(*words: str) -> None:
    os.write(1, f"{' '.join(words)}\n".encode())


if __name__ == "__main__":
    {"deliver": deliver, "write": write}[sys.argv[1]](Path(sys.argv[2]))
