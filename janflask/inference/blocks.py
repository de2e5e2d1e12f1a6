"""A conversation in turns of blocks, as Anthropic's Messages have it, and the messages that a model is shown of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from janflask.errors import InvalidRequestError
from janflask.inference.parts import GAP, Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from janflask.inference.requests import CallChoice, ChatMessage, ChatRequest, Tool

SYSTEM, USER, ASSISTANT, TOOL = "system", "user", "assistant", "tool"
_ERROR = "Error"  # leads what a tool says of its failure


@dataclass(frozen=True, slots=True)
class Thought:
    """What an assistant thought, as it came back: words and their signature, or no words and what they are sealed in.

    ``place`` is that of the seal in the request.
    """

    text: str
    seal: str
    place: str


@dataclass(frozen=True, slots=True)
class ToolReference:
    """A tool that a search has found, or that is added: it is told here, and may be called from here on."""

    name: str


@dataclass(frozen=True, slots=True)
class ToolRemoval:
    """A tool that may no longer be called from here on."""

    name: str


@dataclass(frozen=True, slots=True)
class Result:
    """What a call gave back."""

    call_id: str
    content: tuple[str | ToolReference, ...]
    is_error: bool = False


Block = TextPart | ToolCallPart | Result | Thought | ToolReference | ToolRemoval


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the request; ``role`` is system, user or assistant, ``place`` where it stands.

    One that ``passes`` is shown until the user speaks again.
    """

    role: str
    blocks: tuple[Block, ...]
    place: str
    passes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesRequest:
    """A request for a message. ``chat`` has all of it but what ``chat_request`` makes of ``turns``.

    ``deferred`` tools are told once a reference names them. ``kept_thoughts`` are the newest answers, each with all of
    its calls, whose thoughts are shown again (None: all). Without ``shows_thoughts`` new ones are told sealed, not in
    words. With ``only_reads`` the prompt is computed, and nothing said. ``edits_context``: the answer tells what was
    changed of the conversation. ``is_diagnosed``: it tells why its prompt does not begin like that of the message
    ``previous``, and may be compared with later. ``schema`` is the JSON schema of the answer. In a ``conversation`` of
    the store ``turns`` are what is new.
    """

    chat: ChatRequest
    turns: tuple[Turn, ...]
    deferred: tuple[Tool, ...] = ()
    kept_thoughts: int | None = 1
    shows_thoughts: bool = True
    only_reads: bool = False
    edits_context: bool = False
    is_diagnosed: bool = False
    previous: str | None = None
    schema: Mapping[str, Any] | None = None
    conversation: str | None = None


def chat_request(request: MessagesRequest, opened: Callable[[Thought], str]) -> ChatRequest:
    """What a model is asked. ``opened`` gives the words of a thought, or raises what is wrong with its seal.

    Raises InvalidRequestError for calls without results, results without calls, and a last message that cannot be gone
    on with.
    """
    _check_calls(request.turns, is_all=request.conversation is None)
    turns = _lasting(request.turns)
    tools = {tool.name: tool for tool in (*request.chat.tools, *request.deferred)}
    shown = _shown(turns, opened, request.kept_thoughts)
    messages = [message for role, blocks in shown for message in _messages(role, blocks, tools)]
    if not messages:
        raise _wrong("messages", "must hold something to answer: send at least the user's message")
    goes_on = messages[-1].role == ASSISTANT
    if goes_on and not messages[-1].text:
        place = request.turns[-1].place
        raise _wrong(place, "must hold text: the answer goes on behind it, so leave it out or say how it begins")
    return replace(
        request.chat,
        messages=(*request.chat.messages, *messages),
        continue_final_message=goes_on,
        add_generation_prompt=not goes_on,
        **_tools(request, turns),
    )


def _lasting(turns: Sequence[Turn]) -> list[Turn]:
    """Without those that have passed."""
    last = max((number for number, turn in enumerate(turns) if turn.role == USER), default=-1)
    return [turn for number, turn in enumerate(turns) if number > last or not turn.passes]


def _tools(request: MessagesRequest, turns: Sequence[Turn]) -> dict[str, Any]:
    """With the deferred ones that are told in the ``turns`` (or have to be called), without those removed in them."""
    told, removed = set[str](), set[str]()
    for block in (block for turn in turns for block in turn.blocks):
        if isinstance(block, ToolRemoval):
            removed.add(block.name)
        for name in _references(block):
            told.add(name)
            removed.discard(name)
    chosen = request.chat.callable_tools
    needed = told | (chosen or set())
    loaded = [
        replace(tool, leading=tool.name not in told) for tool in request.deferred if tool.name in needed - removed
    ]
    tools = (*request.chat.tools, *loaded)
    if removed:
        chosen = frozenset(tool.name for tool in tools if chosen is None or tool.name in chosen) - removed
        if not chosen and request.chat.call_choice is CallChoice.REQUIRED:
            raise _wrong("tool_choice", "asks for a call, and the conversation has removed what could be called")
    return {"tools": tools, "callable_tools": chosen}


def _shown(
    turns: Sequence[Turn], opened: Callable[[Thought], str], kept: int | None
) -> Iterator[tuple[str, list[Block]]]:
    """Turns of one side in a row as one, with opened thoughts in those that are shown theirs."""
    joined = [
        (role, [block for turn in group for block in turn.blocks])
        for role, group in groupby(turns, lambda turn: turn.role)
    ]
    if joined and joined[-1][0] == ASSISTANT and not any(map(_says_anything, joined[-1][1])):
        joined.pop()  # an answer that was begun with nothing
    newest = sum(_asks(role, blocks) for role, blocks in joined)
    for role, blocks in joined:
        newest -= _asks(role, blocks)
        words: list[Block] = [
            replace(block, text=opened(block)) if isinstance(block, Thought) else block for block in blocks
        ]
        shows = kept is None or newest < kept
        yield role, [block for block in words if shows or not isinstance(block, Thought)]


def _says_anything(block: Block) -> bool:
    return not isinstance(block, TextPart) or bool(block.text)


def _asks(role: str, blocks: Sequence[Block]) -> bool:
    """Whether a new answer begins behind it: what calls gave back belongs to the answer under way."""
    return role == USER and not any(isinstance(block, Result) for block in blocks)


def _messages(role: str, blocks: Sequence[Block], tools: Mapping[str, Tool]) -> Iterator[ChatMessage]:
    """Results come first, whatever the order: templates know none behind the user's words."""
    for block in blocks:
        if isinstance(block, Result):
            yield ChatMessage(role=TOOL, parts=(ToolResultPart(_told(block, tools), block.call_id),))
    thoughts = GAP.join(block.text for block in blocks if isinstance(block, Thought))
    reasoning: tuple[Part, ...] = (ReasoningPart(thoughts),) if thoughts else ()
    words = tuple(part for block in blocks if (part := _words(block, tools)) is not None)
    words = tuple(filter(_says_anything, words)) or words[:1]
    calls = tuple(block for block in blocks if isinstance(block, ToolCallPart))
    if reasoning or words or calls:
        yield ChatMessage(role=role, parts=(*reasoning, *words, *calls))


def _words(block: Block, tools: Mapping[str, Tool]) -> TextPart | None:
    if isinstance(block, ToolReference):
        return TextPart(f"This tool can be called from now on: {_definition(block, tools)}")
    if isinstance(block, ToolRemoval):
        return TextPart(f"The tool {block.name} can no longer be called.")
    return block if isinstance(block, TextPart) else None


def _told(result: Result, tools: Mapping[str, Tool]) -> str:
    text = "\n".join(item if isinstance(item, str) else _definition(item, tools) for item in result.content)
    if not result.is_error or text.casefold().startswith(_ERROR.casefold()):
        return text
    return f"{_ERROR}: {text}" if text else _ERROR


def _definition(reference: ToolReference, tools: Mapping[str, Tool]) -> str:
    """As in the list of tools in front; of one that is not in the request its name."""
    tool = tools.get(reference.name)
    return json.dumps(tool.as_told(), ensure_ascii=False) if tool is not None else reference.name


def _references(block: Block) -> Iterator[str]:
    items = block.content if isinstance(block, Result) else (block,)
    yield from (item.name for item in items if isinstance(item, ToolReference))


def _check_calls(turns: Sequence[Turn], *, is_all: bool) -> None:
    """Each call has its result before the assistant speaks again, and each result its call, if ``turns`` are all."""
    open_calls: dict[str, str] = {}  # ids, and where they stand
    seen: set[str] = set()
    speaker = ""
    for turn in turns:
        if turn.role == ASSISTANT != speaker:  # several in a row are one
            _check_answered(open_calls)
        speaker = turn.role
        for number, block in enumerate(turn.blocks):
            place = f"{turn.place}.content.{number}"
            if isinstance(block, ToolCallPart):
                if block.id in seen:
                    raise _wrong(f"{place}.id", f"comes twice: {block.id[:128]!r}")
                seen.add(block.id)
                open_calls[block.id] = place
            elif isinstance(block, Result) and open_calls.pop(block.call_id, None) is None:
                if not is_all and block.call_id not in seen:
                    continue
                why = "has its tool_result already" if block.call_id in seen else "is no tool_use in the message before"
                raise _wrong(f"{place}.tool_use_id", f"{why}: {block.call_id[:128]!r}")
    _check_answered(open_calls)


def _check_answered(open_calls: Mapping[str, str]) -> None:
    for call_id, place in open_calls.items():
        raise _wrong(place, f"is a tool_use without a tool_result in the next message: {call_id[:128]!r}")


def _wrong(place: str, what: str) -> InvalidRequestError:
    return InvalidRequestError(f"{place} {what}", param=place, code="invalid_value")
