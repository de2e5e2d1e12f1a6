"""The governor keeps the time of a slice, not its size."""

from __future__ import annotations

from janflask.engine.governor import Governor


def test_without_a_measurement_the_size_stays():
    governor = Governor(64, None)
    governor.observe(5.0, 0, 8)
    assert governor.observe(900.0, 64, 8) == 64


def test_a_deeper_context_shrinks_the_slice_and_a_new_prompt_restores_it():
    governor = Governor(64, 32.0)  # 0.5 ms a token
    governor.observe(10.0, 0, 4)
    size = 64
    for _ in range(8):
        size = governor.observe(10.0 + 2.0 * size, size, 4)  # now 2 ms a token
    assert size == 16
    governor.observe(10.0, 0, 4)
    assert governor.size == 64


def test_never_below_the_floor_and_never_above_the_size():
    governor = Governor(64, 32.0, floor=64)
    governor.observe(1000.0, 64, 1)
    assert governor.size == 64
    governor = Governor(32, 32.0)
    governor.observe(1.0, 32, 1)
    assert governor.size == 32
    governor.observe(1e6, 32, 1)
    assert governor.observe(1e6, 32, 1) == 8


def test_steps_without_decoding_are_not_its_business():
    governor = Governor(64, 32.0)
    governor.observe(5000.0, 256, 0)
    assert governor.size == 64
