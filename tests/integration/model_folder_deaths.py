"""Publishes a model and dies, as by SIGKILL, before the Nth step that changes a folder; run as a program.

Arguments: the models' folder, the staging folder, the source, N, the file names in order. It prints what it was about
to do, or ``published``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from janflask.models.publish import Origin, describe, publish

STEPS = frozenset({"os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.truncate"})


def main(models_dir: str, staging: str, source: str, deaths: str, *names: str) -> None:
    """Forks for each N from 0 on, below ``deaths``; the folders of each are named by it."""
    files = [Origin(name, f"https://h.example/{name}") for name in names]
    # What is loaded lazily is loaded now: the steps counted are publish's own.
    describe([Path(staging.format(0)) / file.filename for file in files if not file.is_projector])
    for step in range(int(deaths)):
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            die_before(step)
            publish(Path(models_dir.format(step)), "tiny", Path(staging.format(step)), source=source, files=files)
            print("published", flush=True)
            os._exit(0)
        os.waitpid(child, 0)


def die_before(step: int) -> None:
    """This process ends when it is about to take a further step after ``step`` of them."""
    taken = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal taken
        if event in STEPS or (event == "open" and int(str(arguments[2])) & os.O_CREAT):
            if taken == step:
                print(event, flush=True)
                os._exit(9)
            taken += 1

    sys.addaudithook(count)


if __name__ == "__main__":
    main(*sys.argv[1:])
