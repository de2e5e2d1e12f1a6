"""A process that renders one chat template, with limits of time and memory. Run as a script by ``template_process.py``.

A chat template is a program that came with a download. Jinja2's sandbox keeps it from the machine, but nothing in a
sandbox keeps it from looping for ever or from filling the memory, and a thread can't be ended from outside. So it runs
here, where the operating system holds the limits: an alarm kills the process that renders too long, and memory beyond
the limit is refused to it.

Frames on standard input and output are a length (u32, big-endian) and JSON of that length. The first frame in is
``{"template": source}``; each further one is a list of contexts to render with, answered by a list of ``{"text": ...}``
and ``{"error": reason}``. The limits are those of a frame. End of input ends the process.
"""

from __future__ import annotations

import json
import resource
import signal
import struct
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any, BinaryIO, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

LENGTH = struct.Struct(">I")
MAX_SECONDS = 5.0  # of one frame's renderings
MAX_MEMORY = 1 << 30  # bytes of address space
MAX_REASON = 1000  # characters of what it says against the messages
MAX_CHARACTERS = 8_000_000  # of what one frame's contexts render to; some two million tokens


class GenerationTag(Extension):
    """``{% generation %}...{% endgeneration %}`` marks words for training; here it is only its content."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The nodes between the two tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment() -> ImmutableSandboxedEnvironment:
    """Jinja2 as the templates in model files expect it: the way Hugging Face's transformers sets it up."""
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, GenerationTag], autoescape=False
    )
    env.filters["tojson"] = _to_json
    env.globals["raise_exception"] = _raise_exception
    env.globals["strftime_now"] = _strftime_now
    return env


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja2's own escapes <, > and & for HTML, which is not what a model was trained on.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: object) -> NoReturn:
    raise TemplateError(str(message))


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


Answer = dict[str, str]


def render_all(template: Template, contexts: list[dict[str, Any]]) -> list[Answer]:
    """For each context what ``render`` says, within the length that all may have together."""
    answers: list[Answer] = []
    room = MAX_CHARACTERS
    for context in contexts:
        answers.append(render(template, context, room))
        room -= len(answers[-1].get("text", ""))
    return answers


def render(template: Template, context: dict[str, Any], room: int = MAX_CHARACTERS) -> Answer:
    """``{"text": ...}``, or ``{"error": ...}`` with what the template (or Jinja2, or a limit) had against it."""
    pieces: list[str] = []
    try:
        for piece in template.generate(context):
            room -= len(piece)
            if room < 0:
                return {"error": f"it renders to more than {MAX_CHARACTERS} characters"}
            pieces.append(piece)
    except MemoryError:
        return {"error": f"it needs more than {MAX_MEMORY >> 20} MiB of memory"}
    except RecursionError:
        return {"error": "it calls itself without an end"}
    except Exception as error:  # a template can provoke any exception in the filters that it calls
        return {"error": str(error)[:MAX_REASON] or type(error).__name__}
    return {"text": "".join(pieces)}


def _compile(source: str) -> Callable[[list[dict[str, Any]]], list[Answer]]:
    try:
        template = environment().from_string(source)
    except (TemplateError, RecursionError, MemoryError) as error:
        reason = {"error": f"{error or type(error).__name__} (line {getattr(error, 'lineno', '?')})"}
        return lambda contexts: [reason] * len(contexts)
    return lambda contexts: render_all(template, contexts)


def read_frame(stream: BinaryIO) -> Any:
    """The next frame's content, or None at end of input."""
    header = stream.read(LENGTH.size)
    if len(header) < LENGTH.size:
        return None
    body = stream.read(LENGTH.unpack(header)[0])
    return json.loads(body)


def write_frame(stream: BinaryIO, content: Any) -> None:
    """Writes and flushes one frame."""
    body = json.dumps(content).encode()
    stream.write(LENGTH.pack(len(body)) + body)
    stream.flush()


def main() -> None:
    """Renders until its input ends."""
    if sys.platform == "linux":  # macOS has the name and refuses the limit; there the time and the output are bounded
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = MAX_MEMORY if hard == resource.RLIM_INFINITY else min(MAX_MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # deadly even inside one long call into C
    rendered: Callable[[list[dict[str, Any]]], list[Answer]] | None = None
    while (frame := read_frame(sys.stdin.buffer)) is not None:
        signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
        if rendered is None:
            rendered = _compile(frame["template"])
            signal.setitimer(signal.ITIMER_REAL, 0)
            continue
        answer = rendered(frame)
        signal.setitimer(signal.ITIMER_REAL, 0)
        write_frame(sys.stdout.buffer, answer)


if __name__ == "__main__":
    main()
