"""One chat template in a process of its own, which can be killed; see ``template_renderer``."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from janflask.decoding import json_decoder
from janflask.errors import InvalidRequestError, TemplateGivenUpError

RENDERER = Path(__file__).with_name("template_renderer.py")
LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Rendered:
    """What came of one rendering: a text, or the reason why there is none."""

    text: str = ""
    error: str | None = None


class TemplateRenderer:
    """One template in a process of its own, started when it is needed and again after it was killed. Thread-safe."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None

    def render(self, contexts: Sequence[Mapping[str, Any]]) -> list[Rendered]:
        """One answer for each context; all of them together have the time and the length that one rendering may have.

        Raises TemplateGivenUpError when the process had to be killed.
        """
        frame = _frame(contexts)
        with self._lock:
            answers = self._ask(frame)
        if answers is None:
            given_up = refusal("it was given up, since it ran too long or needed too much memory")
            raise TemplateGivenUpError(given_up.message, param=given_up.param, code=given_up.code)
        return [Rendered(**answer) for answer in answers]

    def close(self) -> None:
        """Ends the process, if there is one."""
        with self._lock:
            self._end()

    def _ask(self, frame: bytes) -> list[dict[str, str]] | None:
        process = self._running()
        stdin, stdout = _pipes(process)
        try:
            stdin.write(frame)
            stdin.flush()
            header = stdout.read(LENGTH.size)
            body = stdout.read(LENGTH.unpack(header)[0]) if len(header) == LENGTH.size else b""
            return json_decoder(list[dict[str, str]]).decode(body)
        except (OSError, msgspec.DecodeError):
            self._end()
            return None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        # A session of its own: Ctrl-C in the server's terminal is for the server, which then closes our pipe.
        process = subprocess.Popen(
            [sys.executable, "-P", str(RENDERER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._process, self._finalizer = process, weakref.finalize(self, _end_process, process)
        stdin, _ = _pipes(process)
        stdin.write(_frame({"template": self.source}))
        return process

    def _end(self) -> None:
        if self._finalizer is not None:
            self._finalizer()
        self._process = self._finalizer = None


def refusal(reason: str) -> InvalidRequestError:
    """What a client is told when the template gives no prompt."""
    return InvalidRequestError(
        f"the model's chat template refuses these messages: {reason}", param="messages", code="chat_template_error"
    )


def _frame(content: Any) -> bytes:
    body = msgspec.json.encode(content)
    return LENGTH.pack(len(body)) + body


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the template renderer was started without pipes")
    return process.stdin, process.stdout


def _end_process(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in _pipes(process):
        try:
            pipe.close()
        except BrokenPipeError:  # what was not yet written to a process that is gone
            continue
    process.wait()
