"""An engine without a model: it speaks the protocol and misbehaves as it is told.

What to do is in the "GGUF", a text file that the supervisor takes for the model's path. Lines are words:

``progress``                 report the stages of a start
``sleep SECONDS``            take that long to start
``hang``                     never become ready
``hold-gil SECONDS``         become ready, then hold the GIL in native code for that long
``error MESSAGE``            report a ModelLoadError
``exit CODE``                exit with it before being ready, after a line on stderr
``signal NAME``              die of that signal before being ready
``signal-with-extra-bufts NAME``   the same, unless use_extra_bufts is false
``crash-after SECONDS``      become ready, then exit with code 9
``garbage``                  write something that is no frame
``deaf``                     ignore Shutdown and SIGTERM
``busy``                     say of itself that it has something to do, whatever happens
``idle SECONDS``             say of itself that it has had nothing to do for that long, when there is nothing
``stalls SECONDS``           say that its loop stands still while a request is under way; a step may take so long
``mute``                     answer no Retire
``slow-end SECONDS``         take that long to end, and leave a file ``ended`` beside the model
``child``                    note the process id in a file beside the model (always done), nothing more

It listens, and answers each ``Generate`` with Started, three chunks, Finished and Done; ``GetStats`` with Stats;
``Retire`` by ending if no request is under way. A spare one says that it waits.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from janflask.errors import InvalidRequestError, ModelLoadError
from janflask.ipc.frames import FrameReader, Message, encode
from janflask.ipc.messages.engine import (
    Chunk,
    Done,
    Finished,
    Generate,
    GetStats,
    Launch,
    Progress,
    Ready,
    Retire,
    Retired,
    Shutdown,
    Started,
    Stats,
)
from janflask.ipc.messages.error import ErrorReply
from janflask.ipc.messages.generation import Timings, Usage
from janflask.ipc.messages.launch import EngineSpec
from janflask.models.engine_info import EngineInfo, EngineStats, Knobs
from janflask.processes import lifeline


def read_message(connection: socket.socket, reader: FrameReader) -> Message | None:
    while (message := reader.next()) is None:
        data = connection.recv(65536)
        if not data:
            return None
        reader.feed(data)
    return message


def info(spec: EngineSpec) -> EngineInfo:
    knobs = Knobs(flash_attn=False, kv_unified=False, slice_size=64, cpu_threads=1, source="pinned")
    return EngineInfo(
        model_id=spec.model_id,
        model_path=spec.model_path,
        description="fake 0B",
        architecture="fake",
        n_params=0,
        size_bytes=0,
        n_vocab=1,
        ctx_train=64,
        ctx_len=spec.settings.ctx_len or 64,
        n_parallel=1,
        kv_cells=64,
        chat_template=None,
        bos_token="",
        eos_token="",
        add_bos=False,
        can_share_prefix=True,
        use_extra_bufts=spec.settings.use_extra_bufts,
        knobs=knobs,
        load_seconds=0.0,
        llama_version="0",
        metadata={} if spec.prompt_template is None else {"prompt_template": spec.prompt_template},
    )


STATS = EngineStats(
    slots=1,
    busy=0,
    waiting=0,
    kv_cells=64,
    kv_used=0,
    requests=0,
    prompt_tokens=0,
    cached_tokens=0,
    generated_tokens=0,
    preempted=0,
    cancelled=0,
    steps=0,
)
TIMINGS = Timings(cache_n=0, prompt_n=1, prompt_ms=1.0, predicted_n=3, predicted_ms=1.0, queue_ms=0.0)


class Activity:
    """Requests under way, and when the last one ended."""

    def __init__(self, orders: list[list[str]]) -> None:
        self.always_busy = ["busy"] in orders
        self.claimed = next((float(order[1]) for order in orders if order[0] == "idle"), 0.0)
        self.longest_step = next((float(order[1]) for order in orders if order[0] == "stalls"), None)
        self.lock = threading.Lock()
        self.active = 0
        self.retired = False
        self.last = time.monotonic()

    def begin(self) -> bool:
        """False: no requests are taken any more."""
        with self.lock:
            self.active += not self.retired
            return not self.retired

    def end(self) -> None:
        with self.lock:
            self.active -= 1
            self.last = time.monotonic()

    def retire(self) -> bool:
        with self.lock:
            self.retired = not self.active and not self.always_busy
            return self.retired

    def stats(self) -> EngineStats:
        with self.lock:
            if self.active and self.longest_step is not None:
                stalled = time.monotonic() - self.last
                return replace(STATS, busy=1, stalled_seconds=stalled, longest_step_seconds=self.longest_step)
            if self.active or self.always_busy:
                return replace(STATS, busy=1)
            return replace(STATS, idle_seconds=max(self.claimed, time.monotonic() - self.last))


def answer(connection: socket.socket, activity: Activity) -> None:
    reader = FrameReader()
    with connection:
        while (message := read_message(connection, reader)) is not None:
            if isinstance(message, GetStats):
                connection.sendall(encode(Stats(activity.stats())))
            elif isinstance(message, Generate):
                if not activity.begin():
                    return
                try:
                    generate(connection, message)
                finally:
                    activity.end()


def generate(connection: socket.socket, message: Generate) -> None:
    """``prompt`` steers: ``hang`` sends nothing after Started, ``error`` ends with an ErrorReply.

    ``slow N`` sends so many chunks, ten a second.
    """
    connection.sendall(encode(Started(1)))
    if message.request.prompt == "hang":
        connection.recv(1)  # until the client goes
        return
    word, _, times = message.request.prompt.partition(" ")
    slow = word == "slow"
    for text in "a" * int(times) if slow else "abc":
        connection.sendall(encode(Chunk(0, text)))
        time.sleep(0.1 * slow)
    if message.request.prompt == "error":
        connection.sendall(encode(ErrorReply.of(InvalidRequestError("told to", param="prompt"))))
        return
    usage = Usage(prompt_tokens=1, completion_tokens=3, cached_tokens=0)
    connection.sendall(encode(Finished(0, "stop")) + encode(Done(usage, TIMINGS)))


def listen(path: str, activity: Activity) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(connection, activity), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def die_of(name: str) -> None:
    number = signal.Signals[name]
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    time.sleep(10)


def start_up(channel: socket.socket, spec: EngineSpec, orders: list[list[str]]) -> None:
    for word, *arguments in orders:
        match word:
            case "progress":
                channel.sendall(encode(Progress("loading", 0.5)) + encode(Progress("proving", 0.0)))
            case "sleep":
                time.sleep(float(arguments[0]))
            case "hang":
                time.sleep(600)
            case "error":
                channel.sendall(encode(ErrorReply.of(ModelLoadError(" ".join(arguments)))))
                sys.exit(1)
            case "exit":
                print("the fake engine's last words", file=sys.stderr, flush=True)
                sys.exit(int(arguments[0]))
            case "signal":
                die_of(arguments[0])
            case "signal-with-extra-bufts":
                if spec.settings.use_extra_bufts:
                    die_of(arguments[0])
            case "garbage":
                channel.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            case "deaf":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)


def after_ready(channel: socket.socket, model: Path, orders: list[list[str]], activity: Activity) -> None:
    slow_end = 0.0
    for word, *arguments in orders:
        if word == "crash-after":
            time.sleep(float(arguments[0]))
            os._exit(9)
        elif word == "hold-gil":
            ctypes.PyDLL(None).usleep(int(float(arguments[0]) * 1e6))  # PyDLL keeps the GIL
        elif word == "slow-end":
            slow_end = float(arguments[0])
    reader = FrameReader()
    while (message := read_message(channel, reader)) is not None:
        ends = isinstance(message, Shutdown) and ["deaf"] not in orders
        if isinstance(message, Retire) and ["mute"] not in orders:
            idle = activity.retire()
            channel.sendall(encode(Retired(idle)))
            ends = idle and ["deaf"] not in orders
        if ends:
            time.sleep(slow_end)
            if slow_end:
                model.with_name("ended").touch()
            sys.exit(0)


def open_files() -> list[str]:
    """What every descriptor of this process is."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except FileNotFoundError:  # the one that read the folder
            continue
    return sorted(found)


def main() -> None:
    lifeline.hold_from_env(kill=True)
    channel = socket.socket(fileno=int(os.environ["JANFLASK_ENGINE_FD"]))
    if os.environ.get("JANFLASK_ENGINE_SPARE") == "1":
        channel.sendall(encode(Progress("waiting", 1.0)))
    launch = read_message(channel, FrameReader())
    if launch is None:
        return
    if not isinstance(launch, Launch):
        raise SystemExit(f"no Launch but {launch!r}")
    if launch.log_path is not None:
        with Path(launch.log_path).open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
    spec = launch.spec
    model = Path(spec.model_path)
    with model.with_name("pids").open("a") as file:
        file.write(f"{os.getpid()}\n")
    model.with_name("files").write_text("\n".join(open_files()))
    orders = [line.split() for line in model.read_text().splitlines() if line.strip()]
    start_up(channel, spec, orders)
    activity = Activity(orders)
    listen(spec.socket_path, activity)
    channel.sendall(encode(Ready(info(spec))))
    after_ready(channel, model, orders, activity)


if __name__ == "__main__":
    main()
