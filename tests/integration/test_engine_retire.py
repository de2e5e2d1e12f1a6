"""An engine that is asked to go: it goes if it has nothing to do, and no request is lost between the two."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from janflask.engine.__main__ import _await_end
from janflask.errors import EngineCrashedError
from janflask.ipc.channel import Channel
from janflask.ipc.clients.engine import engine_text, open_generation
from janflask.ipc.frames import FrameReader, Message, encode
from janflask.ipc.messages.engine import Done, Retire, Retired, Shutdown, Started
from tests.integration.test_engine_server import LIMIT, Engine, collect, engine, greedy

__all__ = ["engine"]


def gone(path: str) -> bool:
    """Nobody listens there, or whoever did has hung up before its first word."""
    try:
        with open_generation(path, greedy("late")) as generation:
            while generation.wait(LIMIT):
                generation.receive()
    except EngineCrashedError:
        return True
    return False


def test_an_idle_engine_goes(engine: Engine) -> None:
    with open_generation(engine.path, greedy("first", max_tokens=3)) as generation:
        collect(generation)
    engine.wait_for(lambda: engine.stats().idle_seconds > 0, "resting")
    assert engine.server.retire()
    assert gone(engine.path)


def test_one_with_a_request_under_way_stays(engine: Engine) -> None:
    engine.context.gate.clear()
    with open_generation(engine.path, greedy("first", max_tokens=3)) as generation:
        engine.wait_for(lambda: engine.loop.scheduler.running, "a generation")
        assert not engine.server.retire()
        assert engine.stats().idle_seconds == 0
        engine.context.gate.set()
        collect(generation)
    with open_generation(engine.path, greedy("next", max_tokens=3)) as generation:
        collect(generation)


def test_one_whose_last_words_are_not_read_stays(engine: Engine) -> None:
    """Its loop is at rest, but the client has not got everything."""
    engine.wait_for(engine.loop.is_resting, "resting")
    with open_generation(engine.path, greedy("first", max_tokens=1)) as generation:
        collect(generation)
        engine.wait_for(engine.loop.is_resting, "resting")
        (connection,) = engine.server._connections
        connection._out += b"!"
        assert not engine.server.retire()
        connection._out.clear()


def test_one_whose_client_has_not_left_stays(engine: Engine) -> None:
    """It may have more to ask: a completion's next prompt."""
    with open_generation(engine.path, greedy("first", max_tokens=1)) as generation:
        collect(generation)
        engine.wait_for(engine.loop.is_resting, "resting")
        assert not engine.server.retire()
    engine.wait_for(engine.server.retire, "retired")


def test_idle_seconds_count_from_the_last_request(engine: Engine) -> None:
    now = 1000.0
    engine.wait_for(engine.loop.is_resting, "resting")
    engine.loop.clock = engine.loop.answers.clock = lambda: now
    with open_generation(engine.path, greedy("first", max_tokens=1)) as generation:
        collect(generation)
    engine.wait_for(engine.loop.is_resting, "resting")
    now = 1060.0
    assert engine.stats().idle_seconds == 60.0
    engine_text(engine.path, (65,), LIMIT)
    now = 1070.0
    assert engine.stats().idle_seconds == 10.0, "to be asked for tokens is to be in use, to be asked how it is is not"


def test_every_request_is_either_served_or_never_begun(engine: Engine) -> None:
    """From the first frame on a client may count on the engine; before it, on being able to ask another."""
    served, refused = 0, 0
    retired = threading.Event()

    def ask(number: int) -> bool:
        try:
            generation = open_generation(engine.path, greedy(f"{number}", max_tokens=2))
        except EngineCrashedError:
            return False
        messages: list[Message] = []
        with generation:
            while not generation.done:
                assert generation.wait(LIMIT)
                try:
                    messages += generation.receive()
                except EngineCrashedError:
                    assert messages == []
                    return False
        assert isinstance(messages[0], Started)
        assert isinstance(messages[-1], Done)
        return True

    def keep_asking(number: int) -> None:
        nonlocal served, refused
        while not retired.is_set() or not refused:
            if ask(number):
                served += 1
            else:
                refused += 1

    with ThreadPoolExecutor(2) as pool:
        askers = [pool.submit(keep_asking, number) for number in range(2)]
        deadline = time.monotonic() + LIMIT
        while not engine.server.retire():
            assert time.monotonic() < deadline, "it was never at rest"
        retired.set()
        for asker in askers:
            asker.result(LIMIT)
    assert refused


class Ear:
    """The supervisor's end of the cord."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.reader = FrameReader()
        sock.settimeout(LIMIT)

    def say(self, message: Message) -> None:
        self.sock.sendall(encode(message))

    def hear(self) -> Message:
        while (message := self.reader.next()) is None:
            self.reader.feed(self.sock.recv(4096))
        return message


@pytest.mark.parametrize("answers", [[True], [False, False, True]], ids=["at once", "at last"])
def test_the_cord_asks_and_ends_the_loop(answers: list[bool]) -> None:
    ours, theirs = socket.socketpair()
    stopped: list[bool] = []
    given = iter(answers)
    with ours, theirs:
        ear = Ear(ours)
        thread = threading.Thread(
            target=_await_end, args=(Channel(theirs, "parent"), lambda: next(given), lambda: stopped.append(True))
        )
        thread.start()
        for answer in answers:
            assert not stopped
            ear.say(Retire())
            assert ear.hear() == Retired(answer)
        thread.join(LIMIT)
        assert stopped == [True]


def test_the_cord_still_hears_a_shutdown_after_a_refusal() -> None:
    ours, theirs = socket.socketpair()
    stopped = threading.Event()
    with ours, theirs:
        ear = Ear(ours)
        thread = threading.Thread(target=_await_end, args=(Channel(theirs, "parent"), lambda: False, stopped.set))
        thread.start()
        ear.say(Retire())
        assert ear.hear() == Retired(False)
        ear.say(Shutdown())
        thread.join(LIMIT)
        assert stopped.is_set()


def test_the_socket_is_not_left_in_the_way(engine: Engine, tmp_path: Path) -> None:
    engine.wait_for(engine.loop.is_resting, "resting")
    assert engine.server.retire()
    engine.wait_for(lambda: engine.server._listener.fileno() < 0, "closing")
