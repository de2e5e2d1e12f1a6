"""Laying out a conversation so that it is known which words of the prompt came from outside and must stay text.

Only the words that could become a special token matter. Where they would have to be cut, a sign goes into them, which
is one rare character that occurs nowhere else; the layout carries it to wherever the words go, and out of the finished
prompt it is taken again. What remains is the prompt as it was to be, and the places of the cuts. A prompt without such
words is laid out as it is.

A token may also come about with what the layout writes around the words: ``|im_end|`` as a schema's key, where the
template writes ``<`` and ``>`` around keys. That is rare, and a sign in a harmless word may change what a template does
(it sorts keys), so such places are tried in a second rendering, which counts only if other tokens come about in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from janflask.errors import InvalidRequestError
from janflask.inference.words.signs import Signs
from janflask.inference.words.special import Places, SpecialWords
from janflask.inference.words.told import Told

Cuts = tuple[int, ...]
LayOut = Callable[[Told], str]


def laid_out(told: Told, words: SpecialWords, source: str, lay_out: LayOut) -> tuple[str, Cuts]:
    """The prompt that ``lay_out`` makes, and the places in it over which no token may stretch, in order.

    ``source`` is the layout's program. Raises what ``lay_out`` does.
    """
    outside = told.outside()
    places = {text: its for text, again in outside.items() if (its := words.places(text, again=again))}
    if not places:
        return lay_out(told), ()
    signs = Signs((*outside, *told.said(), source))
    prompt, cuts = _tried(told, signs, places, {}, words, lay_out)
    parts = words.around(prompt, (text for text, its in places.items() if its.is_part))
    edges = {text: at for text, its in places.items() if (at := _edges(text, its, is_part=text in parts))}
    if edges:
        other, other_cuts = _tried(told, signs, places, edges, words, lay_out)
        if _tokens(words, other, other_cuts) != _tokens(words, prompt, cuts):
            return other, other_cuts
    return prompt, cuts


def _edges(text: str, places: Places, *, is_part: bool) -> Cuts:
    return (*places.edges, len(text) - len(text.lstrip())) if is_part else places.edges


def _tokens(words: SpecialWords, prompt: str, cuts: Cuts) -> list[str]:
    return [part.text for part in words.segments(prompt, cuts) if part.special]


def _tried(
    told: Told,
    signs: Signs,
    places: Mapping[str, Places],
    edges: Mapping[str, Cuts],
    words: SpecialWords,
    lay_out: LayOut,
) -> tuple[str, Cuts]:
    """The prompt with signs inside of words, and at ``edges``; and where it is to be cut for them."""

    def change(text: str) -> str:
        return signs.put(text, (*places[text].inside, *edges.get(text, ()))) if text in places else text

    try:
        prompt, found = signs.taken(lay_out(told.changed(change)))
    except InvalidRequestError as error:
        error.message = signs.taken(error.message)[0]
        error.args = (error.message,)
        raise
    return prompt, tuple(words.cuts(prompt, found))
