"""The ledger of memory: who holds how much of what the models may take together. Estimates, not measurements.

A promise is all that a model may come to use. Where a setting says so, a model that runs counts with what it uses now.

Memory is reserved before an engine starts and given back when it is gone, so two starts at once never count on the
same gigabyte.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from janflask.supervisor.machine_memory import Amount

MARGIN = 1.25  # of what a model uses now: so much more it may come to use while another one starts


class MemoryBudget:
    """All methods are for any thread.

    Args:
        limits: what there is.
        used: tells the bytes of RAM that a holder uses now, None where nobody can say; without it promises count.
    """

    def __init__(self, limits: Amount, used: Callable[[str], int | None] | None = None) -> None:
        self.limits = limits
        self._used = used
        self._changed = threading.Condition()
        self._held: dict[str, Amount] = {}

    def reserve(self, holder: str, amount: Amount) -> bool:
        """True if it was there and is ``holder``'s now; False changes nothing. Each holder reserves once."""
        with self._changed:
            if holder in self._held:
                raise RuntimeError(f"{holder} holds memory already")
            if not amount.fits(self._free()):
                return False
            self._held[holder] = amount
            return True

    def release(self, holder: str) -> None:
        """What the holder had is free again."""
        with self._changed:
            self._held.pop(holder, None)
            self._changed.notify_all()

    def held(self) -> Mapping[str, Amount]:
        """Who holds how much now, as it counts."""
        with self._changed:
            return self._counted()

    @property
    def free(self) -> Amount:
        with self._changed:
            return self._free()

    def wait(self, timeout: float) -> None:
        """Until somebody gives back, or for ``timeout`` seconds."""
        with self._changed:
            self._changed.wait(timeout)

    def _free(self) -> Amount:
        return self.limits - sum(self._counted().values(), Amount())

    def _counted(self) -> dict[str, Amount]:
        if self._used is None:
            return dict(self._held)
        return {holder: self._in_use(self._used(holder), promise) for holder, promise in self._held.items()}

    @staticmethod
    def _in_use(used: int | None, promise: Amount) -> Amount:
        """Of what lies on a GPU all is taken at once."""
        return promise if used is None else Amount(min(promise.ram, int(MARGIN * used)), promise.vram)
