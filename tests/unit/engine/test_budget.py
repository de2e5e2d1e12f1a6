"""The ledger of memory, what a model asks of it, and who makes room for whom."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from janflask.errors import InvalidRequestError, JanflaskError, ModelLoadError, UnavailableError
from janflask.models.engine_settings import EngineSettings
from janflask.models.gguf_header import GgufHeader
from janflask.models.memory_estimate import Estimate
from janflask.models.state import ModelStatus
from janflask.settings import Settings
from janflask.supervisor import machine_memory
from janflask.supervisor.admission import Grant, Room
from janflask.supervisor.budget import MemoryBudget
from janflask.supervisor.demand import Demand, Demands
from janflask.supervisor.machine_memory import Amount, group_limits, limits
from tests.models.tiny import write_chat, write_split

GIB = 1 << 30
RUNNING, STARTING, STOPPING = ModelStatus.RUNNING, ModelStatus.STARTING, ModelStatus.STOPPING


def plain(size: int, **settings: Any) -> Demand:
    """A model of which only the size is known."""
    return Demand(settings=EngineSettings(**settings), header=None, file_bytes=size)


def shaped(size: int = 0, *, on_gpu: bool = False, pooling_type: int | None = None, **settings: Any) -> Demand:
    """A model whose conversations take 64 KiB a token: 0.5 GiB for 8192."""
    names = {
        "block_count": 16,
        "embedding_length": 2048,
        "attention.head_count": 8,
        "attention.head_count_kv": 4,
        "context_length": 32768,
    }
    pairs = {"general.architecture": "x", **{f"x.{key}": value for key, value in names.items()}}
    if pooling_type is not None:
        pairs["x.pooling_type"] = pooling_type
    header = GgufHeader(version=3, tensor_count=0, parameter_count=0, pairs=pairs)
    return Demand(settings=EngineSettings(**settings), header=header, file_bytes=size, on_gpu=on_gpu)


def go_on() -> None:
    """What a start that is still wanted says."""


class Tenant:
    """A model that holds memory until it is told to go, or later."""

    def __init__(
        self, model_id: str, idle: float | None = 1.0, status: ModelStatus = RUNNING, *, leaves: bool = True
    ) -> None:
        self.model_id = model_id
        self.status = status
        self.idle = idle
        self.leaves = leaves
        self.asked = 0
        self.budget: MemoryBudget | None = None

    def idle_seconds(self) -> float | None:
        return self.idle

    def retire(self) -> bool:
        self.asked += 1
        if not self.leaves:
            return False
        self.status = STOPPING
        if self.budget is not None:
            self.budget.release(self.model_id)
        return True


def house(
    total: int, *tenants: tuple[Tenant, int], patience: float = 0.0, free_ram: int = 1 << 50
) -> tuple[Room, MemoryBudget]:
    budget = MemoryBudget(Amount(total))
    for tenant, size in tenants:
        tenant.budget = budget
        assert budget.reserve(tenant.model_id, Amount(size))
    return Room(budget, lambda: [tenant for tenant, _ in tenants], patience, lambda: free_ram), budget


def grant(room: Room, demand: Demand, *, displaces: bool = True, check: Callable[[], None] = go_on) -> Grant:
    with room.granted("new", demand, check, displaces=displaces) as granted:
        return granted


# --- the ledger -----------------------------------------------------------------------------------------------------


def test_what_is_reserved_is_taken_until_it_is_given_back() -> None:
    budget = MemoryBudget(Amount(10, 5))
    assert budget.reserve("a", Amount(6))
    assert not budget.reserve("b", Amount(5))
    assert budget.free == Amount(4, 5)
    assert budget.reserve("b", Amount(4, 5))
    budget.release("a")
    assert budget.held() == {"b": Amount(4, 5)}
    assert budget.free == Amount(6, 0)
    budget.release("a")
    with pytest.raises(RuntimeError, match="holds memory already"):
        budget.reserve("b", Amount(1))


def test_two_at_once_do_not_both_get_the_last_byte() -> None:
    for _ in range(50):
        budget, barrier = MemoryBudget(Amount(10)), threading.Barrier(4)

        def ask(name: str, budget: MemoryBudget = budget, barrier: threading.Barrier = barrier) -> bool:
            barrier.wait()
            return budget.reserve(name, Amount(6))

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(ask, "abcd")) == 1


def test_memory_that_is_not_needed_may_be_overdrawn() -> None:
    assert Amount(0, 3).fits(Amount(-5, 3))
    assert not Amount(1, 3).fits(Amount(-5, 3))


def test_by_use_a_running_model_counts_with_what_it_uses_and_a_margin() -> None:
    used: dict[str, int | None] = {"runs": 40, "starts": None, "grown": 1000}
    budget = MemoryBudget(Amount(1000, 100), used.__getitem__)
    assert budget.reserve("runs", Amount(400, 30))
    assert budget.free == Amount(1000 - 50, 70)
    assert budget.reserve("starts", Amount(300))
    assert budget.reserve("grown", Amount(200)), "promised are 900 of 1000, and more than that may be"
    assert budget.held() == {"runs": Amount(50, 30), "starts": Amount(300), "grown": Amount(200)}
    assert budget.free == Amount(450, 70)
    used["runs"] = 400
    assert budget.free == Amount(100, 70), "never more than was promised"


def test_by_use_one_starts_beside_another_that_was_promised_all() -> None:
    for used, starts in ((None, False), (lambda _: 4, True)):
        budget = MemoryBudget(Amount(10), used)
        assert budget.reserve("old", Amount(9))
        room = Room(budget, lambda: [Tenant("old", 0.0)], 0.0, lambda: 1 << 50)
        if starts:
            assert grant(room, plain(5)).estimate.total == 5
        else:
            with pytest.raises(UnavailableError):
                grant(room, plain(5))


# --- what a model asks for ------------------------------------------------------------------------------------------


def test_conversations_at_once() -> None:
    assert plain(1).parallel == (8, 7, 6, 5, 4, 3, 2, 1)
    assert plain(1, n_parallel=3).parallel == (3,)
    assert plain(1, kv_cells=5000).parallel == (8,)


def test_the_context_of_settings_and_of_the_file() -> None:
    assert shaped().ctx_len == 8192
    assert shaped(ctx_len=4096).ctx_len == 4096
    assert shaped().estimate(2).kv == GIB
    assert shaped(ctx_len=4096).estimate(2).kv == GIB // 2


def test_a_context_that_would_fit() -> None:
    demand = shaped(GIB)
    compute = demand.estimate(1).compute
    assert demand.smaller_ctx_len(Amount(GIB + GIB // 2 + compute - 1)) == 4096
    assert demand.smaller_ctx_len(Amount(GIB + GIB // 8 + compute)) == 2048
    assert demand.smaller_ctx_len(Amount(GIB)) is None
    assert shaped(GIB, ctx_len=6000).smaller_ctx_len(Amount(4 * GIB)) == 4096, "a round one, less than it was"
    assert shaped(GIB, kv_cells=8192).smaller_ctx_len(Amount(4 * GIB)) is None
    assert plain(GIB).smaller_ctx_len(Amount(1)) is None


@pytest.mark.parametrize(("ngl", "share"), [(-1, 1.0), (16, 16 / 17), (17, 1.0), (99, 1.0), (8, 8 / 17)])
def test_layers_on_a_gpu_take_its_memory(ngl: int, share: float) -> None:
    demand = shaped(GIB, on_gpu=True, ngl=ngl)
    needed = demand.estimate(1)
    amount = demand.amount(needed)
    assert amount.vram == int(share * (needed.weights + needed.kv)) + needed.compute
    assert amount.total == needed.total


def test_no_layer_on_a_gpu() -> None:
    for demand in (shaped(GIB, on_gpu=True, ngl=0), shaped(GIB, ngl=-1)):
        assert demand.amount(demand.estimate(1)) == Amount(demand.estimate(1).total)


def test_all_parts_and_the_adapter_count(tmp_path: Path) -> None:
    parts = write_split(tmp_path, "m")
    (tmp_path / "lora.gguf").write_bytes(bytes(1000))
    demand = Demands(on_gpu=False).of(parts[0], EngineSettings(lora=str(tmp_path / "lora.gguf")))
    assert demand.file_bytes == sum(part.stat().st_size for part in parts) + 1000
    assert demand.ctx_len == 512, "the first part has the header"


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    demands = Demands(on_gpu=False)
    parts = write_split(tmp_path, "m")
    parts[1].unlink()
    with pytest.raises(ModelLoadError, match=r"m-00002-of-00002\.gguf \(part 2 of 2\) is not there"):
        demands.of(parts[0], EngineSettings())
    with pytest.raises(ModelLoadError, match=r"gone\.gguf is not there"):
        demands.of(tmp_path / "gone.gguf", EngineSettings())
    (tmp_path / "m.gguf").write_bytes(b"")
    with pytest.raises(ModelLoadError, match=r"settings\.lora.*absent\.gguf is not there"):
        demands.of(tmp_path / "m.gguf", EngineSettings(lora=str(tmp_path / "absent.gguf")))


def test_a_header_is_read_again_when_the_file_changes(tmp_path: Path) -> None:
    demands, path = Demands(on_gpu=False), tmp_path / "m.gguf"
    write_chat(path, context=128)
    assert demands.of(path, EngineSettings()).ctx_len == 128
    assert demands.of(path, EngineSettings()).header is demands.of(path, EngineSettings()).header
    path.unlink()
    write_chat(path, context=2048)
    assert demands.of(path, EngineSettings()).ctx_len == 2048


def test_of_a_broken_file_only_the_size_is_known(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"no GGUF")
    demand = Demands(on_gpu=False).of(path, EngineSettings())
    assert demand.estimate(8) == Estimate(7, 0, 0)


# --- the context that nobody asked for ------------------------------------------------------------------------------


def test_as_long_a_context_as_half_the_budget_can_promise_to_everybody() -> None:
    """Trained for 32768 tokens: 8 conversations of them promise 16 GiB of KV, of half of them 8, of 8192 tokens 4."""
    for budget, ctx_len in ((100, 32768), (36, 32768), (34, 16384), (20, 16384), (18, None), (6, None)):
        room, _ = house(budget * GIB)
        granted = grant(room, shaped(GIB))
        assert (granted.n_parallel, granted.ctx_len) == (8, ctx_len), budget
        assert granted.estimate == shaped(GIB).estimate(8, ctx_len)
        assert len(granted.notes) == int(ctx_len != 32768)
    assert granted.notes[0].startswith("ctx_len is 8192 of the 32768 tokens that the model was trained for: ")
    assert grant(house(6 * GIB)[0], shaped(2 * GIB)).n_parallel < 8, "no room for it even then"


def test_a_second_model_finds_as_much_beside_it() -> None:
    room, _ = house(21 * GIB)
    with room.granted("first", shaped(GIB), go_on) as first, room.granted("second", shaped(GIB), go_on) as second:
        assert (first.ctx_len, second.ctx_len) == (16384, 16384)
        with room.granted("third", plain(GIB // 4), go_on):
            pass


def test_what_the_machine_lacks_now_is_not_promised() -> None:
    needs = shaped(GIB).estimate(8, 16384).total
    assert grant(house(100 * GIB, free_ram=needs * 5 // 4 + 5)[0], shaped(GIB)).ctx_len == 16384
    assert grant(house(100 * GIB, free_ram=needs * 5 // 4 - 5)[0], shaped(GIB)).ctx_len is None


def test_a_longer_context_is_what_its_engine_is_told() -> None:
    assert shaped().granted(8, 32768) == EngineSettings(n_parallel=8, ctx_len=32768)
    assert shaped(n_parallel=2).longer == (32768, 16384)
    assert grant(house(100 * GIB)[0], shaped(GIB, n_parallel=2)).ctx_len == 32768


@pytest.mark.parametrize(
    "demand",
    [
        plain(GIB),
        shaped(GIB, ctx_len=8192),
        shaped(GIB, kv_cells=8192),
        shaped(GIB, embedding=True),
        shaped(GIB, pooling_type=2),
        shaped(GIB, on_gpu=True),
    ],
    ids=["no header", "ctx_len", "kv_cells", "embeddings too", "embeddings", "GPU"],
)
def test_where_a_context_is_not_made_longer(demand: Demand) -> None:
    assert demand.longer == ()
    room = Room(MemoryBudget(Amount(200 * GIB, 200 * GIB)), list, 0.0, lambda: 1 << 50)
    granted = grant(room, demand)
    assert (granted.ctx_len, granted.notes) == (None, ())


def test_where_pages_are_not_given_out_as_they_are_used_a_context_is_not_made_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("janflask.supervisor.demand.KV_ON_DEMAND", False)
    assert shaped(GIB).longer == ()


# --- making room ----------------------------------------------------------------------------------------------------


def test_what_fits_displaces_nobody() -> None:
    old = Tenant("old")
    room, budget = house(10, (old, 4))
    with room.granted("new", plain(6), go_on):
        assert budget.free == Amount(0)
    assert (budget.free, old.asked) == (Amount(6), 0)


def test_the_memory_comes_back_when_the_block_fails() -> None:
    room, budget = house(10)
    with pytest.raises(ZeroDivisionError), room.granted("new", plain(6), go_on):
        raise ZeroDivisionError
    assert budget.free == Amount(10)


def test_as_many_conversations_as_fit() -> None:
    room, _ = house(GIB + 3 * GIB // 2 + shaped().estimate(3).compute)
    granted = grant(room, shaped(GIB))
    assert granted.n_parallel == 3
    assert granted.estimate.kv == 3 * GIB // 2
    assert granted.notes == (
        "n_parallel is 3, not 8: a conversation of 8192 tokens takes 512 MiB of KV cache and there is no room for "
        "more; lower ctx_len for more",
    )
    assert shaped(GIB).granted(3) == EngineSettings(n_parallel=3), "what its engine is told"


def test_what_other_programs_use_is_not_there_for_conversations() -> None:
    """The budget would have room: the machine has not, at the moment."""
    needs = shaped(GIB).estimate(2).total
    for free, number in ((needs * 5 // 4 + 5, 2), (needs * 5 // 4 - 5, 1), (0, 1), (100 * GIB, 8)):
        granted = grant(house(100 * GIB, free_ram=free)[0], shaped(GIB))
        assert (granted.n_parallel, len(granted.notes)) == (number, int(number < 8))
        pinned = grant(house(100 * GIB, free_ram=free)[0], shaped(GIB, n_parallel=6, ctx_len=8192))
        assert (pinned.n_parallel, pinned.notes) == (6, ())


def test_memory_of_the_machine_does_not_limit_what_lies_on_a_gpu() -> None:
    room = Room(MemoryBudget(Amount(100 * GIB, 100 * GIB)), list, 0.0, lambda: 0)
    with room.granted("new", shaped(GIB, on_gpu=True), go_on) as granted:
        assert granted.n_parallel == 8


def test_what_only_embeds_takes_its_inputs_as_it_likes() -> None:
    demand = shaped(GIB, pooling_type=2)
    assert demand.parallel == (1,)
    assert demand.granted(1) == demand.settings
    assert shaped(GIB, pooling_type=2, n_parallel=3).parallel == (3,)
    assert shaped(GIB, pooling_type=2, embedding=False).granted(4).n_parallel == 4


def test_fewer_conversations_before_others_give_way() -> None:
    old = Tenant("old")
    room, _ = house(5 * GIB, (old, 2 * GIB))
    assert grant(room, shaped(GIB)).n_parallel < 8
    assert old.asked == 0


def test_the_longest_idle_gives_way_first() -> None:
    short, long, longer = Tenant("short", 5.0), Tenant("long", 50.0), Tenant("longer", 500.0)
    room, _ = house(9, (short, 3), (long, 3), (longer, 3))
    grant(room, plain(3))
    assert (short.asked, long.asked, longer.asked) == (0, 0, 1)
    room, _ = house(9, (short, 3), (long, 3))
    grant(room, plain(6))
    assert (short.asked, long.asked) == (0, 1)


def test_several_give_way_if_need_be() -> None:
    tenants = [Tenant(name, idle) for name, idle in (("a", 1.0), ("b", 2.0), ("c", 3.0))]
    room, _ = house(9, *((tenant, 3) for tenant in tenants))
    grant(room, plain(6))
    assert [tenant.asked for tenant in tenants] == [0, 1, 1]


@pytest.mark.parametrize(
    "stays",
    [Tenant("stays", 0.0), Tenant("stays", None), Tenant("stays", 9.0, STARTING)],
    ids=["in use", "does not answer", "starting"],
)
def test_who_never_gives_way(stays: Tenant) -> None:
    room, budget = house(10, (stays, 6))
    with pytest.raises(UnavailableError, match="stays cannot make room now") as caught:
        grant(room, plain(6))
    assert (caught.value.code, caught.value.retry_after, stays.asked) == ("insufficient_memory", 10, 0)
    assert budget.held() == {"stays": Amount(6)}


def test_nobody_gives_way_in_vain() -> None:
    idle, busy = Tenant("idle", 9.0), Tenant("busy", 0.0)
    room, _ = house(10, (idle, 2), (busy, 8))
    with pytest.raises(UnavailableError, match="busy cannot make room"):
        grant(room, plain(5))
    assert idle.asked == 0


def test_one_that_has_something_to_do_after_all_stays() -> None:
    first, second = Tenant("first", 9.0, leaves=False), Tenant("second", 1.0)
    room, _ = house(10, (first, 5), (second, 5))
    grant(room, plain(5))
    assert (first.asked, second.asked) == (1, 1)
    room, _ = house(5, (first, 5))
    with pytest.raises(UnavailableError, match="first cannot"):
        grant(room, plain(5))


def test_no_displacing_where_it_is_not_wanted() -> None:
    old = Tenant("old")
    room, _ = house(10, (old, 6))
    with pytest.raises(UnavailableError, match="old cannot"):
        grant(room, plain(6), displaces=False)
    assert old.asked == 0


def test_a_start_waits_for_one_that_is_going() -> None:
    going = Tenant("going", status=STOPPING)
    room, budget = house(10, (going, 6))
    threading.Timer(0.15, budget.release, ("going",)).start()
    assert grant(room, plain(6)).estimate.total == 6


def test_a_start_waits_for_one_that_becomes_idle() -> None:
    busy = Tenant("busy", 0.0)
    room, _ = house(10, (busy, 6), patience=20.0)
    threading.Timer(0.15, lambda: setattr(busy, "idle", 3.0)).start()
    grant(room, plain(6))
    assert busy.asked == 1


def test_a_start_that_is_not_wanted_any_more_stops_waiting() -> None:
    room, budget = house(10, (Tenant("busy", 0.0), 6), patience=600.0)
    calls = iter(range(3))

    def check() -> None:
        if next(calls, None) is None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        grant(room, plain(6), check=check)
    assert budget.held() == {"busy": Amount(6)}


def test_starts_make_room_one_after_the_other() -> None:
    """What gave way for one is not taken by another that asked later, and nobody gets what is not there."""
    tenants = [Tenant(str(number), float(number)) for number in range(1, 9)]
    room, budget = house(8, *((tenant, 1) for tenant in tenants))
    inside = threading.Semaphore(0)

    def start(name: str) -> None:
        with room.granted(name, plain(2), go_on):
            inside.release()
            done.wait(20)

    done = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        started = [pool.submit(start, f"new-{number}") for number in range(4)]
        assert all(inside.acquire(timeout=20) for _ in started)
        assert budget.free == Amount(0)
        done.set()
        for future in started:
            future.result()
    assert [tenant.asked for tenant in tenants] == [1] * 8


# --- states beside the slots ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("total", "states"), [(100, 7), (16, 6), (10, 0)])
def test_states_beside_the_slots_are_promised_as_far_as_there_is_room(total: int, states: int) -> None:
    room, budget = house(total)
    demand = replace(plain(10), state_bytes=7)
    with room.granted("new", demand, go_on) as granted:
        assert granted.estimate == Estimate(10, 0, 0, states)
        assert budget.held() == {"new": Amount(10 + states)}
        assert len(granted.notes) == (states < 7)


def test_they_keep_within_what_the_machine_has_free() -> None:
    room, _ = house(100, free_ram=20)
    assert grant(room, replace(plain(10), state_bytes=50)).estimate.states == 6


def test_a_model_whose_prompts_are_computed_whole_has_none() -> None:
    for demand in (plain(10, prefix_cache=False), shaped(10, pooling_type=2)):
        assert replace(demand, state_bytes=7).states == 0
    assert replace(plain(10), state_bytes=7).wanted(1).total == 17


def test_on_a_gpu_they_lie_in_ram() -> None:
    demand = replace(shaped(GIB, on_gpu=True), state_bytes=7)
    assert demand.amount(demand.wanted(1)) == demand.amount(demand.estimate(1)) + Amount(7)


def test_they_count_in_what_a_longer_context_may_take() -> None:
    needs = shaped(GIB).estimate(8, 16384).total
    for state_bytes, longest in ((0, 16384), (1, None)):
        demand = replace(shaped(GIB), state_bytes=state_bytes)
        assert next(iter(demand.longer_within(Amount(2 * needs))), None) == longest


# --- what is said ---------------------------------------------------------------------------------------------------


def refusal(room: Room, demand: Demand) -> JanflaskError:
    with pytest.raises(JanflaskError) as caught:
        grant(room, demand)
    return caught.value


def test_what_can_never_fit_is_refused_with_the_sum() -> None:
    room, _ = house(2 * GIB, (Tenant("old"), GIB))
    error = refusal(room, shaped(GIB, ctx_len=32768, n_parallel=1))
    assert isinstance(error, InvalidRequestError)
    assert (error.status, error.code, error.param) == (400, "insufficient_memory", "model")
    assert re.fullmatch(
        r"new needs 3\.\d GiB \(1\.0 GiB weights, 2\.0 GiB KV for 32768 tokens, \d+ MiB compute\), "
        r"1\.0 GiB of 2\.0 GiB are free: "
        "lower ctx_len to 8192, or raise JANFLASK_MEMORY_BUDGET_GB",
        error.message,
    )


@pytest.mark.parametrize(
    ("demand", "advice"),
    [
        (plain(20 * GIB), "choose a smaller quantization"),
        (shaped(20 * GIB), "choose a smaller quantization"),
        (shaped(GIB, kv_cells=1_000_000), "lower kv_cells"),
        (shaped(GIB, n_parallel=200), "lower ctx_len to 512"),
        (shaped(GIB, ctx_len=512, n_parallel=2000), "lower n_parallel"),
    ],
)
def test_what_would_help(demand: Demand, advice: str) -> None:
    room, _ = house(9 * GIB)
    assert advice in refusal(room, demand).message


def test_others_in_use_are_named_with_what_would_help() -> None:
    room, _ = house(4 * GIB, (Tenant("b", 0.0), GIB), (Tenant("a", 0.0), GIB))
    message = refusal(room, shaped(GIB, ctx_len=32768)).message
    assert "a, b cannot make room now: try again later, stop one, or lower ctx_len to 8192" in message


def test_on_a_gpu_its_memory_is_what_counts() -> None:
    room = Room(MemoryBudget(Amount(100 * GIB, 2 * GIB)), list, 0.0, lambda: 1 << 50)
    message = refusal(room, shaped(3 * GIB, on_gpu=True)).message
    assert "2.0 GiB of 2.0 GiB of GPU memory are free" in message
    with room.granted("new", shaped(3 * GIB, on_gpu=True, ngl=0), go_on):
        pass


# --- how much there is ----------------------------------------------------------------------------------------------


def test_the_limits_of_a_setting_and_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_memory, "usable_ram", lambda: 100)
    monkeypatch.setattr(machine_memory, "usable_vram", lambda: 0)
    assert limits(Settings()) == Amount(80)
    assert limits(Settings(memory_budget_gb=2.0)) == Amount(2 * GIB)
    monkeypatch.setattr(machine_memory, "usable_vram", lambda: 50)
    assert limits(Settings()) == Amount(80, 40)
    assert limits(Settings(memory_budget_gb=2.0)) == Amount(80, 2 * GIB)
    assert limits(Settings(memory_budget_gb=2.0, ngl=0)) == Amount(2 * GIB)


def test_the_limits_of_control_groups(tmp_path: Path) -> None:
    membership, root = tmp_path / "cgroup", tmp_path / "fs"
    (root / "a" / "b").mkdir(parents=True)
    (root / "memory" / "c").mkdir(parents=True)
    membership.write_text("5:cpu,cpuacct:/x\n4:memory:/c\n0::/a/b\n")
    assert group_limits(membership, root) == []
    (root / "a" / "memory.max").write_text("1000\n")
    (root / "a" / "b" / "memory.max").write_text("max\n")
    (root / "memory" / "memory.limit_in_bytes").write_text("9000\n")
    assert sorted(group_limits(membership, root)) == [1000, 9000]
    assert group_limits(tmp_path / "none", root) == []


def test_gpus_are_asked_for_only_where_the_build_has_some(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, json.dumps([{"total": 7}, {"total": 5}]), "")

    class Spec:
        origin = str(tmp_path / "llama_cpp" / "__init__.py")

    monkeypatch.setattr(machine_memory.subprocess, "run", run)
    monkeypatch.setattr(machine_memory.importlib.util, "find_spec", lambda name: Spec)
    library = tmp_path / "llama_cpp" / "lib"
    library.mkdir(parents=True)
    for name in ("libggml-base.so.0", "libggml-cpu-haswell.so", "libggml-blas.so", "libggml.so", "libllama.so"):
        (library / name).touch()
    assert machine_memory.usable_vram() == 0
    assert asked == []
    (library / "libggml-cuda.so").touch()
    assert machine_memory.usable_vram() == 12
    assert asked[0][1:] == ["-m", "janflask.engine.devices"]


def test_gpus_that_cannot_be_asked_count_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_memory, "is_gpu_build", lambda: True)
    monkeypatch.setattr(machine_memory.sys, "executable", "/no/such/program")
    assert machine_memory.usable_vram() == 0
