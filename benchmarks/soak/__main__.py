"""``python -m benchmarks.soak``: exit code 1 if something failed, grew or was left."""

from __future__ import annotations

import argparse
import signal
import sys
import time
import warnings
from pathlib import Path

from benchmarks.soak import verdict, world
from benchmarks.soak.activities import ACTIVITIES
from benchmarks.soak.clients import Client, visitor
from benchmarks.soak.disturb import Regularly, disturbances
from benchmarks.soak.tally import Tally
from benchmarks.soak.watch import Watch

REPORT = 300.0  # seconds between two lines of progress
SETTLE = 12.0  # seconds of silence before what is left is looked at: a webhook may be tried again meanwhile
JUDGED = 10.0  # minutes after the warm-up: in less than that all caches still grow, and it is only shown
LEAST_GROWTH = 1 << 20  # bytes: less is no growth, whichever part of a small process it is


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long clients come (60)")
    parser.add_argument("--warm-up", type=float, default=10.0, help="minutes after which nothing may grow (10)")
    parser.add_argument("--clients", type=int, default=8, help="how many at once (8)")
    parser.add_argument("--reload", type=float, default=60.0, help="seconds between two reloads; 0: none (60)")
    parser.add_argument("--budget", type=float, default=0.88, help="GiB for the models: two of the four have room")
    parser.add_argument("--seed", default="1", help="of what the clients do")
    parser.add_argument("--results", type=Path, default=Path(__file__).parents[1] / "results" / "soak.json")
    parser.add_argument("--log", type=Path, help="where the server's log is kept")
    return parser.parse_args()


def main() -> int:
    options = _options()
    warnings.simplefilter("ignore", DeprecationWarning)  # the SDK's, of assistants and threads
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    tally = Tally()
    is_judged = options.minutes - options.warm_up >= JUDGED
    with world.serving(options.clients, options.budget) as served:
        watch = Watch(served.pid, served.data, served.runtime)
        watch.start()
        world.fill(served, whole=is_judged)
        print(f"{options.clients} clients for {options.minutes:g} minutes; master {served.pid}", flush=True)
        tally.began = time.monotonic()
        _use(served, options, tally, watch)
        time.sleep(SETTLE)
        watch.stop()
        problems = verdict.problems_of_files(served.data) + world.end(served)
        problems += served.receiver.problems + served.receiver.missing()
        told = served.receiver.told
        if options.log is not None:
            options.log.write_bytes(served.server.log.read_bytes())
        said = verdict.log_lines(served.server.log)
    growths = [*watch.growths(options.warm_up * 60), *watch.total_growths(options.warm_up * 60)]
    if is_judged:
        problems += verdict.problems_of_growth(growths, LEAST_GROWTH)
    problems += [f"{tally.server_errors} answers with 5xx"] if tally.server_errors else []
    problems += [f"{count} x {what} failed" for what, count in tally.failed.items()]
    problems += [f"{count} x in the log: {line}" for line, count in said.items() if "Traceback" in line]
    verdict.show_growths(growths)
    verdict.show_tally(tally)
    print("webhooks: " + ", ".join(f"{count} x {kind}" for kind, count in told.most_common()))
    print("\nthe log, above info:")
    for line, count in said.most_common():
        print(f"  {count:>5} x {line}")
    verdict.save(options.results, tally, growths, problems, watch.totals)
    print("\n" + ("\n".join(problems) if problems else "no problem"), flush=True)
    return 1 if problems else 0


def _use(served: world.World, options: argparse.Namespace, tally: Tally, watch: Watch) -> None:
    """Until the time is up, and everybody has finished."""
    port, keys = served.server.port, served.keys
    clients = [
        Client(
            f"client {number}",
            visitor(
                f"{options.seed} {number}",
                port,
                (keys[number % len(keys)], keys[(number + 1) % len(keys)]),
                served.models,
                tally,
            ),
            ACTIVITIES,
            tally,
        )
        for number in range(options.clients)
    ]
    others = disturbances(served.pid, port, served.data / "secrets", served.admin, world.SPARE, options.reload, tally)
    threads: list[Client | Regularly] = [*clients, *others]
    for thread in threads:
        thread.start()
    end = time.monotonic() + options.minutes * 60
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, REPORT))
        print(f"{tally.so_far()}; {watch.so_far()}", flush=True)
    for thread in threads:
        thread.stop()
    for thread in threads:
        thread.join(300)
        if thread.is_alive():
            tally.fail(thread.name, "it hangs")


if __name__ == "__main__":
    sys.exit(main())
