"""When idle models are asked, and stopped."""

from __future__ import annotations

import pytest

from janflask.models.state import ModelState, ModelStatus
from janflask.supervisor.idle import ASK_AGAIN, IdleWatch


class Model:
    """Idle for as long as it is told to say; ``engine`` tells its engines apart."""

    def __init__(self, idle: float | None, status: ModelStatus = ModelStatus.RUNNING, *, goes: bool = True) -> None:
        self.model_id = "m"
        self.idle = idle
        self.status = status
        self.goes = goes
        self.engine = 1
        self.asked = 0
        self.retired = 0

    def state(self) -> ModelState:
        socket = f"{id(self)}-{self.engine}" if self.status is ModelStatus.RUNNING else None
        return ModelState(model_id=self.model_id, status=self.status, socket=socket)

    def idle_seconds(self) -> float | None:
        self.asked += 1
        return self.idle

    def retire(self) -> bool:
        self.retired += 1
        return self.goes


def test_one_idle_for_long_enough_is_stopped() -> None:
    long, short = Model(100.0), Model(40.0)
    assert IdleWatch(100.0, lambda: [long, short]).look(0.0) == 60.0
    assert (long.retired, short.retired) == (1, 0)


def test_a_model_is_asked_at_the_earliest_moment_that_it_could_be_due() -> None:
    model = Model(40.0)
    watch = IdleWatch(100.0, lambda: [model])
    assert watch.look(1000.0) == 60.0
    assert watch.look(1059.0) == 1.0
    assert model.asked == 1
    model.idle = 10.0  # it was used meanwhile
    assert watch.look(1060.0) == 90.0
    assert (model.asked, model.retired) == (2, 0)
    model.idle = 100.0
    watch.look(1150.0)
    assert (model.asked, model.retired) == (3, 1)


def test_another_engine_of_the_model_is_asked_anew() -> None:
    model = Model(40.0)
    watch = IdleWatch(100.0, lambda: [model])
    watch.look(0.0)
    model.engine += 1
    watch.look(1.0)
    assert model.asked == 2


def test_one_that_got_a_request_at_the_last_moment_has_all_its_time_again() -> None:
    model = Model(500.0, goes=False)
    watch = IdleWatch(100.0, lambda: [model])
    assert watch.look(0.0) == 100.0
    assert watch.look(99.0) == 1.0
    assert model.retired == 1


@pytest.mark.parametrize(("limit", "pause"), [(100.0, ASK_AGAIN), (1.0, 1.0)])
def test_one_that_does_not_answer_is_asked_again_soon(limit: float, pause: float) -> None:
    model = Model(None)
    assert IdleWatch(limit, lambda: [model]).look(0.0) == pause
    assert model.retired == 0


@pytest.mark.parametrize("status", [status for status in ModelStatus if status is not ModelStatus.RUNNING])
def test_only_running_models_are_looked_at(status: ModelStatus) -> None:
    model = Model(1e6, status)
    assert IdleWatch(100.0, lambda: [model]).look(0.0) == 100.0
    assert (model.asked, model.retired) == (0, 0)
