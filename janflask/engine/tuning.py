"""The knobs that decide speed: guessed first, and chosen by what was measured once it says clearly more.

No constant is right: flash attention on a CPU helps one machine and costs another a factor of five. A figure is taken
in short contexts and in deep ones, alone and with a full house; what lies between and beyond is on the line through
both (attention grows with the context, everything else does not). What an engine serves says which of them counts.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from janflask.engine.context import ContextOptions, LlamaContext
from janflask.engine.cores import usable_cores
from janflask.engine.figures import Figure, Figures
from janflask.engine.guesses import SLICE_FLASH, flash_choices
from janflask.engine.served import Served
from janflask.errors import EngineError
from janflask.models.engine_info import Knobs
from janflask.models.engine_settings import EngineSettings

PROBE = 64  # tokens of the slice that a prompt token's cost is taken from
SLICES = (32, 64, 128, 256)
# Exchanges that choices are compared by while nothing was served: tokens of context, of prompt, generated.
SCENES = ((192, 256, 128), (3000, 256, 128))
MUCH = 20_000  # tokens served that say as much as the scenes
CLEARLY = 1.1  # how many times better a choice must be than the one that is used
SLICE_STEPS = 2.0  # a slice may lengthen a full house's step by this many ordinary steps
SLICE_WASTE = 1.15  # and may cost this much more a token than the cheapest size
LEAST_DEEP = 1024  # tokens of a context in which anything is deep
SHALLOW, DEEP = "shallow", "deep"
PROMPT, ONE, ALL = f"slice of {PROBE}", "decode 1", "decode all"
KINDS = (PROMPT, ONE, ALL)
SLICE_COST, THREADS = "slices", "threads"


@dataclass(frozen=True, slots=True)
class Choices:
    """What the settings leave open. The first of flash is the one that is used, the first of threads the guess."""

    flash: tuple[str, ...]
    threads: tuple[str, ...]
    slices: tuple[str, ...]
    deep: bool  # there is room for a deep context

    @property
    def are_open(self) -> bool:
        return any(len(names) > 1 for names in (self.flash, self.threads, self.slices))

    def using(self, flash: str | None) -> Choices:
        """The same while that one is used; None: the guess."""
        return replace(self, flash=tuple(sorted(self.flash, key=lambda name: name != flash)))


def choices(settings: EngineSettings, options: ContextOptions, guess: Knobs) -> Choices:
    """Of the knobs that are not pinned."""
    flash = sorted(flash_choices(settings, options), key=lambda on: on != guess.flash_attn)
    sizes = [settings.slice_size] if settings.slice_size else [size for size in SLICES if size <= options.batch_size]
    return Choices(
        tuple(map(flash_name, flash)),
        tuple(map(str, thread_choices(settings))),
        tuple(map(str, sizes)),
        deep=options.ctx_len >= LEAST_DEEP,
    )


def flash_name(on: bool) -> str:
    """How figures call flash attention, on or off."""
    return f"flash_attn={int(on)}"


def under(name: str, flash: str) -> str:
    """The figure of slices or of threads: with flash attention they cost something else than without."""
    return f"{name}, {flash}"


def thread_choices(settings: EngineSettings) -> list[int]:
    """All physical cores; where there are many, also fewer of them (memory bandwidth may be used up before)."""
    if settings.cpu_threads is not None:
        return [settings.cpu_threads]
    cores = usable_cores()
    return [cores] if cores < 4 else sorted({cores, cores * 3 // 4, cores // 2}, reverse=True)


def prove(context: LlamaContext) -> None:
    """One decode on the context that will serve: a library that crashes on this machine crashes here, not in a request.

    Raises EngineError when llama.cpp refuses it.
    """
    context.batch.clear()
    context.batch.add(array("i", [0]), 0, 1, 0, True)
    code = context.decode()
    if code != 0:
        raise EngineError(f"the start-up proof failed: llama_decode gave {code}")
    context.trim(0, 0)


# --- choosing -----------------------------------------------------------------------------------------------------


def choose(guess: Knobs, open_: Choices, figures: Figures, served: Served, source: str, held: int = 0) -> Knobs:
    """The knobs to run with: the guess, but for what the figures say is clearly better.

    ``source``: of the figures, "measured" or "remembered". ``held``: see ``best_flash``.
    """
    flash = best_flash(open_, figures, served, held)
    threads = _best(figures.get(under(THREADS, flash)), open_.threads)
    least = min(SLICE_FLASH, guess.slice_size) if flash == flash_name(True) else 0
    size, figure = guess.slice_size, figures.get(under(SLICE_COST, flash))
    costs = {} if figure is None or not figure.counts else _slice_costs(figure, open_, least)
    if costs:
        size = best_slice(costs, _step_ms(figures, flash) or min(costs.values()))
    used = any(figure.counts for figure in figures.values())
    return replace(
        guess,
        flash_attn=flash == flash_name(True),
        slice_size=size,
        cpu_threads=int(threads),
        source=source if used and guess.source == "guessed" else guess.source,
        sure=sureness(open_, figures, flash),
        measurements=told(figures),
    )


def wanted(open_: Choices, flash: str) -> dict[str, tuple[str, ...]]:
    """The figures that would settle everything, by name, each with what it compares.

    ``flash``: the choice that is the best one as far as is known.
    """
    names: dict[str, tuple[str, ...]] = {}
    if len(open_.flash) > 1:
        names |= dict.fromkeys(_exchange(open_), open_.flash)
    elif open_.are_open:
        names[f"{ALL}, {SHALLOW}"] = open_.flash
    if len(open_.threads) > 1:
        names[under(THREADS, flash)] = open_.threads
    if len(open_.slices) > 1:
        names[under(SLICE_COST, flash)] = open_.slices
    return names


def _exchange(open_: Choices) -> list[str]:
    """What the cost of an exchange is made of."""
    return [f"{kind}, {place}" for place in (SHALLOW, DEEP)[: 1 + open_.deep] for kind in KINDS]


def sureness(open_: Choices, figures: Figures, flash: str) -> float:
    """Which part of what is wanted is known for sure: 0 where all is guessed."""
    names = wanted(open_, flash)
    known = sum(figures.is_sure(name, set(compared)) for name, compared in names.items())
    return round(known / len(names), 2) if names else 1.0


def told(figures: Figures) -> dict[str, float]:
    """The figures as they are shown: what was timed -> milliseconds."""
    return {shown(choice, name): ms for name, figure in figures.items() for choice, ms in figure.ms.items()}


def shown(choice: str, name: str) -> str:
    """How a choice's part of a figure is called where it is shown."""
    return f"{choice}: {name}"


def best_flash(open_: Choices, figures: Figures, served: Served, held: int = 0) -> str:
    """The one that is used stays until everything is there that the cost is made of, and another is clearly better.

    ``held``: tokens whose states another choice makes useless. What was served must have cost more with the choice that
    is used than computing them again would with the other.
    """
    names, used = open_.flash, _exchange(open_)
    usual = names[0]
    if len(names) == 1 or not all(figures.has(name, set(names)) for name in used):
        return usual
    doubt = max(figures[name].doubt for name in used)
    weight = served.tokens / (served.tokens + MUCH)
    spent = {name: spent_on(served, name, figures) for name in names}
    costs = {
        name: cost(name, figures, served.n_seq) ** (1 - weight) * (spent[name] ** weight if weight else 1.0)
        for name in names
    }
    best = min(names, key=lambda name: costs[name])
    pays = not held or spent[usual] - spent[best] > held * figures[f"{PROMPT}, {SHALLOW}"].ms[best] / PROBE
    return best if pays and costs[usual] >= CLEARLY * doubt * costs[best] else usual


def spent_on(served: Served, choice: str, figures: Figures) -> float:
    """Milliseconds that what was served takes with this choice."""
    total = 0.0
    for depth, *amounts in served.rows():
        token, one, everybody = (_at(depth, kind, choice, figures) for kind in KINDS)
        total += amounts[0] * token / PROBE + amounts[1] * one + amounts[2] * everybody
    return total


def cost(choice: str, figures: Figures, n_seq: int) -> float:
    """Milliseconds of typical exchanges, alone and as a share of a full house, weighed alike (geometric mean)."""
    costs = []
    for depth, prompt, generated in SCENES:
        token, one, everybody = (_at(depth, kind, choice, figures) for kind in KINDS)
        costs.append(prompt * token / PROBE + generated * one)
        costs.append(prompt * token / PROBE + generated * everybody / n_seq)
    return float(prod(costs) ** (1 / len(costs)))


def _at(depth: float, kind: str, choice: str, figures: Figures) -> float:
    """On the line through what was measured in a short and in a deep context; in a shallow one alone, as there."""
    shallow, deep = figures[f"{kind}, {SHALLOW}"], figures.get(f"{kind}, {DEEP}")
    low = shallow.ms[choice]
    if deep is None or choice not in deep.ms or deep.depth <= shallow.depth:
        return low
    slope = max(0.0, (deep.ms[choice] - low) / (deep.depth - shallow.depth))
    return low + slope * (depth - shallow.depth)


def _best(figure: Figure | None, names: tuple[str, ...]) -> str:
    """The quickest if it is clearly quicker than the guess."""
    usual = names[0]
    if figure is None or not figure.counts or not set(names) <= figure.ms.keys():
        return usual
    best = min(names, key=lambda name: figure.ms[name])
    return best if figure.ms[usual] >= CLEARLY * figure.doubt * figure.ms[best] else usual


def _slice_costs(figure: Figure, open_: Choices, least: int) -> dict[int, float]:
    """Of the sizes from ``least`` on: with less rows than a tile flash attention is slow deep in a context."""
    if len(open_.slices) == 1 or not set(open_.slices) <= figure.ms.keys():
        return {}
    return {size: figure.ms[name] for name in open_.slices if (size := int(name)) >= least}


def _step_ms(figures: Figures, flash: str) -> float | None:
    """An ordinary step of a full house."""
    figure = figures.get(f"{ALL}, {SHALLOW}")
    return None if figure is None else figure.ms.get(flash)


def best_slice(slices: Mapping[int, float], step_ms: float) -> int:
    """The largest slice that keeps a full house's step short, among the sizes that do not waste compute.

    Args:
        slices: size -> milliseconds.
        step_ms: an ordinary step of a full house.
    """
    cheapest = min(ms / size for size, ms in slices.items())
    efficient = [size for size, ms in slices.items() if ms / size <= SLICE_WASTE * cheapest]
    short = [size for size in efficient if slices[size] <= SLICE_STEPS * step_ms]
    return max(short) if short else min(efficient)
