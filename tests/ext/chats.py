"""Conversations with small real models of every kind of memory, each answer compared with that of computing it all."""

from __future__ import annotations

import random
import time
from array import array

from janflask.engine.model import Model
from tests.ext.real_loop import Engine, options
from tests.models.tiny import write_chat
from tests.models.tiny_memories import WINDOW, write_hybrid, write_recurrent, write_windowed

WRITERS = {"plain": write_chat, "window": write_windowed, "recurrent": write_recurrent, "hybrid": write_hybrid}
CANNOT_TRIM = ("window", "recurrent", "hybrid")
LIMIT = 60.0  # seconds that anything here may take
CELLS = 1024  # of a sequence
WORDS = ("the", "cat", "sat", "on", "mat", "and", "dog", "ran", "a", "red", "hello", "world", "is", "green")


class Chat:
    """A conversation as a client keeps it: messages, laid out as ChatML."""

    def __init__(self, model: Model, rng: random.Random, system: int = 60) -> None:
        self.model = model
        self.rng = rng
        self.messages = [self._words(system)]

    def _words(self, count: int) -> str:
        return " ".join(self.rng.choices(WORDS, k=count))

    def say(self, count: int = 12) -> None:
        self.messages.append(self._words(count))

    def tokens(self) -> array[int]:
        roles = ["system", *["user", "assistant"] * len(self.messages)]
        turns = (f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in zip(roles, self.messages, strict=False))
        text = "".join(turns) + "<|im_start|>assistant\n"
        return self.model.tokenize(text, add_special=True, parse_special=True)


def alone(model: Model, prompt: array[int], count: int = 8) -> tuple[str, str]:
    """The answer of an engine that has seen nothing else."""
    fresh = Engine(model, options(n_seq=1, ctx_len=CELLS, kv_cells=CELLS))
    answer = fresh.answer(prompt, count, cache=False)
    fresh.context.close()
    return answer


def answer(engine: Engine, prompt: array[int], count: int = 8, **how: object) -> tuple[str, int]:
    """An engine's answer, which has to be the right one, and how many of the prompt's tokens it computed."""
    sequence, sink = engine.ask(prompt, count, **how)
    deadline = time.monotonic() + LIMIT
    while sink.reason is None and not sink.errors:
        assert time.monotonic() < deadline
        if not engine.loop.step():
            time.sleep(0.001)  # the disk has a thread of its own
    assert not sink.errors
    assert (sink.text, sink.reason) == alone(engine.model, prompt, count)
    return sink.text, len(prompt) - sequence.n_cached


def talk(engine: Engine, chat: Chat, turns: int, **how: object) -> None:
    for _ in range(turns):
        chat.say()
        chat.messages.append(answer(engine, chat.tokens(), **how)[0])


def first_turns(engine: Engine, **how: object) -> Chat:
    chat = Chat(engine.model, random.Random(5))
    talk(engine, chat, 4, **how)
    assert len(chat.tokens()) > 200 > 4 * WINDOW
    return chat
