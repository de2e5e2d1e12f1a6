"""Where a prompt goes: in place, as a copy, or from the start."""

from __future__ import annotations

from array import array

import pytest

from janflask.engine.prefix_cache import Placement, PrefixCache, common_prefix
from janflask.engine.slot import Checkpoint


def tokens(text: str) -> array:
    return array("i", list(text.encode()))


@pytest.mark.parametrize(
    ("a", "b", "length"),
    [("", "", 0), ("", "x", 0), ("abc", "abd", 2), ("abc", "abc", 3), ("abc", "abcdef", 3), ("xbc", "abc", 0)],
)
def test_common_prefix(a, b, length):
    assert common_prefix(tokens(a), tokens(b)) == length
    assert common_prefix(tokens(b), tokens(a)) == length


def fill(cache: PrefixCache, slot: int, text: str, *, busy: bool = False) -> None:
    cache.take(Placement(slot, 0))
    cache.append(slot, tokens(text))
    if not busy:
        cache.release(slot)


def test_an_empty_cache_gives_the_first_slot():
    assert PrefixCache(3).place(tokens("hello")) == Placement(0, 0)


def test_no_slot_while_all_are_busy():
    cache = PrefixCache(1)
    fill(cache, 0, "abc", busy=True)
    assert cache.place(tokens("abc")) is None


def test_a_conversation_goes_on_in_its_own_slot():
    cache = PrefixCache(3)
    fill(cache, 1, "question answer")
    assert cache.place(tokens("question answer next")) == Placement(1, len("question answer"))


def test_the_last_token_is_always_computed():
    cache = PrefixCache(1)
    fill(cache, 0, "abcdef")
    assert cache.place(tokens("abcdef")) == Placement(0, 5)


def test_a_busy_slots_prefix_is_copied():
    cache = PrefixCache(2)
    fill(cache, 0, "system prompt, one", busy=True)
    assert cache.place(tokens("system prompt, two")) == Placement(1, len("system prompt, "), copy_from=0)


def test_a_short_common_beginning_does_not_cost_another_conversation_its_slot():
    cache = PrefixCache(2)
    fill(cache, 0, "sys" + "a long conversation of somebody else")
    assert cache.place(tokens("sys" + "mine")) == Placement(1, 3, copy_from=0)


def test_a_copy_must_save_enough():
    cache = PrefixCache(2, min_copy=10)
    fill(cache, 0, "short|one", busy=True)
    assert cache.place(tokens("short|two")) == Placement(1, 0)


def test_with_nothing_else_free_the_slot_used_longest_ago_is_cut():
    cache = PrefixCache(3)
    for slot, text in enumerate(["first one", "second one", "third one"]):
        fill(cache, slot, text)
    assert cache.place(tokens("new")) == Placement(0, 0)


def test_a_short_chat_does_not_cost_a_long_conversation_its_slot():
    cache = PrefixCache(2)
    fill(cache, 0, "a long conversation " * 50)
    for number in range(20):
        fill(cache, cache.place(tokens(f"{number} is a short question")).slot, f"{number} is a short question")
    assert len(cache.slots[0].tokens) == 1000


def test_a_long_conversation_that_nobody_goes_on_with_gives_way_in_the_end():
    cache = PrefixCache(2)
    fill(cache, 0, "a long conversation " * 50)
    taken = []
    for number in range(60):
        fill(cache, 1, "a short one, but not so short")
        taken.append(cache.place(tokens(f"{number} is another")).slot)
    assert taken[0] == 1
    assert taken[-1] == 0


def test_who_shares_a_long_beginning_does_not_cut_another_where_a_slot_is_free():
    cache = PrefixCache(2)
    system = "the tools and the rules " * 40
    fill(cache, 0, system + "what one agent did " * 20)
    assert cache.place(tokens(system + "another agent")) == Placement(1, len(system), copy_from=0)


def test_a_copy_that_has_no_room_is_not_made_where_little_is_lost():
    cache = PrefixCache(2)
    system = "the tools and the rules " * 40
    fill(cache, 0, system + "what one agent did " * 20)
    other = tokens(system + "another agent")
    most = cache.tokens_held + len(other)
    assert cache.place(other, cells=most).copy_from == 0
    assert cache.place(other, cells=most - 1) == Placement(0, len(system))


def test_who_shares_a_long_beginning_cuts_the_one_that_loses_less():
    cache = PrefixCache(2)
    system = "the tools and the rules " * 40
    fill(cache, 0, system + "what one agent did " * 20)
    fill(cache, 1, "a long conversation " * 100)
    assert cache.place(tokens(system + "another agent")) == Placement(0, len(system))


def test_an_answer_that_comes_back_in_other_words_goes_on_in_its_place():
    cache = PrefixCache(3)
    fill(cache, 0, "the question " * 20 + "the answer as it was said")
    assert cache.place(tokens("the question " * 20 + "the same answer, and the next")) == Placement(0, 264)


def test_memory_that_cannot_trim_is_gone_on_with_where_it_ends_only():
    cache = PrefixCache(2, can_trim=False)
    fill(cache, 0, "abcdef")
    assert cache.place(tokens("abcxyz")) == Placement(1, 0)
    assert cache.place(tokens("abcdefghi")) == Placement(0, 6)
    fill(cache, 0, "abcdef", busy=True)
    assert cache.place(tokens("abcxyz")) == Placement(1, 0)
    assert cache.place(tokens("abcdefghi")) == Placement(1, 6, copy_from=0)


def test_memory_that_cannot_trim_goes_back_to_the_longest_checkpoint_that_is_a_beginning():
    cache = PrefixCache(1, can_trim=False)
    fill(cache, 0, "abcdefgh")
    cache.slots[0].checkpoints = [Checkpoint(2, b"2"), Checkpoint(4, b"4"), Checkpoint(6, b"6")]
    assert cache.place(tokens("abcdexyz")) == Placement(0, 4)
    assert cache.place(tokens("abcdefgh")) == Placement(0, 6)
    assert cache.place(tokens("axyz")) == Placement(0, 0)


def test_checkpoints_go_with_the_tokens_that_they_were_taken_of():
    cache = PrefixCache(2, can_trim=False)
    fill(cache, 0, "abcdefgh")
    cache.slots[0].checkpoints = [Checkpoint(2, b"2"), Checkpoint(4, b"4"), Checkpoint(6, b"6")]
    assert [point.length for point in cache.take(Placement(1, 4, copy_from=0)).checkpoints] == [2, 4]
    assert [point.length for point in cache.take(Placement(0, 2)).checkpoints] == [2]
    cache.release(1, keep=False)
    assert not cache.slots[1].checkpoints


def test_without_the_cache_nothing_is_reused():
    cache = PrefixCache(2, enabled=False)
    fill(cache, 0, "abcdef")
    assert cache.place(tokens("abcdefghi")).reuse == 0


def test_take_books_what_the_slot_holds():
    cache = PrefixCache(2)
    fill(cache, 0, "abcdef", busy=True)
    slot = cache.take(Placement(1, 4, copy_from=0))
    assert (slot.tokens, slot.busy) == (tokens("abcd"), True)
    assert cache.tokens_held == 10
    cache.release(1, keep=False)
    assert cache.tokens_held == 6


def test_oldest_idle_passes_over_busy_empty_and_spared_slots():
    cache = PrefixCache(4)
    fill(cache, 1, "older")
    fill(cache, 2, "newer")
    fill(cache, 3, "busy", busy=True)
    assert cache.oldest_idle() is cache.slots[1]
    assert cache.oldest_idle(spare=cache.slots[1]) is cache.slots[2]
    cache.clear(1)
    cache.clear(2)
    assert cache.oldest_idle() is None
