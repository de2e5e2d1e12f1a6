"""Runs a long command quietly: its output goes to a log file, one line of progress to the terminal.

``python -m tools.progress LABEL LOG COMMAND...`` does so for a command of the Makefile.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TextIO

TAIL = 40  # lines of the log that are shown when a command fails
TERMINAL_INTERVAL = 0.2  # seconds between two redraws of the line
GRACE = 5.0  # seconds from SIGTERM to SIGKILL
LOG_INTERVAL = 5.0  # the same where the output is no terminal, and every redraw is a line

_NINJA_STEP = re.compile(r"\[\s*(\d+)/(\d+)\]")
_MAKE_STEP = re.compile(r"\[\s*(\d+)%\]")
_OBJECT = re.compile(r"(?:^|[/\s])([\w.+-]+\.(?:cpp|cxx|cc|c|cu|m|metal))(?:\.o)?(?:\s|$)")
_PIP_PHASES = (
    (re.compile(r"^\s*Downloading "), "downloading"),
    (re.compile(r"^\s*Installing collected"), "installing"),
    (re.compile(r"^\s*(?:Collecting|Getting|Installing build|Preparing)"), "preparing"),
    (re.compile(r"^\s*(?:\*\*\* Configuring|-- )"), "configuring"),
    (re.compile(r"^\s*Building (?:wheel|editable)"), "building"),
    (re.compile(r"^\s*(?:-- Install|\*\*\* Making wheel|\*\*\* Installing)"), "packing"),
)


class CommandError(Exception):
    """A command ended with a status other than 0; the message holds the end of its output."""


class Phase:
    """What a build is doing, told from the lines that pip, CMake, ninja and make print."""

    def __init__(self) -> None:
        self.text = "preparing"

    def read(self, line: str) -> None:
        """Takes one line of output; one that says nothing about progress changes nothing."""
        if match := _NINJA_STEP.match(line.strip()):
            done, total = int(match[1]), int(match[2])
            self._compiling(f"{100 * done // max(total, 1):3d}% [{done}/{total}]", line)
        elif match := _MAKE_STEP.match(line.strip()):
            self._compiling(f"{int(match[1]):3d}%", line)
        else:
            for pattern, text in _PIP_PHASES:
                if pattern.match(line):
                    self.text = text

    def _compiling(self, share: str, line: str) -> None:
        sources = _OBJECT.findall(line)
        self.text = f"{share} {sources[-1]}" if sources else share


class ProgressLine:
    """One line, redrawn in place on a terminal, written again from time to time anywhere else.

    Of the processes that share a terminal one redraws its line, and the next when that one has ended.
    """

    def __init__(self, label: str, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._label = label
        self._stream = stream
        self._clock = clock
        self._terminal = stream.isatty()
        self._interval = TERMINAL_INTERVAL if self._terminal else LOG_INTERVAL
        self._start = clock()
        self._next = self._start

    @property
    def elapsed(self) -> str:
        """Time since the start as minutes and seconds."""
        seconds = int(self._clock() - self._start)
        return f"{seconds // 60}:{seconds % 60:02d}"

    def show(self, text: str) -> None:
        """Draws the line if it is time to."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + self._interval
        if self._terminal and not self._may_redraw():
            return
        line = f"{self._label} {self.elapsed}  {text}"
        self._stream.write(f"\r\x1b[K{line[:100]}" if self._terminal else f"{line}\n")
        self._stream.flush()

    def _may_redraw(self) -> bool:
        """Whether no other process redraws a line there; takes a lock that the kernel gives back when we end."""
        try:
            fcntl.lockf(self._stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        except OSError:
            return True  # no such locks on this system's terminals: lines may cover each other
        return True

    def finish(self, text: str) -> None:
        """Leaves a last line behind."""
        self._stream.write(f"{chr(13)}\x1b[K" if self._terminal else "")
        self._stream.write(f"{self._label} {self.elapsed}  {text}\n")
        self._stream.flush()


def run_logged(
    command: Sequence[str], *, label: str, log: Path, env: Mapping[str, str], stream: TextIO | None = None
) -> None:
    """Runs ``command`` with its output in ``log`` and a progress line on ``stream`` (standard output by default).

    The command and all its children end with us: on any way out that leaves it running (Ctrl-C, a SIGTERM turned into
    an exception) its process group is terminated first.

    Raises:
        CommandError: it failed; the message ends with the last lines of its output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    line, phase = ProgressLine(label, stream or sys.stdout), Phase()
    process = None
    with log.open("wb") as out:
        try:
            with _signals_held():
                # A session of its own makes it the leader of a group that can be ended as a whole.
                process = subprocess.Popen(
                    command,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    bufsize=0,
                    start_new_session=True,
                )
            if process.stdout is None:
                raise RuntimeError("a pipe was asked for and not given")
            _follow(process.stdout, out, phase, line)
            status = process.wait()
        finally:
            if process is not None:
                _end(process)
    if status != 0:
        line.finish(f"failed (status {status})")
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL:])
        raise CommandError(f"{tail}\n\n{label} failed. The whole output is in {log}")
    line.finish("done")


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Lets SIGTERM and SIGINT take effect only at the end of the block.

    A child may run before ``Popen`` has returned; an exception raised there would leave it behind. Blocking the signals
    instead would not do: the child would inherit that.
    """
    arrived: list[int] = []
    held = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda number, frame: arrived.append(number)) for number in held]
    try:
        yield
    finally:
        for number, handler in zip(held, before, strict=True):
            signal.signal(number, handler)
    for late in arrived:
        signal.raise_signal(late)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that leads its group, if it still runs, and the group with it; closes our end of its pipe."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _follow(source: IO[bytes], out: IO[bytes], phase: Phase, line: ProgressLine) -> None:
    """Copies ``source`` to ``out`` until it ends, with a look at the clock at least once a second."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        while True:
            if selector.select(timeout=1.0):
                data = os.read(source.fileno(), 65536)
                if not data:
                    return
                out.write(data)
                *lines, rest = (rest + data).split(b"\n")
                for item in lines:
                    phase.read(item.decode(errors="replace"))
            line.show(phase.text)


def exit_on_sigterm() -> None:
    """Turns SIGTERM, which make sends to what it runs, into SystemExit, so that clean-up happens as on Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def exit_status(what: str, work: Callable[[], None], *errors: type[Exception]) -> int:
    """Does a program's work. Gives its exit status: 1 if a command failed or one of ``errors`` came, which is told."""
    told: tuple[type[Exception], ...] = (CommandError, OSError, *errors)
    exit_on_sigterm()
    try:
        work()
    except told as error:
        print(f"{what}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def main() -> int:
    """Runs the command line's command; its exit status is 1 if the command failed."""
    if len(sys.argv) < 4:
        print("usage: python -m tools.progress LABEL LOG COMMAND...", file=sys.stderr)
        return 2
    exit_on_sigterm()
    label, log, *command = sys.argv[1:]
    try:
        run_logged(command, label=label, log=Path(log), env=os.environ)
    except (CommandError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
