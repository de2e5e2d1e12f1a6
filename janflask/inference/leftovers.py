"""What of a conversation no model here is shown, by name: asked before it is answered, so that nothing gets lost.

A chat asks it of its messages' parts, a run of everything that it takes over: the messages of its thread, the thread,
its entry of the assistant, and the assistant. Each answer says what it is and what can be done about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from janflask.errors import InvalidRequestError
from janflask.inference.calls.functions import asks_for_nothing, is_function
from janflask.storage import items
from janflask.storage.records import Assistant, Message, RunDraft, Thread, ThreadAssistant
from janflask.storage.rounds import FIELD, read_kept

ROLES = ("system", "developer", "user", "assistant", "tool")
NO_TOOLS = "none"  # the tool_choice that does without tools, and without what only they would read

_DOCUMENT = "pdf"  # Jan 0.4 and 0.5, whose retrieval tool read it
# Parts with something beside their words. (The words that Jan kept in some of them are shown: ``records.words_of``.)
_KINDS = {
    "image_url": "a picture",
    "image_file": "a picture",
    "image": "a picture",  # Jan 0.4 and 0.5
    _DOCUMENT: "a document",
    "file": "a file",
    "input_audio": "a sound",
    "tool_call": "a tool's call",  # Jan 0.7
}
_THOUGHTS = "reasoning"  # Jan 0.7; no model is shown again what it thought before an answer
CALLS = ("function_call", "audio")  # fields of a message
_FILE_TEXTS = "inline_file_contents"  # of a message's metadata: files whose text Jan 0.7 shows the model
_TOLD = 4  # leftovers in one error's message


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that would be left out; ``param`` is the field of the request that it comes by."""

    param: str
    reason: str


def refuse(found: Sequence[Leftover], param: str | None = None) -> None:
    """Raises InvalidRequestError if there is anything; ``param`` is told in place of the first one's."""
    if found:
        raise InvalidRequestError(
            _listed([item.reason for item in found], "; "), param=param or found[0].param, code="invalid_value"
        )


def _listed(items: Iterable[str], between: str) -> str:
    """Each once, and not too many."""
    told = list(dict.fromkeys(items))
    more = [f"{len(told) - _TOLD} more"] if len(told) > _TOLD else []
    return between.join([*told[:_TOLD], *more])


# --- messages ---------------------------------------------------------------------------------------------------------


def of_part(part: Mapping[str, Any]) -> str | None:
    """What a part of a message holds beside its words; None if they are all of it."""
    kind = part.get("type")
    text = part.get("refusal" if kind == "refusal" else "text")
    value = text.get("value") if isinstance(text, Mapping) else text
    if value is not None and not isinstance(value, str):
        return "a text that cannot be read"
    if kind in ("text", "refusal", _THOUGHTS):
        return None
    if kind is None:
        return "a part without a type"
    name = str(kind)[:40]
    if name in _KINDS and value is not None and not _has_more(part):
        return None
    return f"{_KINDS[name]} ({name})" if name in _KINDS else f"a part of the type {name!r}"


def _has_more(part: Mapping[str, Any]) -> bool:
    """Jan put the place of the picture or document into the annotations of the words' text."""
    text = part["text"] if isinstance(part["text"], Mapping) else {}
    return bool(text.get("annotations")) or any(part[name] for name in part if name not in ("type", "text"))


def of_message(message: Message, *, without_tools: bool = False) -> list[str]:
    """What a message holds beside its words; ``without_tools`` also without files, which only tools would read."""
    found = [] if message.role in ROLES else [f"words in the role of {message.role[:40]!r}"]
    parts = [part for part in message.content if not (without_tools and part.get("type") == _DOCUMENT)]
    found += [what for part in parts if (what := of_part(part)) is not None]
    if "content" in message.extra:
        found.append("content that cannot be read")
    found += [f"a tool's call or a sound ({name})" for name in CALLS if message.extra.get(name)]
    found += [f"calls that cannot be read ({name})" for name in _unreadable_calls(message)]
    if message.metadata.get(_FILE_TEXTS):
        found.append(f"the text of a file (metadata.{_FILE_TEXTS})")
    return found if without_tools else [*found, *_files(message)]


def _unreadable_calls(message: Message) -> Iterator[str]:
    for name, read in ((FIELD, lambda: read_kept(message.extra)), (items.CALLS, lambda: items.calls_of(message))):
        try:
            read()
        except ValueError:
            yield name


def _files(message: Message) -> Iterator[str]:
    held: dict[str, list[str]] = {}
    for item in (item for item in message.attachments if any(item.values())):
        tools = item.get("tools")
        listed = [tool for tool in tools if isinstance(tool, Mapping)] if isinstance(tools, list | tuple) else []
        kinds = [str(tool.get("type"))[:40] for tool in listed]
        name = str(item.get("file_id") or item.get("name") or "without a name")
        held.setdefault(name[:128], []).extend(kinds)
    for file_id in (*held, *(file_id for file_id in message.file_ids if file_id and file_id not in held)):
        tools_told = _listed(held.get(file_id, ()), ", ")
        yield f"the file {file_id}" + f" (for {tools_told})" * bool(tools_told)
    yield from (f"{name} that cannot be read" for name in ("attachments", "file_ids") if name in message.extra)


def of_messages(
    messages: Iterable[Message], places: Mapping[str, str], *, without_tools: bool = False
) -> list[Leftover]:
    """What the messages hold beside their words; ``places`` tells by their ids where in a request new ones are."""
    found = []
    for message in messages:
        what = of_message(message, without_tools=without_tools)
        if what:
            readable = not without_tools and what != of_message(message, without_tools=True)
            advice = _advice(message.id in places, readable)
            subject = places.get(message.id) or f"message {message.id[:128]}"
            reason = f"{subject} holds {_listed(what, ' and ')}, which no model here is shown: {advice}"
            found.append(Leftover(places.get(message.id, "thread_id"), reason))
    return found


def _advice(is_new: bool, has_files: bool) -> str:
    advice = "leave it out"
    if not is_new:
        advice = "give the message other content, delete it, or keep it from being shown by truncation_strategy"
    return advice + f', or answer without its files by tool_choice "{NO_TOOLS}"' * has_files


# --- whoever answers --------------------------------------------------------------------------------------------------


def of_run(
    draft: RunDraft, thread: Thread, entry: ThreadAssistant, assistant: Assistant, parameters: Mapping[str, Any]
) -> list[Leftover]:
    """What a run would take over beside messages, and not use. What the run itself sets counts over all others.

    ``parameters`` are those of the thread over its entry's. A thread's entry has the say over the assistant.
    """
    who = f"assistant {entry.assistant_id}"
    found = list(_unreadable(draft, thread, entry, who))
    if draft.tool_choice == NO_TOOLS:
        return found
    if draft.tools is None:
        found += _other_tools("the thread's parameters name", "thread_id", parameters.get("tools"))
        if not parameters.get("tools"):
            found += _other_tools(f"{who} has", "assistant_id", _field(entry, assistant, "tools"))
        if _field(entry, assistant, "file_ids"):
            found.append(Leftover("assistant_id", f"{who} has files (file_ids); {_without_tools('file_ids')}"))
        held = [(who, "assistant_id", _field(entry, assistant, "tool_resources"))]
        held.append(
            ("the thread", "thread_id" if draft.thread is None else "thread.tool_resources", _resources(thread))
        )
        for owner, param, resources in held:
            if holds_anything(resources):
                found.append(Leftover(param, f"{owner} has tool_resources; {_without_tools('tool_resources')}"))
    return found


def tools_in(
    draft: RunDraft, entry: ThreadAssistant, assistant: Assistant, parameters: Mapping[str, Any]
) -> tuple[str, str | None, Sequence[Any]]:
    """Where the tools of a run are, the field by which they come unless they are there, and they, as they are listed.

    Those that a run can call are among them (``calls.functions.tools_of``).
    """
    if draft.tools is not None:
        return "tools", None, _listed_tools(draft.tools)
    if parameters.get("tools"):
        return "the thread's parameters.tools", "thread_id", _listed_tools(parameters["tools"])
    found = _listed_tools(_field(entry, assistant, "tools"))
    return f"assistant {entry.assistant_id} tools", "assistant_id", found


def format_in(
    draft: RunDraft, entry: ThreadAssistant, assistant: Assistant, parameters: Mapping[str, Any]
) -> tuple[str, str | None, Any]:
    """Where a run's ``response_format`` is, the field by which it comes unless it is there, and it (None: not said)."""
    if draft.response_format is not None:
        return "response_format", None, draft.response_format
    if parameters.get("response_format"):
        return "the thread's parameters.response_format", "thread_id", parameters["response_format"]
    found = _field(entry, assistant, "response_format") or None
    return f"assistant {entry.assistant_id} response_format", "assistant_id", found


def _listed_tools(tools: object) -> Sequence[Any]:
    return tools if isinstance(tools, list | tuple) else ()


def _unreadable(draft: RunDraft, thread: Thread, entry: ThreadAssistant, who: str) -> Iterator[Leftover]:
    """What the thread's file says of who answers in no form that Jan has: another would answer in its place."""
    told = [
        ("the thread", "assistants", thread.extra, draft.assistant_id),
        (f"the thread's {who}", "model", entry.extra, draft.model or thread.model_id),
        (f"the thread's {who}", "instructions", entry.extra, draft.instructions),
    ]
    for owner, name, extra, given in told:
        if extra.get(name) and given is None:
            field = "assistant_id" if name == "assistants" else name
            yield Leftover("thread_id", f"{name} of {owner} cannot be read: set {field} in the run")


def _resources(thread: Thread) -> Any:
    return thread.tool_resources or thread.extra.get("tool_resources")


def holds_anything(resources: object) -> bool:
    """Whether ``tool_resources`` name something to work with: ``{"file_search": {"vector_store_ids": []}}`` don't."""
    if isinstance(resources, Mapping):
        return any(holds_anything(item) for item in resources.values())
    return bool(resources)


def _field(entry: ThreadAssistant, assistant: Assistant, name: str) -> Any:
    given = entry.extra.get(name)
    return given if given is not None else getattr(assistant, name) or assistant.extra.get(name)


def _other_tools(who: str, param: str, tools: object) -> Iterator[Leftover]:
    """Those that are no functions: nobody here could call them."""
    if tools and not isinstance(tools, list | tuple):
        yield Leftover(param, f"{who} tools that cannot be read; {_without_tools('tools')}")
    listed = [tool for tool in _listed_tools(tools) if not is_function(tool) and not asks_for_nothing(tool)]
    if names := [str(tool.get("type") if isinstance(tool, Mapping) else tool)[:64] for tool in listed]:
        yield Leftover(param, f"{who} tools ({_listed(names, ', ')}); {_without_tools('tools')}")


def _without_tools(field: str) -> str:
    return f'only functions can be used: empty {field}, or run it with tool_choice "{NO_TOOLS}"'
