"""Keeps a step that mixes prompt and generation about as long as it was when the slice size was measured.

A prompt token costs more the deeper its context is (attention), so a slice that took 30 ms at the beginning of a
prompt may take 100 ms at its end, and everybody's stream would stutter. The governor follows the cost of a prompt token
in mixed steps and shrinks the slice accordingly.
"""

from __future__ import annotations

SMOOTHING = 0.5  # weight of the newest step; costs drift over many steps, single steps are noisy


class Governor:
    """Proposes the slice size of the next mixed step.

    Args:
        slice_size: tokens; what was measured or pinned, never exceeded.
        slice_ms: what such a slice was measured to take; None: unknown, the size stays as it is.
        floor: never propose fewer tokens (flash attention on a CPU is slow below 64 rows).
    """

    def __init__(self, slice_size: int, slice_ms: float | None, floor: int = 8) -> None:
        self.slice_size = slice_size
        self.floor = min(floor, slice_size)
        self._target_ms = slice_ms
        self._token_ms: float | None = None
        self._decode_ms = 0.0

    def observe(self, step_ms: float, prompt_tokens: int, decoding: int) -> int:
        """Takes one step's length; returns the slice size for the next."""
        if prompt_tokens == 0:
            self._decode_ms = self._smooth(self._decode_ms or step_ms, step_ms)
            self._token_ms = None  # the next prompt begins with a shallow context
        elif decoding and self._target_ms is not None:
            token_ms = max(step_ms - self._decode_ms, 0.0) / prompt_tokens
            self._token_ms = self._smooth(token_ms if self._token_ms is None else self._token_ms, token_ms)
        return self.size

    @property
    def size(self) -> int:
        if self._target_ms is None or not self._token_ms:
            return self.slice_size
        return max(self.floor, min(self.slice_size, int(self._target_ms / self._token_ms)))

    @staticmethod
    def _smooth(old: float, new: float) -> float:
        return (1 - SMOOTHING) * old + SMOOTHING * new
