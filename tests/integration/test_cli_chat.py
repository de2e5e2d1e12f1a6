"""``janflask chat`` at a real terminal: Ctrl-C, Ctrl-D and the commands, typed into a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.integration.cli_server import FakeServer, serving

DONE, HANG = FakeServer.DONE, FakeServer.HANG
CTRL_C, CTRL_D = "\x03", "\x04"
DEADLINE = 30.0  # seconds; only a failing test waits that long

# The child takes the pseudo-terminal as its controlling one, so that Ctrl-C typed there is a signal to it.
CHILD = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from janflask.cli import main
main()
"""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A program at a pseudo-terminal: type, and wait for what it shows."""

    def __init__(self, *args: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, *args],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
        )
        os.close(slave)
        self._shown = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, text: str) -> str:
        """What was shown up to and with ``text``; a later call goes on behind it."""
        if not self._shows(text, DEADLINE):
            raise AssertionError(f"{text!r} is not in {self._shown!r}")
        before, found, self._shown = self._shown.partition(text)
        return before + found

    def type_until(self, key: str, text: str) -> None:
        """Presses a key until something is shown: line editing misses a signal that comes while it draws a letter."""
        end = time.monotonic() + DEADLINE
        self.type(key)
        while not self._shows(text, 0.5) and time.monotonic() < end:
            self.type(key)
        self.wait_for(text)

    def _shows(self, text: str, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while text not in self._shown:
            ready, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
            data = self._read() if ready else b""
            if not data:
                return False
            self._shown += ESCAPES.sub("", data.decode("utf-8", "replace"))
        return True

    def _read(self) -> bytes:
        try:
            return os.read(self._master, 65536)
        except OSError:  # how Linux tells that the other side is closed
            return b""

    def exit_code(self) -> int:
        while self._read():
            pass
        return self.process.wait(DEADLINE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving() as fake:
        yield fake


@pytest.fixture
def terminal(server: FakeServer) -> Iterator[Terminal]:
    shown = Terminal("chat", "tiny", "--url", server.url)
    shown.wait_for("> ")
    yield shown
    shown.close()


def ask(terminal: Terminal, question: str) -> None:
    terminal.type(question + "\n")
    terminal.wait_for(question)


def test_ctrl_c_stops_the_answer_and_not_the_program(server: FakeServer, terminal: Terminal) -> None:
    server.answers = [["Once upon", " a time", HANG], ["The end.", DONE]]
    ask(terminal, "A story")
    terminal.wait_for("Once upon a time")
    terminal.type(CTRL_C)
    terminal.wait_for("(stopped)")
    assert server.client_gone.wait(DEADLINE)
    terminal.wait_for("> ")
    ask(terminal, "Go on")
    terminal.wait_for("The end.")
    assert server.chats[1]["messages"] == [
        {"role": "user", "content": "A story"},
        {"role": "assistant", "content": "Once upon a time"},
        {"role": "user", "content": "Go on"},
    ]
    terminal.wait_for("> ")
    terminal.type(CTRL_D)
    assert terminal.exit_code() == 0


def test_ctrl_c_before_the_first_word_forgets_the_question(server: FakeServer, terminal: Terminal) -> None:
    server.answers = [[b": loading the model\n\n", HANG], ["Yes.", DONE]]
    ask(terminal, "First")
    terminal.wait_for("loading the model…")
    terminal.type(CTRL_C)
    terminal.wait_for("(stopped)")
    ask(terminal, "Second")
    terminal.wait_for("Yes.")
    assert server.chats[1]["messages"] == [{"role": "user", "content": "Second"}]


def test_a_refusal_ends_an_answer_and_not_the_program(server: FakeServer, terminal: Terminal) -> None:
    refusal = {"choices": [{"index": 0, "delta": {"refusal": "the answer does not fit"}}]}
    server.answers = [["{}", refusal, DONE], ["Yes.", DONE]]
    ask(terminal, "First")
    terminal.wait_for("Error: the answer does not fit")
    ask(terminal, "Second")
    terminal.wait_for("Yes.")


def test_ctrl_c_at_the_prompt_gives_a_new_one(server: FakeServer, terminal: Terminal) -> None:
    server.answers = [["Yes.", DONE]]
    terminal.type("half a quest")
    terminal.wait_for("half a quest")
    terminal.type_until(CTRL_C, "> ")
    ask(terminal, "Whole")
    terminal.wait_for("Yes.")
    assert server.chats[0]["messages"] == [{"role": "user", "content": "Whole"}]


def test_a_line_can_be_edited_and_recalled(server: FakeServer, terminal: Terminal) -> None:
    server.answers = [["One.", DONE], ["Two.", DONE]]
    terminal.type("wrong\x15right\n")  # Ctrl-U deletes the line
    terminal.wait_for("One.")
    terminal.wait_for("> ")
    terminal.type("\x10\n")  # Ctrl-P is the line before
    terminal.wait_for("Two.")
    assert [body["messages"][-1]["content"] for body in server.chats] == ["right", "right"]


def test_the_commands(server: FakeServer, terminal: Terminal) -> None:
    server.answers = [["One.", DONE], ["Two.", DONE]]
    ask(terminal, "First")
    terminal.wait_for("One.")
    ask(terminal, "/help")
    terminal.wait_for("forget the conversation")
    ask(terminal, "/nonsense")
    terminal.wait_for("There is no /nonsense.")
    ask(terminal, "/clear")
    terminal.wait_for("forgotten")
    ask(terminal, "Second")
    terminal.wait_for("Two.")
    assert server.chats[1]["messages"] == [{"role": "user", "content": "Second"}]
    terminal.type("/exit\n")
    assert terminal.exit_code() == 0


def test_an_error_ends_the_answer_and_not_the_program(server: FakeServer, terminal: Terminal) -> None:
    server.answers = [[b'data: {"error": {"message": "the engine crashed"}}\n\n'], ["Back.", DONE]]
    ask(terminal, "First")
    terminal.wait_for("Error: the engine crashed")
    ask(terminal, "Second")
    terminal.wait_for("Back.")
    assert server.chats[1]["messages"] == [{"role": "user", "content": "Second"}]


def test_a_model_cannot_send_escape_sequences_to_the_terminal(server: FakeServer, terminal: Terminal) -> None:
    server.answers = [["a\x1b]0;title\x07b\tc\nd", DONE]]
    ask(terminal, "First")
    assert "a\ufffd]0;title\ufffdb" in terminal.wait_for("d\r\n> ")
