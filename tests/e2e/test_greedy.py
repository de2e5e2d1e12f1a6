"""The same greedy text however it is computed: by llama-cpp-python, streamed, from a cached prefix, in a full batch."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

from tests.conftest import make_data_dir
from tests.e2e.server import Server, follow_settings, run, serving
from tests.e2e.texts import END, SHIFT, TIE, Answer, Step, greedy, greedy_streamed, same_or_tie

FACTS = "The lighthouse keeper climbs one hundred and twelve steps each evening, lights the lamp, and writes a log. "


def asking(*turns: str, system: str | None = None) -> list[dict[str, str]]:
    """A conversation of alternating turns, the user's first."""
    said = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(turns)]
    return [{"role": "system", "content": system}, *said] if system else said


CONVERSATIONS = {
    "one question": asking("Why is the sky blue?"),
    "a system prompt": asking("List three colours.", system="You are a poet. Answer in one sentence."),
    "several turns": asking("My name is Ada.", "Nice to meet you, Ada!", "What is my name, and who had it before me?"),
    "longer than a chunk": asking(f"{FACTS * 12}How many steps does the keeper climb?"),
    "not only ASCII": asking("Translate into French: the coffee and the crème brûlée were très good. ☕"),
}
LENGTH = 24  # tokens of an answer


@pytest.fixture(scope="module", params=["plain attention, a stream for each", "flash attention, unified"])
def layout(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The knobs that change how the numbers are computed: the shared server has the first pair of them."""
    if "unified" not in request.param:
        yield request.getfixturevalue("server")
        return
    folder = make_data_dir(tmp_path_factory.mktemp("unified") / "data", request.getfixturevalue("starter_gguf"))
    with serving(follow_settings(folder), JANFLASK_FLASH_ATTN="1", JANFLASK_KV_UNIFIED="1") as server:
        server.start().raise_for_status()
        yield server


@pytest.fixture
def sdk(layout: Server) -> Iterator[openai.OpenAI]:
    with layout.sdk() as client:
        yield client


@pytest.fixture(scope="module")
def references(starter_gguf: Path, layout: Server) -> dict[str, Answer]:
    """What llama-cpp-python's ``Llama`` answers, with the knobs that it shares with the server."""
    knobs = layout.model()["runtime"]["knobs"]
    job = {
        "model_path": str(starter_gguf),
        "threads": knobs["cpu_threads"],
        "flash_attn": knobs["flash_attn"],
        "max_tokens": LENGTH,
        "conversations": list(CONVERSATIONS.values()),
    }
    done = run([sys.executable, "-m", "tests.e2e.reference_llama"], dict(os.environ), json.dumps(job))
    assert done.returncode == 0, done.stderr
    answers = [
        Answer(**{**given, "steps": [Step(**step) for step in given["steps"]]}) for given in json.loads(done.stdout)
    ]
    return dict(zip(CONVERSATIONS, answers, strict=True))


@pytest.fixture(scope="module")
def uncached(layout: Server) -> dict[str, Answer]:
    """What the server answers when it computes every prompt whole, one after the other."""
    with layout.sdk() as sdk:
        return {name: greedy(sdk, messages, LENGTH, cache=False) for name, messages in CONVERSATIONS.items()}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_as_llama_cpp_python_answers(name: str, uncached: dict[str, Answer], references: dict[str, Answer]) -> None:
    ours = uncached[name]
    assert ours.text
    assert ours.cached_tokens == 0
    assert ours.prompt_tokens == references[name].prompt_tokens, "the prompt was laid out in the same way"
    same_or_tie(ours, references[name])


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_streamed_as_unstreamed(name: str, sdk: openai.OpenAI, uncached: dict[str, Answer]) -> None:
    streamed = greedy_streamed(sdk, CONVERSATIONS[name], LENGTH)
    assert streamed.prompt_tokens == uncached[name].prompt_tokens
    same_or_tie(uncached[name], streamed)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_from_a_cached_prefix_as_without(name: str, sdk: openai.OpenAI, uncached: dict[str, Answer]) -> None:
    greedy(sdk, CONVERSATIONS[name], 1)
    cached = greedy(sdk, CONVERSATIONS[name], LENGTH)
    assert cached.cached_tokens == cached.prompt_tokens - 1, "all but the last token, which gives the first logits"
    same_or_tie(uncached[name], cached)


def test_a_conversation_goes_on_from_its_cached_beginning(sdk: openai.OpenAI) -> None:
    turns = ["Name a fruit."]
    first = greedy(sdk, asking(*turns), 12)
    turns += [first.text, "And a vegetable?"]
    second = greedy(sdk, asking(*turns), LENGTH)
    assert second.cached_tokens >= first.prompt_tokens
    same_or_tie(second, greedy(sdk, asking(*turns), LENGTH, cache=False))


def test_sixteen_at_once_as_one_by_one(layout: Server, sdk: openai.OpenAI) -> None:
    """Twice as many as there are slots, with a system prompt in common that nobody has computed before."""
    things = [
        "rain",
        "snow",
        "fog",
        "wind",
        "ice",
        "fire",
        "sand",
        "salt",
        "iron",
        "gold",
        "wood",
        "glass",
        "wool",
        "silk",
    ]
    things += ["paper", "clay"]
    system = "You are the archivist of a small museum by the sea. Answer briefly, and be exact."
    conversations = [asking(f"What is {thing} made of?", system=system) for thing in things]
    assert len(conversations) == 2 * layout.stats()["slots"]
    with ThreadPoolExecutor(len(conversations)) as pool:
        together = list(pool.map(lambda conversation: greedy(sdk, conversation, 20), conversations))
    shared = [answer.cached_tokens for answer in together]
    assert sum(shared) > 8 * 20, f"the system prompt was computed once and shared: {shared}"
    alone = [greedy(sdk, conversation, 20, cache=False) for conversation in conversations]
    ties = [same_or_tie(*pair) for pair in zip(alone, together, strict=True)]
    assert None in ties, f"some have no tie in them: {ties}"


# --- the comparison itself ------------------------------------------------------------------------------------------


def answer(*steps: Step, text: str = "", finish_reason: str = "length") -> Answer:
    return Answer(text or "".join(step.token for step in steps), steps, finish_reason, 1)


A = Step("a", -0.1, {"a": -0.1, "b": -3.0})
B = Step("b", -0.9, {"b": -0.9, "c": -0.9 - TIE / 3, END: -0.9 - TIE / 3})
TIED_C = Step("c", -0.9, {"c": -0.9, "b": -0.9 - TIE / 3})
CLEAR_C = Step("c", -0.1, {"c": -0.1, "b": -0.1 - TIE, END: -4.0})
UNAWARE_C = Step("c", -0.9, {"c": -0.9})


def test_equal_answers_and_ties() -> None:
    assert same_or_tie(answer(A, B), answer(A, B)) is None
    assert same_or_tie(answer(A, B, A), answer(A, TIED_C, B)) == 1
    assert same_or_tie(answer(A, finish_reason="stop"), answer(A, B)) == 1


@pytest.mark.parametrize("other", [CLEAR_C, UNAWARE_C])
def test_what_is_no_tie(other: Step) -> None:
    for pair in [(answer(A, B), answer(A, other)), (answer(A, other), answer(A, B))]:
        with pytest.raises(AssertionError, match="no tie"):
            same_or_tie(*pair)
    with pytest.raises(AssertionError, match="no tie"):
        same_or_tie(answer(A, finish_reason="stop"), answer(A, CLEAR_C))


def test_the_same_tokens_from_other_logits() -> None:
    shifted = Step("a", A.logprob - 2 * SHIFT, {"a": A.logprob - 2 * SHIFT})
    assert same_or_tie(answer(A, A, A), answer(A, A, shifted)) is None
    with pytest.raises(AssertionError, match="other log-probabilities"):
        same_or_tie(answer(A, A, A), answer(shifted, A, shifted))


def test_the_same_tokens_with_another_text() -> None:
    with pytest.raises(AssertionError):
        same_or_tie(answer(A), answer(A, text="z"))
