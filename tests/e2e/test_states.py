"""Models whose memory cannot be cut, over HTTP: a thread goes on from what there is of it and says the same as without.

A sliding window (Gemma 3 270M, and a tiny one), a recurrent state, and both kinds of layers in one. Each answer is that
of a server that computes every prompt whole; what was not computed is what ``usage`` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from benchmarks.states import LAYOUT
from tests.e2e.server import Server, serving
from tests.models.tiny import install
from tests.models.tiny_memories import write_hybrid, write_recurrent, write_windowed
from tools.window_model import GEMMA

TINY = {"tiny-window": write_windowed, "tiny-recurrent": write_recurrent, "tiny-hybrid": write_hybrid}
KINDS = [GEMMA.id, *TINY]
WHOLE = {"JANFLASK_PREFIX_CACHE": "0", "JANFLASK_KV_SNAPSHOT_GB": "0", "JANFLASK_KV_RAM_GB": "0"}
ONE = {"JANFLASK_N_PARALLEL": "1", "JANFLASK_REPRODUCIBLE": "1"}  # else a near tie may end otherwise
ANSWER = 16  # tokens
# What was thought before the last question is left out, as Qwen 3's layout does it.
FORGETFUL = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content and "
    "loop.index0 > ns.last %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NAMES = ("Aurora", "Beagle", "Calypso", "Discovery", "Endurance", "Fram", "Gjoa", "Hermes", "Investigator", "Jeannette")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, window_gguf: Path) -> dict[str, tuple[Path, dict[str, str]]]:
    """Each kind's file and settings."""
    folder = tmp_path_factory.mktemp("models")
    found = {kind: (write(folder / f"{kind}.gguf", template=FORGETFUL), {}) for kind, write in TINY.items()}
    return found | {GEMMA.id: (window_gguf, {"prompt_template": LAYOUT})}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, models: dict[str, tuple[Path, dict[str, str]]]) -> Iterator[Server]:
    """A server that computes every prompt whole."""
    data = tmp_path_factory.mktemp("whole") / "data"
    for kind, (path, settings) in models.items():
        install(data, kind, path, settings=settings)
    with serving(data, **ONE, **WHOLE) as server:
        yield server


@dataclass
class Thread:
    """A conversation as a client keeps it. ``say`` adds a question and its answer; ``ask`` checks that one, too."""

    model: str
    whole: Server
    seed: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list)
    length: int = 0  # tokens of the last prompt

    def begin(self, server: Server) -> None:
        """Three turns: more than a window, tiny or not."""
        self.messages = [{"role": "system", "content": self.song(24)}]
        for _ in range(3):
            self.say(server, self.song(8))

    def song(self, lines: int) -> str:
        """Always the same line, so that it is beyond doubt how it goes on: rounding decides nothing."""
        name = NAMES[(self.seed + len(self.messages)) % len(NAMES)]
        line = (
            f"the {name} ran on." if self.model in TINY else f"The keeper counted every ship, the last was the {name}."
        )
        return f"{line}\n" * lines

    def say(self, server: Server, question: str) -> int:
        """How many tokens of the prompt were computed."""
        self.messages.append({"role": "user", "content": question})
        said, usage = self._answer(server)
        self.messages.append({"role": "assistant", "content": said})
        self.length = usage["prompt_tokens"]
        return self.length - int(usage["prompt_tokens_details"]["cached_tokens"])

    def ask(self, server: Server, question: str) -> int:
        """The same. The answer has to be that of computing it all."""
        computed = self.say(server, question)
        said = self.messages.pop()
        expected, everything = self._answer(self.whole)
        assert said["content"] == expected
        assert everything["prompt_tokens_details"]["cached_tokens"] == 0
        assert everything["prompt_tokens"] == self.length
        self.messages.append(said)
        return computed

    def _answer(self, server: Server) -> tuple[str, dict[str, Any]]:
        body = {"model": self.model, "messages": self.messages, "temperature": 0, "max_tokens": ANSWER}
        answer = server.post("/v1/chat/completions", json=body | {"ignore_eos": True})
        assert answer.status_code == 200, answer.text
        found = answer.json()
        return found["choices"][0]["message"]["content"], found["usage"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_thread_goes_on_however_it_was_changed(
    tmp_path: Path, models: dict[str, tuple[Path, dict[str, str]]], whole: Server, kind: str
) -> None:
    """Each way back computes what is new of the prompt, and of what is before at most a message."""
    data = tmp_path / "data"
    path, settings = models[kind]
    install(data, kind, path, settings=settings)
    thread, other = Thread(kind, whole), Thread(kind, whole, seed=1)
    with serving(data, **ONE) as server:
        thread.begin(server)
        assert thread.length > 600
        computed = {"next turn": thread.ask(server, thread.song(3))}
        del thread.messages[-2:]
        computed["last message edited"] = thread.ask(server, thread.song(4))
        thread.messages[-1] |= {"content": thread.messages[-1]["content"][-8:], "reasoning_content": "Ships, ships."}
        computed["thoughts dropped"] = thread.ask(server, thread.song(3))
        del thread.messages[-6:]
        computed["another branch"] = thread.ask(server, thread.song(5))
        other.say(server, other.song(18))
        computed["another thread in between"] = thread.ask(server, thread.song(3))
        server.end()
    with serving(data, **ONE) as server:
        computed["restart"] = thread.ask(server, thread.song(3))
        del thread.messages[-2:]
        computed["restart, last message edited"] = thread.ask(server, thread.song(4))
        stats = server.model(kind)["stats"]
    assert max(computed.values()) < thread.length / 4, computed
    assert stats["states_refused"] == 0
    assert stats["states_restored"] > 0
