"""What is remembered: what was used last, up to a weight, and nothing that nobody has used for long."""

from __future__ import annotations

import pytest

from janflask.storage.lru import MAX_AGE, Recent


def test_the_one_that_was_not_used_for_longest_goes() -> None:
    recent: Recent[int] = Recent(10)
    for number in range(5):
        recent.put(str(number), number, 2)
    assert recent.get("0") == 0
    recent.put("5", 5, 2)
    assert [recent.get(str(number)) for number in range(6)] == [0, None, 2, 3, 4, 5]
    recent.put("large", 6, 100)
    assert recent.get("large") == 6, "the last one stays"
    assert recent.get("5") is None


def test_what_nobody_uses_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("janflask.storage.lru.time.monotonic", lambda: now)
    recent: Recent[int] = Recent(1000)
    for number in range(100):
        recent.put(str(number), number)
    now += MAX_AGE - 1
    assert recent.get("50") == 50
    now += 2
    recent.put("new", 1)
    assert [number for number in range(100) if recent.get(str(number)) is not None] == [50]
    assert recent._weight == 2
