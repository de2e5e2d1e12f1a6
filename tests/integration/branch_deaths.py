"""A branch of a long thread whose maker dies at each of its system calls: a program of its own, since it forks.

``python -m tests.integration.branch_deaths DIR`` prints at how many points it died and how often the branch was there;
it fails with what was found afterwards that was neither no branch nor all of it.
"""

from __future__ import annotations

import io
import json
import signal
import sys
from functools import partial
from pathlib import Path

from janflask.container import Services
from janflask.storage import open_repository
from janflask.storage.base import Page, Repository
from tests.integration.store_crashes import in_a_fresh_process
from tests.integration.store_deaths import NEVER, die, every_death, fresh_trial, in_child, perform
from tests.integration.store_faults import upload_file
from tests.integration.store_records import content, new_message, new_thread, settings

TALK, MESSAGES, LEFT_BEHIND = "talk", 2000, 10
LISTED = Page(limit=None, branches=False)


def fill(data_dir: Path) -> None:
    """A long thread, which has a file of its own and holds one that was uploaded."""
    repository = open_repository(settings(data_dir))
    held = upload_file(repository, "held.txt")
    messages = [new_message(TALK, content(f"m{number}", 500), f"m{number}") for number in range(MESSAGES - 1)]
    last = new_message(TALK, content("last", 500), "last", file_ids=(held,))
    with repository.files.holding([held], TALK):
        repository.threads.create(new_thread("talk", TALK), [last, *messages], [("note.txt", io.BytesIO(b"note"))])


def branch(repository: Repository, folder: Path) -> str:
    """Its id."""
    threads = Services.of(settings(folder), repository).threads
    return threads.branch(TALK, f"m{MESSAGES - 1 - LEFT_BEHIND}").thread.id


def look(folder: Path) -> int:
    """How many branches there are, seen by a process that never saw the store before. ValueError for half of one."""
    repository = open_repository(settings(folder))
    threads = repository.threads
    whole = [(message.id, message.text, message.files) for message in threads.all_messages(TALK)]
    if [thread.id for thread in threads.list(LISTED).items] != [TALK] or len(whole) != MESSAGES:
        raise ValueError("the thread is not as it was")
    made = [thread.id for thread in threads.list(Page(limit=None, family=TALK)).items if thread.id != TALK]
    for name in made:
        told = [(message.id, message.text, message.files) for message in threads.all_messages(name)]
        with threads.open_file(name, "note.txt") as opened:
            if told != whole[:-LEFT_BEHIND] or opened.read() != b"note":
                raise ValueError(f"{name} is no whole branch: it has {len(told)} messages")
    if len(made) != threads.count() - 1:
        raise ValueError("a thread is there that is none of the family")
    return len(made)


def goes_on(folder: Path) -> int:
    """What is there, and that another branch can be made."""
    before = look(folder)
    branch(open_repository(settings(folder)), folder)
    if look(folder) != before + 1:
        raise ValueError("there is no other branch")
    return before


def main(folder: Path) -> dict[str, int]:
    in_a_fresh_process(lambda: fill(folder / "filled"))
    trial = fresh_trial(folder)
    making = partial(branch, folder=trial)
    calls = in_a_fresh_process(lambda: perform(trial, making, NEVER, die))
    deaths = there = 0
    for number, call, action in every_death(calls):
        fresh_trial(folder)
        code = in_child(partial(perform, trial, making, number, action))
        if code != -signal.SIGKILL:
            raise ValueError(f"{action.__name__} at {call} ({number} of {calls}): ended with {code}")
        deaths += 1
        there += in_a_fresh_process(partial(goes_on, trial))
    return {"deaths": deaths, "there": there}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
