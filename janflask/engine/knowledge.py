"""What is known of a model's speed on this machine: its figures, where they are kept, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from janflask.engine import knob_cache
from janflask.engine.context import ContextOptions
from janflask.engine.figures import Figures
from janflask.engine.knob_cache import Memory
from janflask.engine.model import Model
from janflask.engine.served import Served
from janflask.engine.tuning import Choices, best_flash, choices, choose, flash_name
from janflask.ipc.messages.launch import EngineSpec
from janflask.models.engine_info import Knobs


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Of one model. ``guessed`` are the knobs without any figures, ``open`` what may be chosen, the guess first."""

    guessed: Knobs
    open: Choices
    memory: Memory
    file: Path
    fingerprint: str

    @classmethod
    def of(cls, model: Model, spec: EngineSpec, options: ContextOptions, guessed: Knobs) -> Self:
        """What earlier starts have found."""
        file = Path(spec.cache_dir) / "tuning" / f"{spec.model_id}.json"
        mark = knob_cache.fingerprint(model, spec.settings, options)
        memory = knob_cache.recall(file, mark, options.n_seq)
        return cls(guessed, choices(spec.settings, options, guessed), memory, file, mark)

    @property
    def figures(self) -> Figures:
        """What was measured."""
        return self.memory.figures

    @property
    def served(self) -> Served:
        """What the engine has served, in earlier lives, too."""
        return self.memory.served

    @property
    def choices(self) -> Choices:
        """What may be chosen, with what is used now first."""
        return self.open.using(self.memory.flash)

    def best_flash(self) -> str:
        """The choice of flash attention that is best as far as is known."""
        return best_flash(self.choices, self.figures, self.served)

    def choose(self, source: str, held: int = 0) -> Knobs:
        """See ``tuning.choose``."""
        return choose(self.guessed, self.choices, self.figures, self.served, source, held)

    def use(self, knobs: Knobs) -> None:
        """They are used from now on: another choice has to be clearly better, at later starts, too."""
        if self.memory.flash != (flash := flash_name(knobs.flash_attn)):
            self.memory.flash = flash
            self.remember()

    def first_ms(self, kernels: str) -> float | None:
        """What a context's first token took; None: this machine has not computed the model by these kernels yet."""
        return self.memory.proved.get(kernels)

    def prove(self, kernels: str, first_ms: float) -> None:
        """A context was proved, and its first token took so long."""
        self.memory.proved[kernels] = first_ms
        self.remember()

    def remember(self) -> None:
        """For later starts."""
        knob_cache.remember(self.file, self.fingerprint, self.memory)
