"""How often those who wait look around: often while they are few, and together never more than so often."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from janflask.processes.looks import MOST, PAUSE, Looks


@pytest.mark.parametrize("count", [1, 10, 100, 1000])
def test_together_they_look_only_so_often(count: int) -> None:
    looks = Looks()
    with ExitStack() as stack:
        pauses = [stack.enter_context(looks.one()) for _ in range(count)]
        assert all(pause() >= PAUSE for pause in pauses)
        assert sum(1 / pause() for pause in pauses) <= MOST + 1e-6
        assert count > 10 or pauses[0]() == PAUSE
    with looks.one() as pause:
        assert pause() == PAUSE, "the others have gone"
