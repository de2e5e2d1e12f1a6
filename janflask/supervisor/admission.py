"""Making room: a model starts only when what it needs fits beside the others; the longest-idle ones give way to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from janflask.errors import InvalidRequestError, UnavailableError
from janflask.models.memory_estimate import Estimate, in_gib
from janflask.models.state import ModelStatus
from janflask.supervisor.budget import MemoryBudget
from janflask.supervisor.demand import LONG_SHARE, Demand
from janflask.supervisor.machine_memory import SHARE, Amount, free_ram

LOOK = 0.1  # seconds between two looks of a start that waits
PATIENCE = 3.0  # seconds that it waits for models in use to become idle
BUSY_RETRY = 10  # seconds after which asking again makes sense
CODE = "insufficient_memory"


class Tenant(Protocol):
    """A model that may hold memory."""

    @property
    def model_id(self) -> str: ...
    @property
    def status(self) -> ModelStatus: ...
    def idle_seconds(self) -> float | None:
        """Since its last request; 0 while there is one, None if it cannot be asked."""
        ...

    def retire(self) -> bool:
        """Begins to stop it, unless it has something to do; whether it will be gone soon."""
        ...


@dataclass(frozen=True, slots=True)
class Grant:
    """What a start got, and what a user should know of it."""

    estimate: Estimate
    n_parallel: int
    ctx_len: int | None = None  # a longer one than anybody asked for
    notes: tuple[str, ...] = ()


class Room:
    """Hands out the budget.

    Args:
        budget: the ledger.
        tenants: tells all models that there are now.
        patience: seconds that a start waits for models in use to become idle.
        free_ram: tells the bytes that nobody on this machine uses now, the models and all others.
    """

    def __init__(
        self,
        budget: MemoryBudget,
        tenants: Callable[[], Sequence[Tenant]],
        patience: float,
        free_ram: Callable[[], int] = free_ram,
    ) -> None:
        self._budget = budget
        self._tenants = tenants
        self._patience = patience
        self._free_ram = free_ram
        self._turn = threading.Lock()  # one start at a time makes room: what gave way is for the one that asked

    @contextmanager
    def granted(
        self, model_id: str, demand: Demand, check: Callable[[], None], *, displaces: bool = True
    ) -> Iterator[Grant]:
        """Holds the memory until the block is left.

        ``check`` is called every moment while it waits, and ends the wait by raising. ``displaces`` false: no other
        model has to give way.

        Raises InvalidRequestError when it can never fit, UnavailableError when others that are in use would have to go.
        """
        grant = self._make(model_id, demand, check, displaces)
        try:
            yield grant
        finally:
            self._budget.release(model_id)

    def _make(self, model_id: str, demand: Demand, check: Callable[[], None], displaces: bool) -> Grant:
        while not self._turn.acquire(timeout=LOOK):
            check()
        try:
            deadline = time.monotonic() + (self._patience if displaces else 0.0)
            while True:
                check()
                grant = self._reserve(model_id, demand)
                if grant is not None:
                    return grant
                holders = self._give_way(model_id, demand, displaces)
                if holders and time.monotonic() >= deadline:
                    raise self._in_use(model_id, demand, holders)
                self._budget.wait(LOOK)
        finally:
            self._turn.release()

    def _reserve(self, model_id: str, demand: Demand) -> Grant | None:
        """The most conversations at once that the budget has room for and that the machine's free memory holds now.

        What others than the models use keeps none from starting: it is for the fewest conversations only that the
        budget alone decides.
        """
        free = int(SHARE * self._free_ram())
        grant = self._reserve_long(model_id, demand, free)
        if grant is not None:
            return grant
        for n_parallel in demand.parallel:
            needed = demand.estimate(n_parallel)
            if n_parallel != demand.parallel[-1] and demand.amount(needed).ram > free:
                continue
            promised = self._promise(model_id, demand, needed, free)
            if promised is not None:
                notes = _fewer(demand, n_parallel) or _shorter(demand)
                return Grant(promised, n_parallel, notes=notes + _fewer_states(demand, promised))
        return None

    def _reserve_long(self, model_id: str, demand: Demand, free: int) -> Grant | None:
        """The longest context within the model's share that there is room for now."""
        n_parallel = demand.parallel[0]
        for ctx_len in demand.longer_within(self._budget.limits):
            needed = demand.estimate(n_parallel, ctx_len)
            if demand.amount(needed).ram > free:
                continue
            promised = self._promise(model_id, demand, needed, free)
            if promised is not None:
                notes = _shorter(demand, ctx_len) + _fewer_states(demand, promised)
                return Grant(promised, n_parallel, ctx_len, notes)
        return None

    def _promise(self, model_id: str, demand: Demand, needed: Estimate, free: int) -> Estimate | None:
        """Reserves it, and as much for states beside the slots as there is room for; None where it does not fit."""
        room = min(self._budget.free.ram, free) - demand.amount(needed).ram
        promised = replace(needed, states=max(0, min(demand.states, room)))
        return promised if self._budget.reserve(model_id, demand.amount(promised)) else None

    def _give_way(self, model_id: str, demand: Demand, displaces: bool) -> list[str]:
        """Sends idle models away, the longest idle first, until there will be room.

        Returns who keeps it from that; nobody if waiting is enough. Raises InvalidRequestError.
        """
        least = demand.amount(demand.estimate(demand.parallel[-1]))
        if not least.fits(self._budget.limits):
            raise self._too_big(model_id, demand)
        held = self._budget.held()
        tenants = [tenant for tenant in self._tenants() if tenant.model_id in held]
        going = {t.model_id for t in tenants if t.status not in (ModelStatus.STARTING, ModelStatus.RUNNING)}
        staying = {name: amount for name, amount in held.items() if name not in going}
        coming = self._budget.limits - sum(staying.values(), Amount())
        idle = self._by_idleness([t for t in tenants if t.model_id in staying]) if displaces else []
        if least.fits(sum((held[tenant.model_id] for tenant in idle), coming)):
            while idle and not least.fits(coming):
                tenant = idle.pop(0)
                if tenant.retire():
                    coming += staying.pop(tenant.model_id)
        return [] if least.fits(coming) else sorted(staying.keys() - {tenant.model_id for tenant in idle})

    @staticmethod
    def _by_idleness(tenants: Sequence[Tenant]) -> list[Tenant]:
        """Those that have nothing to do, the longest idle first."""
        found = []
        for tenant in tenants:
            seconds = tenant.idle_seconds() if tenant.status is ModelStatus.RUNNING else None
            if seconds:
                found.append((seconds, tenant))
        return [tenant for _, tenant in sorted(found, key=lambda pair: pair[0], reverse=True)]

    # --- what is said when it does not fit --------------------------------------------------------------------------

    def _too_big(self, model_id: str, demand: Demand) -> InvalidRequestError:
        limits = self._budget.limits
        size = demand.smaller_ctx_len(limits)
        advice = "choose a smaller quantization"
        if size is not None:
            advice = f"lower ctx_len to {size}"
        elif demand.settings.kv_cells is not None:
            advice = "lower kv_cells"
        elif demand.parallel[-1] > 1:
            advice = "lower n_parallel"
        return InvalidRequestError(
            f"{self._sum(model_id, demand)}: {advice}, or raise JANFLASK_MEMORY_BUDGET_GB", param="model", code=CODE
        )

    def _in_use(self, model_id: str, demand: Demand, holders: list[str]) -> UnavailableError:
        size = demand.smaller_ctx_len(self._budget.free)
        lower = f", or lower ctx_len to {size}" if size is not None else ""
        names = ", ".join(holders)
        return UnavailableError(
            f"{self._sum(model_id, demand)}, and {names} cannot make room now: try again later, stop one{lower}",
            param="model",
            code=CODE,
            retry_after=BUSY_RETRY,
        )

    def _sum(self, model_id: str, demand: Demand) -> str:
        """The larger part where it is split between RAM and VRAM; estimates don't say what lies where."""
        needed = demand.estimate(demand.parallel[-1])
        limits, free = self._budget.limits, self._budget.free
        on_gpu = demand.amount(needed).vram > 0
        has, of = (free.vram, limits.vram) if on_gpu else (free.ram, limits.ram)
        parts = f"{in_gib(needed.weights)} weights"
        if needed.kv or needed.compute:
            times = f" times {demand.parallel[-1]}" if demand.parallel[-1] > 1 else ""
            parts += f", {in_gib(needed.kv)} KV for {demand.ctx_len} tokens{times}, {in_gib(needed.compute)} compute"
        where = " of GPU memory" if on_gpu else ""
        return (
            f"{model_id} needs {in_gib(needed.total)} ({parts}), {in_gib(max(0, has))} of {in_gib(of)}{where} are free"
        )


def _shorter(demand: Demand, ctx_len: int | None = None) -> tuple[str, ...]:
    """A note that the model could hold longer conversations, where nobody decided how long they are."""
    if not demand.longer or ctx_len == demand.longer[0]:
        return ()
    return (
        f"ctx_len is {ctx_len or demand.ctx_len} of the {demand.longer[0]} tokens that the model was trained for: for "
        f"longer conversations there is not enough in {LONG_SHARE:.0%} of the models' memory, or free now; set ctx_len "
        "for more",
    )


def _fewer(demand: Demand, n_parallel: int) -> tuple[str, ...]:
    """A note that there was no room for the best number of conversations, if so."""
    wanted = demand.parallel[0]
    if n_parallel == wanted:
        return ()
    conversation = demand.estimate(wanted).kv // wanted
    return (
        f"n_parallel is {n_parallel}, not {wanted}: a conversation of {demand.ctx_len} tokens takes "
        f"{in_gib(conversation)} of KV cache and there is no room for more; lower ctx_len for more",
    )


def _fewer_states(demand: Demand, granted: Estimate) -> tuple[str, ...]:
    """A note that there was no room for all that it may keep beside its slots, if so."""
    if granted.states == demand.states:
        return ()
    return (
        f"{in_gib(granted.states)} of KV states are kept in memory beside the slots, not {in_gib(demand.states)} "
        "(JANFLASK_KV_RAM_GB): there is no room for more; a lower ctx_len or n_parallel makes some",
    )
