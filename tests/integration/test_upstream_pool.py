"""Several base URLs: which one a request goes to, which are left out and taken back, and who waits in line."""

from __future__ import annotations

import gc
import random
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from janflask.errors import (
    JanflaskError,
    QueueFullError,
    UpstreamBusyError,
    UpstreamSetupError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from janflask.inference.requests import CompletionRequest
from janflask.inference.upstream import endpoint as endpoint_module
from janflask.inference.upstream.backend import UpstreamBackend
from janflask.inference.upstream.places import Places, open_places
from janflask.inference.waiting import Waiter
from tests.fakes.openai_server import (
    Handler,
    breaks,
    closes_after,
    events,
    hangs_up,
    holds,
    says,
    serving,
    silent,
    status,
    text_piece,
)
from tests.integration.upstream_world import BEAT, backend_for, chat, is_whole, started, text, told
from tests.integration.waiting import free_port, wait_for

UPSTREAM_CODES = {"upstream_unavailable", "upstream_timeout", "upstream_busy", "upstream_error"}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "FIRST_PAUSE", 0.02)


def under_way(backend: UpstreamBackend) -> list[int]:
    return [health.under_way for health in backend.pool.health()]


def reachable(backend: UpstreamBackend) -> list[bool | None]:
    return [health.reachable for health in backend.pool.health()]


def test_requests_go_where_the_fewest_are_under_way() -> None:
    with serving([holds("a")]) as one, serving([holds("b")]) as two, backend_for(one, two) as backend:
        answers = [chat(backend) for _ in range(6)]
        said = [text(started(answer)) for answer in answers]
        assert sorted(said) == ["a", "a", "a", "b", "b", "b"]
        assert under_way(backend) == [3, 3]
        for answer, word in zip(answers, said, strict=True):
            if word == "a":
                answer.close()
        assert under_way(backend) == [0, 3]
        more = [chat(backend) for _ in range(3)]
        assert [text(started(answer)) for answer in more] == ["a", "a", "a"]
        for answer in (*answers, *more):
            answer.close()
        assert under_way(backend) == [0, 0]


def test_one_after_the_other_takes_turns() -> None:
    with serving([says("a")]) as one, serving([says("b")]) as two, backend_for(one, two) as backend:
        assert sorted(text(told(chat(backend))) for _ in range(6)) == ["a", "a", "a", "b", "b", "b"]


@pytest.mark.parametrize("bad", [hangs_up, status(500, "boom"), status(503), breaks(), events(), status(401)])
def test_one_that_fails_is_left_out_and_taken_back(bad: object) -> None:
    with serving([bad, says("a")]) as one, serving([says("b")]) as two:  # type: ignore[list-item]
        one.well = False
        with backend_for(one, two) as backend:
            for _ in range(4):
                found = told(chat(backend))
                assert text(found) == "b"
                assert is_whole(found)
            assert reachable(backend) == [False, True]
            assert len(one.posts) == 1
            assert backend.pool.health()[0].error
            wait_for(lambda: sum(asked.path == "/v1/models" for asked in one.asked) >= 2)  # it is asked, and not well
            assert reachable(backend)[0] is False
            one.well = True
            wait_for(lambda: reachable(backend)[0] is True)
            assert backend.pool.health()[0].error is None
            assert sorted(text(told(chat(backend))) for _ in range(2)) == ["a", "b"]


def test_the_pauses_grow_and_a_flapping_one_is_left_out_for_longer() -> None:
    with serving([status(500, "boom")]) as one, backend_for(one) as backend:
        (endpoint,) = backend.pool.endpoints
        error = UpstreamUnavailableError("gone")
        pauses = []
        for _ in range(14):
            endpoint.back()  # it answers /v1/models, and then fails at what it is asked
            endpoint.failed(error)
            pauses.append(endpoint.due - time.monotonic())
        assert [round(pause / 0.02) for pause in pauses[:4]] == [1, 2, 4, 8]
        assert 0 < pauses[-1] <= endpoint_module.LONGEST_PAUSE
        endpoint.answered()
        endpoint.failed(error)
        assert endpoint.due - time.monotonic() <= 0.02


def test_a_retry_after_is_respected() -> None:
    with serving([status(503, "loading", Retry_After="30"), says("a")]) as one, serving([says("b")]) as two:
        with backend_for(one, two) as backend:
            for _ in range(3):
                assert text(told(chat(backend))) == "b"
            wait = backend.pool.health()[0].next_try
            assert wait is not None
            assert 20 < wait <= 30


def test_all_of_them_down_is_no_refusal_at_once() -> None:
    """A request that comes while all are left out is a try of its own."""
    with serving([hangs_up, hangs_up, hangs_up, hangs_up, hangs_up, says("back")]) as one, backend_for(one) as backend:
        one.well = False
        with pytest.raises(UpstreamUnavailableError):
            told(chat(backend))
        assert reachable(backend) == [False]
        assert text(told(chat(backend))) == "back"
        assert reachable(backend) == [True]


def test_one_that_starts_later() -> None:
    port = free_port()
    with backend_for(f"http://127.0.0.1:{port}/v1") as backend:
        with pytest.raises(UpstreamUnavailableError):
            told(chat(backend))
        with serving([says("now")], port=port):
            wait_for(lambda: reachable(backend) == [True])
            assert text(told(chat(backend))) == "now"


def test_a_silent_one_is_left_out_and_not_waited_for_twice() -> None:
    with serving([silent]) as one, serving([says("b")]) as two, backend_for(one, two, timeout=0.1) as backend:
        one.well = False
        outcomes = []
        for _ in range(3):
            try:
                outcomes.append(text(told(chat(backend))))
            except UpstreamTimeoutError as error:
                outcomes.append(error.code or "")
        assert sorted(outcomes) == ["b", "b", "upstream_timeout"]


def test_a_busy_one_is_given_a_rest() -> None:
    with serving([status(429, "full", Retry_After="20")]) as one, serving([says("b")]) as two:
        with backend_for(one, two) as backend:
            assert [text(told(chat(backend))) for _ in range(3)] == ["b"] * 3
            assert reachable(backend) == [True, True]
        assert len(one.posts) <= 1


def test_busy_everywhere() -> None:
    with serving([status(429, "full", Retry_After="20")]) as one, backend_for(one) as backend:
        for _ in range(2):
            with pytest.raises(UpstreamBusyError) as caught:
                told(chat(backend))
            assert caught.value.status == 429
            assert caught.value.retry_after == 20
    assert len(one.posts) == 1  # the second time nobody was asked


def test_a_wrong_name_is_told_at_once() -> None:
    with serving([status(404, "The model `far` does not exist")]) as one, backend_for(one) as backend:
        with pytest.raises(UpstreamSetupError, match="has no model 'far'"):
            told(chat(backend))
    assert len(one.posts) == 1


# --- places and the line ------------------------------------------------------------------------------------------


def test_further_requests_wait_in_line() -> None:
    with serving([holds("a"), says("b"), says("c")]) as fake:
        with backend_for(fake, max_concurrent=1, queue_limit=2) as backend:
            first = chat(backend)
            started(first)
            second, third = chat(backend, beat=0.01), chat(backend, beat=0.01)
            assert next(second) == []
            assert next(third) == []
            fourth = chat(backend)
            with pytest.raises(QueueFullError, match="max_concurrent") as caught:
                next(fourth)
            assert caught.value.retry_after is not None
            assert len(fake.posts) == 1
            fake.release.set()
            told(first)
            assert next(third) == []  # the second one comes first, even if nobody asks it to go on just now
            assert text(told(second)) == "b"
            assert text(told(third)) == "c"
            assert under_way(backend) == [0]


def test_who_leaves_the_line_holds_nobody_up() -> None:
    with serving([holds("a"), says("b")]) as fake, backend_for(fake, max_concurrent=1, queue_limit=1) as backend:
        first = chat(backend)
        started(first)
        second = chat(backend, beat=0.01)
        assert next(second) == []
        second.close()
        third = chat(backend, beat=0.01)
        assert next(third) == []
        first.close()
        assert text(told(third)) == "b"


def test_the_prompts_of_one_request_do_not_wait_for_each_other() -> None:
    script = [events(text_piece(word, reason="stop"), b"[DONE]") for word in ("x", "y", "z")]
    request = CompletionRequest(model="far", prompts=("a", "b", "c"))
    with serving(script) as fake, backend_for(fake, max_concurrent=1, queue_limit=0) as backend:
        places = backend.pool.endpoints[0].places
        hold = places.take()
        assert hold is not None
        with pytest.raises(QueueFullError):  # there is no line at all
            told(backend.complete(request, Waiter(), BEAT))
        places.give(hold)
        found = told(backend.complete(request, Waiter(), BEAT))
    assert [text(found, index) for index in range(3)] == ["x", "y", "z"]


def test_places_are_counted_over_all_processes(tmp_path: Path) -> None:
    with ExitStack() as stack:
        fake = stack.enter_context(serving([holds("a"), holds("b"), says("c")]))
        one, two = (stack.enter_context(backend_for(fake, max_concurrent=2, runtime_dir=tmp_path)) for _ in range(2))
        answers = [chat(one), chat(two)]
        for answer in answers:
            started(answer)
        assert under_way(one) == under_way(two) == [2]
        third = chat(one, beat=0.01)
        assert next(third) == []
        answers[1].close()
        assert text(told(third)) == "c"
        answers[0].close()
        assert under_way(two) == [0]


HOLDER = """
import sys
from pathlib import Path
from janflask.inference.upstream.places import Places, open_places
places = Places(open_places(Path(sys.argv[1])), 0, 3)
print(places.take(), places.take(), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each process counts for itself")
def test_a_process_that_is_killed_gives_its_places_back(tmp_path: Path) -> None:
    path = tmp_path / "x.places"
    places = Places(open_places(path), 0, 3)
    command = [sys.executable, "-c", HOLDER, str(path)]
    holder = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"0 1\n"
        assert places.taken() == 2
        assert places.take() == 2
        assert places.take() is None
        holder.kill()
        holder.wait()
        assert places.taken() == 1
        assert places.take() == 0


def test_the_places_of_different_areas(tmp_path: Path) -> None:
    path = tmp_path / "x.places"
    one, two = open_places(path), open_places(path)
    here, there = Places(one, 10, 4), Places(two, 10, 4)
    elsewhere = Places(two, 14, 4)
    assert [here.take(), there.take(), here.take(), elsewhere.take()] == [0, 1, 2, 0]
    assert (here.taken(), there.taken(), elsewhere.taken()) == (3, 3, 1)
    here.give(0)
    assert there.take() == 0
    assert path.stat().st_mode & 0o077 == 0


def test_a_full_check_of_all() -> None:
    with serving([says("a")]) as one, serving([says("b")]) as two, backend_for(one, two) as backend:
        assert reachable(backend) == [None, None]
        two.well = False
        found = backend.pool.check_all(5.0)
        assert [health.reachable for health in found] == [True, False]
        assert found[1].error is not None
        assert "not well" in found[1].error
        assert found[1].since is not None
        two.well = True
        wait_for(lambda: reachable(backend) == [True, True])  # what a check finds is taken back, too


def test_a_check_has_its_own_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        with backend_for(f"http://127.0.0.1:{deaf.getsockname()[1]}/v1") as backend:
            (health,) = backend.pool.check_all(0.05)
    assert health.reachable is False
    assert health.error is not None
    assert health.error.endswith("did not answer /models within 0.05 s")


def test_a_storm_leaves_nothing_behind(tmp_path: Path) -> None:
    """Many threads, servers that misbehave at random, clients that leave: every place, socket and ticket comes back."""
    chance = random.Random(7)
    bad = [hangs_up, breaks("a"), breaks(), events(), status(500), status(429), status(400, "bad"), silent]
    good = [says("a", " b"), closes_after(says("a", " b"))]

    def act(handler: Handler) -> None:
        with handler.fake.lock:
            behaviour = chance.choice([*good, *good, *good, *good, *bad])
        behaviour(handler)

    def client(number: int, backend: UpstreamBackend, seen: list[str]) -> None:
        own = random.Random(number)
        for _ in range(8):
            answer = chat(backend, beat=0.01)
            try:
                for count, _batch in enumerate(answer):
                    if own.random() < 0.1 and count:
                        seen.append("left")
                        answer.close()
                        break
                else:
                    seen.append("whole")
            except JanflaskError as error:
                seen.append(error.code or "")

    descriptors = Path("/proc/self/fd")
    before = _open(descriptors)
    with serving([act]) as one, serving([act]) as two:
        with backend_for(one, two, max_concurrent=3, queue_limit=4, timeout=0.2, runtime_dir=tmp_path) as backend:
            seen: list[str] = []
            threads = [threading.Thread(target=client, args=(number, backend, seen)) for number in range(12)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert under_way(backend) == [0, 0]
            assert backend.pool.waiting() == 0
            assert len(seen) == 12 * 8
            assert "whole" in seen
            assert set(seen) <= {"whole", "left", "queue_full", "invalid_request"} | UPSTREAM_CODES
    del backend
    gc.collect()
    wait_for(lambda: _open(descriptors) <= before)


def _open(descriptors: Path) -> int:
    """How many descriptors this process has; 0 where it cannot be told."""
    return len(list(descriptors.iterdir())) if descriptors.is_dir() else 0
