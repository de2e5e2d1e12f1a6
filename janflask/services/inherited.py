"""What a run takes over: parameters and settings of its thread, the thread's entry of the assistant, the assistant.

These lie in files that anything may have written. What can be meant is taken; a value that cannot, and that nothing
above it replaces, is why the run cannot be carried out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from janflask.errors import InvalidRequestError
from janflask.models.engine_settings import read_settings
from janflask.models.parameters import read_parameters, template_kwargs
from janflask.storage.records import Assistant, Run, Thread, ThreadAssistant

_THREAD, _ASSISTANT = "thread.json", "assistant.json of {}"

Levels = Iterator[tuple[object, str, str]]  # what was found, where in which file


@dataclass(frozen=True, slots=True)
class Inherited:
    """``parameters`` are typed as ``janflask.models.parameters`` has them; ``problem`` names the field and the file."""

    parameters: Mapping[str, Any]
    settings: Mapping[str, Any]
    problem: str | None


def inherited(thread: Thread, entry: ThreadAssistant, assistant: Assistant, own: Mapping[str, Any]) -> Inherited:
    """The run's ``own`` parameters over the thread's, its entry's and the assistant's."""
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for found, place, file in _parameters(thread, entry, assistant):
        understood = read_parameters(found)
        values |= understood.values
        for name in understood.values:
            problems.pop(name, None)
        problems |= {name: problem.told(file, place) for name, problem in understood.problems.items()}
    problems = {name: told for name, told in problems.items() if name not in own}
    settings: dict[str, Any] = {}
    odd_settings: dict[str, str] = {}
    for found, place in _settings(thread, entry):
        usable, odd = read_settings(found)
        settings |= usable
        odd_settings = {name: told for name, told in odd_settings.items() if name not in usable}
        odd_settings |= {name: f"{place}{name and f'.{name}'} in {_THREAD} {told}" for name, told in odd.items()}
    told = [*problems.values(), *odd_settings.values()]
    return Inherited({**values, **own}, settings, "; ".join(told) + ". Correct the file" if told else None)


def run_parameters(run: Run) -> Mapping[str, Any]:
    """What the run is to be answered with, typed. Raises InvalidRequestError where something of it cannot be meant."""
    understood = read_parameters(run.parameters)  # earlier versions kept what they found, and JSON has no tuples
    problems = [problem.told(f"run {run.id}") for problem in understood.problems.values()]
    if run.problem or problems:
        raise InvalidRequestError(run.problem or "; ".join(problems), param="parameters")
    own = {"temperature": run.temperature, "top_p": run.top_p}
    values = {**understood.values, **{name: value for name, value in own.items() if value is not None}}
    return {**values, "chat_template_kwargs": template_kwargs(values)}


def _parameters(thread: Thread, entry: ThreadAssistant, assistant: Assistant) -> Levels:
    file = _ASSISTANT.format(assistant.id)
    yield assistant.extra.get("parameters"), "parameters", file  # later versions of Jan keep them there
    for name in ("temperature", "top_p", "reasoning_effort"):
        known = getattr(assistant, name)
        yield {name: assistant.extra.get(name) if known is None else known}, "", file
    yield entry.model.get("parameters"), _place(thread, entry, "parameters"), _THREAD
    yield thread.parameters or thread.extra.get("parameters"), "parameters", _THREAD


def _settings(thread: Thread, entry: ThreadAssistant) -> Iterator[tuple[object, str]]:
    yield entry.model.get("settings"), _place(thread, entry, "settings")
    yield thread.settings or thread.extra.get("settings"), "settings"


def _place(thread: Thread, entry: ThreadAssistant, table: str) -> str:
    number = next((number for number, item in enumerate(thread.assistants) if item is entry), 0)
    return f"assistants.{number}.model.{table}"
