"""``janflask models bench``: how fast a model reads prompts and generates on this machine, as llama-bench tells it."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

from janflask.cli import tables
from janflask.cli.client import Client
from janflask.cli.options import client_for, json_option, url_option
from janflask.cli.store import print_json, table
from janflask.cli.terminal import column, console, echo, status_text

Json = Mapping[str, Any]

SEED = 0  # of the random prompts: every run measures the same ones


@dataclass(frozen=True, slots=True)
class Trial:
    """``pp512``: 512 tokens of prompt are computed. ``tg128``: 128 tokens are generated."""

    kind: str
    tokens: int
    rates: list[float] = field(default_factory=list)  # tokens a second, one a repetition

    @property
    def name(self) -> str:
        return f"{self.kind}{self.tokens}"

    @property
    def mean(self) -> float:
        return statistics.fmean(self.rates)

    @property
    def deviation(self) -> float:
        """Of the sample; 0 for a single repetition."""
        return statistics.stdev(self.rates) if len(self.rates) > 1 else 0.0


@click.command(short_help="Measure a model's speed.")
@click.argument("model_id", metavar="MODEL")
@click.option("-p", "--prompt", type=click.IntRange(0), default=512, show_default=True, help="Tokens of the prompt.")
@click.option("-n", "--generate", type=click.IntRange(0), default=128, show_default=True, help="Tokens to generate.")
@click.option("-r", "--repetitions", type=click.IntRange(1), default=5, show_default=True, help="How often each.")
@url_option
@json_option
def bench(model_id: str, prompt: int, generate: int, repetitions: int, url: str | None, as_json: bool) -> None:
    """Measure how fast MODEL computes prompts (pp) and generates (tg), in tokens a second.

    The running engine is measured, with the settings it has: prompts of random tokens, one request at a time, no cached
    prefix, greedy, a first round that does not count. A model that does not run is started, and stopped at the end.
    """
    trials = [Trial(kind, tokens) for kind, tokens in (("pp", prompt), ("tg", generate)) if tokens]
    if not trials or generate == 1:
        raise click.UsageError("there is nothing to measure: --prompt needs 1 token or more, --generate 2 or more")
    client = client_for(url)
    with _running(client, model_id) as model:
        _check(model, model_id, trials)
        vocabulary = tables.part(model, "metadata").get("vocabulary_size")
        with _progress(model_id, (1 + repetitions) * len(trials)) as step:
            measure(client, model_id, trials, repetitions, int(vocabulary or 256), step)
    if as_json:
        print_json([_plain(model_id, model, trial) for trial in trials])
    else:
        _print(model_id, model, trials)


def measure(
    client: Client, model_id: str, trials: list[Trial], repetitions: int, vocabulary: int, step: Callable[[str], None]
) -> None:
    """Fills the trials' rates; ``step`` is told of each that begins. Prompts are token ids below ``vocabulary``."""
    source = random.Random(SEED)  # noqa: S311 - no secret
    for trial in trials:
        for repetition in range(1 + repetitions):
            step(trial.name)
            rate = _rate(client, model_id, trial, source, vocabulary)
            if repetition:  # the first one warms up
                trial.rates.append(rate)


def _rate(client: Client, model_id: str, trial: Trial, source: random.Random, vocabulary: int) -> float:
    prompting = trial.kind == "pp"
    request = {
        "model": model_id,
        "prompt": [source.randrange(vocabulary) for _ in range(trial.tokens if prompting else 1)],
        "max_tokens": 1 if prompting else trial.tokens,
        "temperature": 0,
        "ignore_eos": True,
        "cache_prompt": False,
        "stop": [],
    }
    timings = tables.part(client.complete(request), "timings")
    # The first token belongs to the prompt's time: what is measured are the intervals between tokens.
    wanted, counted = ("prompt", trial.tokens) if prompting else ("predicted", trial.tokens - 1)
    milliseconds = timings.get(f"{wanted}_ms")
    if timings.get(f"{wanted}_n") != trial.tokens or not isinstance(milliseconds, int | float) or milliseconds <= 0:
        raise click.ClickException(
            f"{trial.name} was not measured: the server worked on {timings.get(f'{wanted}_n')} tokens in "
            f"{milliseconds} ms"
        )
    return 1000.0 * counted / milliseconds


@contextmanager
def _running(client: Client, model_id: str) -> Iterator[Json]:
    """The model while it runs; afterwards it is as it was before."""
    before = client.model(model_id)
    if before.get("upstream"):
        raise click.ClickException(
            f"{model_id} is run by another server ({', '.join(tables.base_urls(before))}): measure it there; "
            "only engines of this machine are measured here"
        )
    stopped = tables.status_of(before) != "running"
    if stopped:
        with console(stderr=True).status(status_text(f"starting {model_id}…")):
            client.start(model_id, {})
    elif busy := tables.part(before, "stats").get("busy"):
        echo(f"{model_id} works on {busy} other requests: what is measured is slower for it.", err=True)
    try:
        yield client.model(model_id)
    finally:
        if stopped:
            client.stop(model_id)


def _check(model: Json, model_id: str, trials: list[Trial]) -> None:
    context = tables.part(model, "runtime").get("ctx_len")
    longest = max(trial.tokens for trial in trials) + 1
    if isinstance(context, int) and longest > context:
        raise click.UsageError(
            f"{model_id} runs with a context of {context} tokens and {longest} are needed: ask for fewer, or start it "
            f"with --set ctx_len={longest}"
        )


@contextmanager
def _progress(model_id: str, total: int) -> Iterator[Callable[[str], None]]:
    out = console(stderr=True)
    columns = column(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task(model_id, total=total, completed=-1)

        def step(name: str) -> None:
            progress.update(task, description=f"{model_id} {name}", advance=1)

        yield step


def _print(model_id: str, model: Json, trials: list[Trial]) -> None:
    meta, runtime = tables.part(model, "metadata"), tables.part(model, "runtime")
    knobs = tables.part(runtime, "knobs")
    rows = table("MODEL", "SIZE", "PARAMETERS", "THREADS", "FLASH", "TEST", "TOKENS/S")
    for trial in trials:
        row = [tables.size(meta.get("size")), tables.quantity(meta.get("parameter_count"))]
        row += [tables.text(knobs.get("cpu_threads")), "on" if knobs.get("flash_attn") else "off", trial.name]
        rows.add_row(model_id, *row, f"{trial.mean:.2f} ± {trial.deviation:.2f}")
    console().print(rows)


def _plain(model_id: str, model: Json, trial: Trial) -> dict[str, Any]:
    meta, runtime = tables.part(model, "metadata"), tables.part(model, "runtime")
    return {
        "model": model_id,
        "model_type": meta.get("description"),
        "model_size": meta.get("size"),
        "model_n_params": meta.get("parameter_count"),
        "n_prompt": trial.tokens if trial.kind == "pp" else 0,
        "n_gen": trial.tokens if trial.kind == "tg" else 0,
        "test": trial.name,
        "avg_ts": round(trial.mean, 3),
        "stddev_ts": round(trial.deviation, 3),
        "samples_ts": [round(rate, 3) for rate in trial.rates],
        "runtime": dict(runtime),
    }
