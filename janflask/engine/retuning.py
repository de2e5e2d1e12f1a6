"""Changes the knobs of an engine that runs, while it rests, and tells of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from janflask.engine.context import LlamaContext
from janflask.engine.fingerprint import fingerprint
from janflask.engine.knowledge import Knowledge
from janflask.engine.loop import Loop
from janflask.engine.plan import ContextPlan, governor_of, limits_of, planned
from janflask.errors import ModelLoadError
from janflask.ipc.messages.launch import EngineSpec
from janflask.models.engine_info import Knobs

log = logging.getLogger(__name__)

REST_BEFORE = 5.0  # seconds: whoever talks on would only have to wait
ENOUGH = 20_000  # tokens served after which it is looked at again whether the knobs fit


class Retuning:
    """Of one engine. All is its loop's thread's.

    ``tell`` is told of the knobs as they are now, also when only their figures have changed.
    """

    def __init__(
        self, loop: Loop, context: LlamaContext, plan: ContextPlan, spec: EngineSpec, tell: Callable[[Knobs], None]
    ) -> None:
        self._loop = loop
        self._context = context
        self._plan = plan
        self._spec = spec
        self._tell = tell

    @property
    def knobs(self) -> Knobs:
        """As they are now."""
        return self._plan.knobs

    def apply(self, knobs: Knobs) -> bool:
        """False: somebody waits for an answer, nothing was done."""
        if not self._loop.scheduler.idle:
            return False
        before = self._plan
        plan = planned(before.options, knobs, self._spec.kv_bytes, before.notes)
        if plan.options != replace(before.options, cpu_threads=plan.options.cpu_threads):
            try:
                self._reopen(plan)
            except ModelLoadError as error:
                log.warning("better knobs are not taken: %s", error.message)
                plan = replace(before, knobs=replace(before.knobs, measurements=knobs.measurements, sure=knobs.sure))
        self._context.set_threads(plan.options.cpu_threads)
        if plan.knobs != before.knobs:
            self._loop.adopt(limits_of(self._context, plan), governor_of(self._context, plan), plan.min_copy)
            log.info("the knobs are now %s", plan.knobs)
            self._tell(plan.knobs)
        self._plan = plan
        return True

    def _reopen(self, plan: ContextPlan) -> None:
        """States of other settings cannot be taken up: what the slots hold is computed again when it is asked for."""
        try:
            self._context.reopen(plan.options)
        finally:
            self._loop.forget_all()
        if self._loop.conversations is not None:
            path, by_room = Path(self._spec.model_path), self._context.model.follows_room
            mark = fingerprint(path, self._spec.settings, plan.options, by_room=by_room)
            self._loop.conversations.turn_to(mark)


class Reconsidering:
    """The chore of choosing the knobs again when much was served since: they are to fit what is asked for here."""

    def __init__(self, knowledge: Knowledge, retuning: Retuning, loop: Loop) -> None:
        self._knowledge = knowledge
        self._retuning = retuning
        self._loop = loop

    def due(self, rested: float) -> float | None:
        """See ``Chore``."""
        return max(0.0, REST_BEFORE - rested) if self._knowledge.served.new >= ENOUGH else None

    def piece(self) -> None:
        """See ``Chore``."""
        if self.choose():
            self._knowledge.served.fade()
            self._knowledge.remember()

    def choose(self) -> bool:
        """Goes over to what is best as far as is known. False: somebody waits for an answer."""
        if not self._retuning.apply(self._knowledge.choose("measured", self._loop.tokens_kept)):
            return False
        self._knowledge.use(self._retuning.knobs)
        return True
