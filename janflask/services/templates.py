"""From messages to the prompt that a model was trained to see.

Which layout is used, in this order:

1. Jan's ``prompt_template`` (``{system_message}``, ``{prompt}``) when the model's settings hold one,
2. the chat template inside the GGUF, a Jinja2 program (rendered in a process of its own, see ``template_renderer``),
3. ChatML.

Jan's template describes one exchange. Its text is cut at the two places: ``before {system_message} between {prompt}
after``. A conversation is ``before``, the system message, then for each turn ``between``, the user's words, ``after``,
the assistant's answer; the last turn ends with ``after``. Without ``{system_message}`` in it, the system message goes
in front of the first user's words.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from janflask.errors import ConflictError, InvalidRequestError
from janflask.types import ChatMessage, EngineInfo

RENDERER = Path(__file__).with_name("template_renderer.py")
MAX_RENDERERS = 4  # processes of one worker: one for each model's template that is in use
LENGTH = struct.Struct(">I")
RESERVED = frozenset({"messages", "add_generation_prompt", "bos_token", "eos_token"})


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation laid out as text.

    ``add_special`` is false when the text already starts with the model's BOS token: a second one would confuse it.
    ``stop`` are strings that end a turn in a layout the model's own end-of-turn token may not know.
    """

    text: str
    add_special: bool
    stop: tuple[str, ...] = ()


class ChatTemplates:
    """Lays out conversations. Thread-safe; one renderer process for each Jinja2 template in use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._renderers: OrderedDict[str, TemplateRenderer] = OrderedDict()

    def prompt(
        self,
        messages: Sequence[ChatMessage],
        info: EngineInfo,
        jan_template: str | None,
        variables: Mapping[str, Any] | None = None,
        *,
        ask: bool = True,
    ) -> Prompt:
        """The prompt that asks for the next assistant message; without ``ask`` only what was said so far.

        (Jan's template cannot say the user's words without asking for an answer.)

        Raises InvalidRequestError with the template's own words when it refuses the conversation (or fails), and
        ConflictError when the model's ``prompt_template`` has no ``{prompt}``.
        """
        for name in RESERVED & set(variables or ()):
            raise InvalidRequestError(
                f"chat_template_kwargs can't set {name}: the server does", param=f"chat_template_kwargs.{name}"
            )
        stop: tuple[str, ...] = ()
        if jan_template:
            text = render_jan(jan_template, messages, ask=ask)
        elif info.chat_template:
            text = self._renderer(info.chat_template).render(_context(messages, info, variables or {}, ask))
        else:
            text, stop = render_chatml(messages, ask=ask), ("<|im_end|>",)
        return Prompt(text, needs_special(text, info), stop)

    def close(self) -> None:
        """Ends the renderer processes."""
        with self._lock:
            renderers = list(self._renderers.values())
            self._renderers.clear()
        for renderer in renderers:
            renderer.close()

    def _renderer(self, source: str) -> TemplateRenderer:
        with self._lock:
            renderer = self._renderers.get(source) or TemplateRenderer(source)
            self._renderers[source] = renderer
            self._renderers.move_to_end(source)
            oldest = self._renderers.popitem(last=False)[1] if len(self._renderers) > MAX_RENDERERS else None
        if oldest is not None:
            oldest.close()
        return renderer


def needs_special(text: str, info: EngineInfo) -> bool:
    """Whether the tokenizer should add its special tokens: not when ``text`` brings the BOS token itself."""
    return not (info.add_bos and info.bos_token and text.startswith(info.bos_token))


def render_chatml(messages: Sequence[ChatMessage], *, ask: bool = True) -> str:
    """ChatML, the layout to try when a model says nothing of its own."""
    turns = "".join(f"<|im_start|>{_role(message)}\n{message.content}<|im_end|>\n" for message in messages)
    return turns + "<|im_start|>assistant\n" * ask


def render_jan(template: str, messages: Sequence[ChatMessage], *, ask: bool = True) -> str:
    """Jan's ``prompt_template`` over a whole conversation. Raises ConflictError when it has no ``{prompt}``."""
    head, placeholder, after = template.partition("{prompt}")
    if not placeholder:
        raise ConflictError("the model's settings.prompt_template holds no {prompt}: add it, or remove the template")
    before, has_system, between = head.partition("{system_message}")
    if not has_system:
        before, between = "", head
    system = "\n\n".join(message.content for message in messages if _role(message) == "system")
    turns: list[list[list[str]]] = [[[], []]]  # for each turn what the user's side said, and the assistant's
    for message in messages:
        if message.role == "assistant":
            turns[-1][1].append(message.content)
        elif _role(message) != "system":
            if turns[-1][1]:
                turns.append([[], []])
            turns[-1][0].append(message.content)
    if ask and turns[-1][1]:  # the assistant spoke last: the next words are asked of it without new ones from the user
        turns.append([[], []])
    if system and not has_system:
        turns[0][0].insert(0, system)
    text = "".join(between + "\n\n".join(asked) + after + "\n\n".join(said) for asked, said in turns)
    return before + (system if has_system else "") + text


def _role(message: ChatMessage) -> str:
    # OpenAI's newer name for system; templates only know the older one.
    return "system" if message.role == "developer" else message.role


def _context(
    messages: Sequence[ChatMessage], info: EngineInfo, variables: Mapping[str, Any], ask: bool
) -> dict[str, Any]:
    rendered = []
    for message in messages:
        entry = {"role": _role(message), "content": message.content}
        if message.name is not None:
            entry["name"] = message.name
        if message.tool_call_id is not None:
            entry["tool_call_id"] = message.tool_call_id
        rendered.append(entry)
    return {
        **variables,
        "messages": rendered,
        "add_generation_prompt": ask,
        "bos_token": info.bos_token,
        "eos_token": info.eos_token,
    }


class TemplateRenderer:
    """One template in a process of its own, started when it is needed and again after it was killed. Thread-safe."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None

    def render(self, context: Mapping[str, Any]) -> str:
        """The rendered text. Raises InvalidRequestError with the reason why there is none."""
        frame = _frame(context)
        with self._lock:
            answer = self._ask(frame)
        if "text" in answer:
            return str(answer["text"])
        raise InvalidRequestError(
            f"the model's chat template refuses these messages: {answer['error']}",
            param="messages",
            code="chat_template_error",
        )

    def close(self) -> None:
        """Ends the process, if there is one."""
        with self._lock:
            self._end()

    def _ask(self, frame: bytes) -> dict[str, Any]:
        process = self._running()
        stdin, stdout = _pipes(process)
        try:
            stdin.write(frame)
            stdin.flush()
            header = stdout.read(LENGTH.size)
            body = stdout.read(LENGTH.unpack(header)[0]) if len(header) == LENGTH.size else b""
            answer: dict[str, Any] = msgspec.json.decode(body)
        except (OSError, msgspec.DecodeError):
            self._end()
            return {"error": "it was given up, since it ran too long or needed too much memory"}
        return answer

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
        stdin.write(_frame({"template": self._source}))
        return process

    def _end(self) -> None:
        if self._finalizer is not None:
            self._finalizer()
        self._process = self._finalizer = None


def _frame(content: Mapping[str, Any]) -> bytes:
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
