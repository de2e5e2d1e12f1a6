"""Which of a conversation's messages a model is shown when not all of them fit its context."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from janflask.errors import ContextLengthExceededError
from janflask.inference import leftovers
from janflask.storage.items import CALL_ID, CALLS, REASONING, calls_of
from janflask.storage.records import Message
from janflask.storage.rounds import FIELD


@dataclass(frozen=True, slots=True)
class Window:
    """The messages that are shown, in order, and the ids of those that are left out."""

    shown: tuple[Message, ...]
    left_out: tuple[str, ...] = ()


def conversation(messages: Iterable[Message]) -> list[Message]:
    """The messages without those that are no part of what was said: errors, and answers that never had a word, a call
    or a thought."""
    return [message for message in messages if not message.is_error and _says_anything(message)]


def _says_anything(message: Message) -> bool:
    words = bool(message.text) or any(message.extra.get(name) for name in (FIELD, CALLS, REASONING))
    return message.role != "assistant" or words or bool(leftovers.of_message(message))


def fitting(messages: Sequence[Message], fits: Callable[[Sequence[Message]], bool], most: int | None = None) -> Window:
    """The newest part of a conversation that ``fits``, at most ``most`` messages of it.

    Whole turns go, the oldest first: a turn is what a user says, and all up to the next time that one does; what was
    said between a call and its output begins no other. The newest turn stays whatever ``most`` says. ``fits`` is asked
    about log2(turns) + 1 times, and must not turn true again once more messages made it false. Raises
    ContextLengthExceededError when not even the newest turn fits.
    """
    starts = _starts_of_turns(messages)
    if most is not None:
        within = max(0, len(messages) - most)
        starts = [start for start in starts if start >= within] or starts[-1:]
    if not messages or fits(messages[starts[0] :]):
        return _window(messages, starts[0] if starts else 0)
    found = bisect_left(starts, True, lo=1, key=lambda start: fits(messages[start:]))
    if found == len(starts):
        raise ContextLengthExceededError(
            "not even the instructions and the newest message fit the model's context: shorten them, or start the "
            "model with a larger ctx_len",
            param="messages",
        )
    return _window(messages, starts[found])


def _starts_of_turns(messages: Sequence[Message]) -> list[int]:
    """Where each turn begins; what comes before the first user's words is a turn, too."""
    starts = [place for place, message in enumerate(messages) if message.role == "user"]
    for call, output in _answered_calls(messages):
        del starts[bisect_right(starts, call) : bisect_right(starts, output)]
    return starts if starts[:1] == [0] else [0, *starts]


def _answered_calls(messages: Sequence[Message]) -> Iterator[tuple[int, int]]:
    """The places of each output and of the message whose call it answers."""
    called: dict[str, int] = {}
    for place, message in enumerate(messages):
        answers = message.extra.get(CALL_ID)
        if isinstance(answers, str) and answers in called:
            yield called[answers], place
        try:
            called.update((call.id, place) for call in calls_of(message))
        except ValueError:  # ``leftovers`` names them
            continue


def _window(messages: Sequence[Message], start: int) -> Window:
    return Window(tuple(messages[start:]), tuple(message.id for message in messages[:start]))
