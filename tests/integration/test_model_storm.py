"""Eight clients do random things with five models in too little memory: nothing hangs, nothing is left."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psutil

from janflask.errors import JanflaskError
from janflask.ipc.clients.engine import open_generation
from janflask.ipc.clients.supervisor import SupervisorClient
from janflask.ipc.messages.engine import Done
from janflask.ipc.messages.generation import GenerateRequest
from janflask.models.state import ModelStatus
from tests.integration.engine_world import LIMIT, World, budget, descendants, supervisor_process, wait_for

CLIENTS, OPERATIONS = 8, 25  # of each
MODELS = {"a": ("sleep 0.05",), "b": (), "c": ("idle 50",), "d": ("error broken",), "e": ("slow-end 0.1",)}
SIZE, BUDGET = 40, 100  # KiB: two of them fit
HANG = 90.0  # seconds in which no operation may still be under way

LEGAL = {ModelStatus.STARTING, ModelStatus.RUNNING, ModelStatus.STOPPING, ModelStatus.STOPPED, ModelStatus.FAILED}


_on_disk = threading.Lock()  # one client at a time removes a model and puts it back


class Client:
    """One client's operations. A refusal is an answer like another, as long as it comes."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.supervisor = SupervisorClient(world.runtime_dir)

    def run(self) -> int:
        done = 0
        for _ in range(OPERATIONS):
            operation = self.random.choice([self.start, self.start, self.stop, self.chat, self.chat, self.delete])
            refusal = self.refusal(operation, self.random.choice(sorted(MODELS)))
            if refusal is not None:
                assert refusal.status in (400, 404, 409, 500, 503), refusal
                assert refusal.code != "timeout", refusal
            done += 1
        return done

    @staticmethod
    def refusal(operation: Callable[[str], None], model_id: str) -> JanflaskError | None:
        try:
            operation(model_id)
        except JanflaskError as error:
            return error
        return None

    def start(self, model_id: str) -> None:
        self.supervisor.start_and_wait(model_id, {}, HANG)

    def stop(self, model_id: str) -> None:
        assert self.supervisor.stop(model_id, HANG).status in LEGAL

    def chat(self, model_id: str) -> None:
        state = self.supervisor.start_and_wait(model_id, {}, HANG)
        assert state.socket is not None
        with open_generation(state.socket, GenerateRequest(prompt="x")) as generation:
            while not generation.done:
                assert generation.wait(LIMIT)
                assert all(not isinstance(message, Done) or generation.done for message in generation.receive())

    def delete(self, model_id: str) -> None:
        self.supervisor.stop(model_id, HANG)
        with _on_disk:
            shutil.rmtree(self.world.data_dir / "models" / model_id, ignore_errors=True)
            self.world.model(model_id, *MODELS[model_id], size=SIZE)


def test_a_storm_of_operations(world: World) -> None:
    for model_id, orders in MODELS.items():
        world.model(model_id, *orders, size=SIZE)
    over = threading.Event()
    with supervisor_process(world, JANFLASK_MEMORY_BUDGET_GB=budget(BUDGET)) as process:
        client = SupervisorClient(world.runtime_dir)

        def observe() -> int:
            looks = 0
            before: set[tuple[int, int]] = set()
            while not over.wait(0.01):
                states = client.states(LIMIT).values()
                assert {state.status for state in states} <= LEGAL
                # One model is looked at after the other, but what two looks saw was held together in between.
                held = {(state.pid, state.memory_bytes) for state in states if state.pid and state.memory_bytes}
                assert sum(size for _, size in held & before) <= BUDGET << 10
                before = held
                assert all(state.memory_bytes for state in states if state.pid is not None)
                looks += 1
            return looks

        with ThreadPoolExecutor(CLIENTS + 1) as pool:
            observer = pool.submit(observe)
            clients = [pool.submit(Client(world, seed).run) for seed in range(CLIENTS)]
            deadline = time.monotonic() + 2 * HANG
            try:
                done = sum(future.result(max(0.1, deadline - time.monotonic())) for future in clients)
            finally:
                over.set()
        assert done == CLIENTS * OPERATIONS
        assert observer.result(LIMIT) > 0
        for model_id in MODELS:
            assert client.stop(model_id, LIMIT).status is ModelStatus.STOPPED
        assert all(state.memory_bytes is None for state in client.states(LIMIT).values())
        wait_for(lambda: not [child for child in descendants(process) if child.status() != psutil.STATUS_ZOMBIE])
