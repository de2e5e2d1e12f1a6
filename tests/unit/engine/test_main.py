"""The engine process's own threads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from janflask.engine.__main__ import _guesses_freely
from janflask.models.engine_settings import EngineSettings

BROKEN = """
import threading, time
from janflask.engine.__main__ import _serve

def broken():
    raise ZeroDivisionError("the sockets broke")

threading.Thread(target=_serve, args=(broken,), daemon=True).start()
time.sleep(60)
"""


def test_an_engine_ends_when_its_sockets_fail() -> None:
    """It could take no request any more, and would still look alive."""
    run = subprocess.run([sys.executable, "-c", BROKEN], stderr=subprocess.PIPE, text=True, timeout=50, check=False)
    assert run.returncode == 1
    assert "the sockets broke" in run.stderr


@pytest.mark.parametrize(
    ("settings", "freely"),
    [({}, None), ({"drafts": 4}, True), ({"reproducible": True}, False), ({"drafts": 4, "reproducible": True}, False)],
    ids=str,
)
def test_no_prediction_changes_a_bit_of_what_is_to_be_reproducible(settings: dict, freely: bool | None) -> None:
    assert _guesses_freely(EngineSettings(**settings)) is freely
