"""Which state begins like a prompt: the same as by looking at all of them."""

from __future__ import annotations

import random
from array import array

from janflask.engine.prefix_cache import common_prefix
from janflask.engine.state_index import READING, WORTHWHILE, StateIndex


def tokens(*parts: tuple[int, int]) -> array[int]:
    """So many tokens of each value."""
    return array("i", [value for value, count in parts for _ in range(count)])


def test_the_longest_common_beginning_wins() -> None:
    index = StateIndex()
    index.put("a", tokens((1, 200), (2, 100)))
    index.put("b", tokens((1, 200), (3, 100)))
    index.put("c", tokens((1, 300)))
    prompt = tokens((1, 200), (3, 90), (4, 10))
    assert index.best(prompt, 0) == "b"
    assert index.held(prompt) == 290
    index.drop("b")
    assert index.best(prompt, 0) in {"a", "c"}
    index.drop("b")
    assert index.held(prompt) == 200


def test_of_the_same_use_the_shortest_is_read() -> None:
    index = StateIndex()
    for name, more in (("a", 500), ("b", 50), ("c", 300)):
        index.put(name, tokens((1, 400), (ord(name), more)))
    assert index.best(tokens((1, 400), (7, 5)), 0) == "b"


def test_a_state_is_put_in_the_place_of_an_older_one() -> None:
    index = StateIndex()
    index.put("a", tokens((1, 200)))
    index.put("a", tokens((2, 200)))
    assert index.held(tokens((1, 200))) == 0
    assert index.held(tokens((2, 10))) == 10


def test_what_saves_too_little_is_not_worth_reading() -> None:
    index = StateIndex()
    index.put("a", tokens((1, 2000)))
    assert index.best(tokens((1, WORTHWHILE)), 0) is None, "the last token is always computed"
    assert index.best(tokens((1, 2000)), 2000 - WORTHWHILE) is None
    assert index.best(tokens((1, 2000 // READING), (2, 9)), 0) is None, "it is too long for that"
    assert index.best(tokens((1, 2000 // READING + 1), (2, 9)), 0) == "a"


def test_what_one_holds_nearly_all_of_is_surpassed() -> None:
    index = StateIndex()
    index.put("a", tokens((1, 200), (2, WORTHWHILE - 1)))
    index.put("b", tokens((1, 200), (2, WORTHWHILE)))
    index.put("c", tokens((1, 50)))
    index.put("d", tokens((0, 50)))
    assert sorted(index.surpassed(tokens((1, 300)))) == ["a", "c"]


def test_it_finds_what_looking_at_all_of_them_finds() -> None:
    rng = random.Random(3)
    index, states = StateIndex(), {}
    for step in range(400):
        name = str(rng.randrange(60))
        origin = rng.choice(list(states.values())) if states and rng.random() < 0.8 else array("i")
        text = origin[: rng.randrange(len(origin) + 1)] + array("i", rng.choices([-1, 0, 256, 70000], k=200))
        if rng.random() < 0.2:
            index.drop(name)
            states.pop(name, None)
        else:
            index.put(name, text)
            states[name] = text
        prompt = rng.choice([text, text[: rng.randrange(1, len(text))] + array("i", [5] * 100)])
        here = rng.randrange(100)

        def saves(name: str, prompt: array[int] = prompt, here: int = here) -> int:
            gain = min(common_prefix(states[name], prompt), len(prompt) - 1) - here
            return gain - len(states[name]) // READING if gain >= WORTHWHILE else 0

        best = index.best(prompt, here)
        assert (saves(best) if best else 0) == max([0, *map(saves, states)]), step
        assert index.held(prompt) == max((common_prefix(other, prompt) for other in states.values()), default=0)
        assert set(index.surpassed(prompt)) == {
            name
            for name, other in states.items()
            if common_prefix(other, prompt) and len(other) - common_prefix(other, prompt) < WORTHWHILE
        }
